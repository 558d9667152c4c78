"""Known transformations: the parameter says what happens, 0 changes nothing, and the edge is repeated."""

import numpy as np
import pytest
import torch

from audiorep.augment.known import Pitch, Speed, TimeShift, read_at
from audiorep.augment.spec import FrequencyShift
from audiorep.types import generator

ALL = [Pitch(), Speed(), TimeShift()]


def example() -> torch.Tensor:
    return torch.randn(5, 1, 20, 30, generator=generator(0))


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
def test_one_parameter_each_between_minus_one_and_one_and_zero_changes_nothing(transform):
    x = example()
    many = transform.sample(x[:1].expand(2000, -1, -1, -1), generator(1))
    (name,) = many
    assert -1.0 <= many[name].min() < -0.99 and 0.99 < many[name].max() <= 1.0 and many[name].mean().abs() < 0.05
    torch.testing.assert_close(transform.apply_to(x, **{name: torch.zeros(5)}), x)


def test_reading_between_values_equals_numpy():
    x, position = example(), -3.0 + 36.0 * torch.rand(5, 11, generator=generator(2))
    for axis, length in ((2, 20), (3, 30)):
        found = read_at(x, position, axis)
        assert found.shape[axis] == 11
        for i, row in ((0, 3), (4, 17)):
            line = x[i, 0].T[row] if axis == 2 else x[i, 0, row]
            wanted = np.interp(position[i].numpy(), np.arange(length), line.numpy())  # repeats the ends too
            got = found[i, 0].T[row] if axis == 2 else found[i, 0, row]
            torch.testing.assert_close(got.double(), torch.from_numpy(wanted), atol=1e-5, rtol=1e-5)


def test_pitch_by_whole_bands_is_a_frequency_shift_but_for_the_edge():
    x = example()
    up = Pitch(fraction=0.1).apply_to(x, pitch=torch.tensor([1.0, -1.0, 0.5, 0.0, 1.0]))
    shifted = FrequencyShift().apply_to(x, bands=torch.tensor([2, -2, 1, 0, 2]))
    torch.testing.assert_close(up[:, :, 2:-2], shifted[:, :, 2:-2])
    torch.testing.assert_close(up[0, :, :2], x[0, :, :1].expand(-1, 2, -1))


def test_speed_one_octave_up_hears_every_second_frame():
    x = example()[..., :29]
    fast = Speed(octaves=1.0).apply_to(x, speed=torch.ones(5))
    torch.testing.assert_close(fast[..., 7:22], x[..., ::2])
    slow = Speed(octaves=1.0).apply_to(x, speed=-torch.ones(5))
    torch.testing.assert_close(slow[..., ::2], x[..., 7:22])


def test_a_shift_above_zero_is_later():
    x = example()
    late = TimeShift(fraction=0.1).apply_to(x, shift=torch.ones(5))
    torch.testing.assert_close(late[..., 3:], x[..., :-3])
    torch.testing.assert_close(late[..., :3], x[..., :1].expand(-1, -1, -1, 3))
