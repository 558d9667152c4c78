"""Augmentations that take cells away: which cells, how many, and what stays."""

import pytest
import torch

from audiorep.augment.pretext import UpperBand
from audiorep.augment.spec import Cutout
from audiorep.errors import AudiorepError
from audiorep.types import generator


def test_a_box_covers_what_was_drawn():
    x = torch.ones(2, 1, 6, 8)
    params = {"start_f": [[0], [4]], "width_f": [[2], [2]], "start_t": [[3], [0]], "width_t": [[1], [8]]}
    out = Cutout(value=-1.0).apply_to(x, **{name: torch.tensor(value) for name, value in params.items()})
    wanted = torch.ones(2, 1, 6, 8)
    wanted[0, 0, 0:2, 3:4] = -1.0
    wanted[1, 0, 4:6, 0:8] = -1.0
    assert torch.equal(out, wanted)


def test_boxes_have_sides_within_their_bounds_and_lie_anywhere():
    x = torch.ones(4000, 1, 20, 50)
    hidden = Cutout(frequency=(0.1, 0.3), time=(0.2, 0.4))(x, generator(0)) == 0.0
    bands, frames = hidden[:, 0].any(2), hidden[:, 0].any(1)
    assert {2, 6} <= set(bands.sum(1).tolist()) <= set(range(2, 7))
    assert {10, 20} <= set(frames.sum(1).tolist()) <= set(range(10, 21))
    assert (hidden.sum((1, 2, 3)) == bands.sum(1) * frames.sum(1)).all()  # boxes, not other shapes
    assert hidden[:, 0].any(0).all()  # corners too


def test_a_box_has_a_cell_however_small_its_sides_are():
    assert (Cutout((0.0, 0.0), (0.0, 0.0))(torch.ones(5, 1, 8, 8), generator(0)) == 0.0).sum() == 5


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"frequency": (0.3, 0.1)}, r"frequency=\[0.3, 0.1\]"),
        ({"time": (0.1, 1.5)}, r"time=\[0.1, 1.5\]"),
        ({"count": 0}, "count=0"),
    ],
)
def test_boxes_that_cannot_be_are_refused(keys, said):
    with pytest.raises(AudiorepError, match=said):
        Cutout(**keys)


@pytest.mark.parametrize(("bands", "hidden"), [(64, 16), (10, 2), (2, 1), (3, 1)])
def test_the_upper_band_is_hidden_in_every_sample_and_the_rest_stays(bands, hidden):
    x = torch.randn(3, 1, bands, 5, generator=generator(0))
    before, augment = x.clone(), UpperBand(0.25, value=7.0)
    out = augment(x, generator(1))
    assert torch.equal(x, before) and torch.equal(out, augment(x, generator(2)))
    assert (out[:, :, bands - hidden :] == 7.0).all()
    assert torch.equal(out[:, :, : bands - hidden], x[:, :, : bands - hidden])
    alone = augment.apply_to(x[1:2], **{name: value[1:2] for name, value in augment.sample(x, generator(1)).items()})
    assert torch.equal(alone[0], out[1])


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_band_of_nothing_or_everything_is_refused(fraction):
    with pytest.raises(AudiorepError, match=f"fraction={fraction}"):
        UpperBand(fraction)
