"""A network of fixed length hears all of a wave, and a short one in the middle of silence."""

import numpy as np
import pytest
import torch

from audiorep.data.pieces import cut


@pytest.mark.parametrize("length", [1, 4, 5])
def test_short_waves_are_centred_in_zeros(length):
    (piece,) = cut(torch.ones(2, length), 10)[0]
    assert piece.shape == (10,) and piece.sum() == length
    first = int(piece.nonzero()[0])
    assert first == (10 - length) // 2 and (piece[first : first + length] == 1).all()


@pytest.mark.parametrize("length, pieces", [(300, 1), (301, 2), (600, 2), (650, 3), (900, 3), (901, 4)])
def test_long_waves_are_cut_into_as_few_pieces_as_cover_them(length, pieces):
    wave = torch.stack([torch.arange(length), -torch.arange(length)]).float()
    found = cut(wave, 300)
    assert found.shape == (2, pieces, 300) and torch.equal(found[0], -found[1])
    starts = found[0, :, 0].tolist()
    assert starts[0] == 0 and found[0, -1, -1] == length - 1
    assert set(found[0].flatten().tolist()) == set(range(length))
    assert pieces < 3 or np.ptp(np.diff(starts)) <= 1
