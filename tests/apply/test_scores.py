"""Logits along a recording: stitched from windows as if it were one window; whatever the batch, exact to the sample."""

import numpy as np
import pytest
import soundfile
import torch

from audiorep.apply.scores import Scorer, scorer_of
from audiorep.compress import Compress
from audiorep.encoders.frame_cnn import FrameCnn
from audiorep.errors import AudiorepError
from audiorep.frontend import Mel
from audiorep.model import Model, ModelInfo

RATE = 8000


def framewise(window_s: float = 0.5) -> Scorer:
    torch.manual_seed(0)
    encoder = FrameCnn(width=4, dim=16, dilations=(1, 2))  # sees 9 frames to each side, fewer than the margin
    model = Model(Mel(RATE, hop_s=0.004, win_s=0.008, bands=16), Compress(), encoder, torch.nn.Linear(16, 3), True)
    return scorer_of(model, ModelInfo(RATE, window_s, classes=("a", "b", "c")))


def recording(path, seconds: float, seed: int = 0):
    rng = np.random.default_rng(seed)
    soundfile.write(path, 0.1 * rng.standard_normal(round(seconds * RATE)), RATE, subtype="FLOAT")
    return path


@pytest.mark.parametrize("seconds", [0.1, 0.45, 0.7, 1.0, 3.33])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_frames_are_those_of_one_long_window(tmp_path, seconds, batch):
    path = recording(tmp_path / "x.wav", seconds)
    found = np.concatenate(list(framewise().logits(path, batch)))
    whole = np.concatenate(list(framewise(8.0).logits(path)))
    assert found.shape == whole.shape == (-(-round(seconds * RATE) // 32), 3)
    assert np.abs(found - whole).max() < 1e-5


def test_windows_are_named_one_by_one(tmp_path):
    path = recording(tmp_path / "x.wav", 2.2)

    def run(waves: np.ndarray) -> np.ndarray:
        return np.stack([waves[:, 0], np.abs(waves).sum(1)], 1)[:, None]

    scorer = Scorer(run, RATE, RATE, ("a", "b"), False, None, RATE // 4)
    found = np.concatenate(list(scorer.logits(path, 2)))
    wave, _ = soundfile.read(path, dtype="float32")
    starts = range(0, len(wave) - RATE + RATE // 4, RATE // 4)
    assert found[:, 0].tolist() == pytest.approx([wave[start] for start in starts])
    assert scorer.span(2, 3) == (RATE // 2, RATE // 4 * 3 + RATE)


def test_a_call_of_frames_reaches_half_a_step_to_both_sides():
    scorer = framewise()
    assert scorer.step_samples == 32 and scorer.span(0, 0) == (0, 16) and scorer.span(2, 4) == (48, 144)
    assert scorer.steps(0.01) == 2


def test_what_was_not_opened_from_a_file_cannot_travel():
    with pytest.raises(AudiorepError, match="cannot go to another process"):
        framewise().__reduce__()
