"""Finished teachers: folders of ours and ONNX of any maker hear the windows at their own rate, once each."""

from pathlib import Path

import numpy as np
import pytest
import torch
from onnxes import fixed
from toy import RATE_HZ, tone

from audiorep.apply.facts import facts_of
from audiorep.apply.waveform_onnx import write_onnx
from audiorep.compress import Compress
from audiorep.encoders.cnn import SmallCnn
from audiorep.errors import AudiorepError
from audiorep.frontend import Mel
from audiorep.frozen import FrozenTeacher, Told, open_teacher
from audiorep.model import Model, ModelInfo, save_model
from audiorep.types import generator

PARTS = {
    "frontend": {"_target_": "audiorep.frontend.Mel", "sample_rate_hz": RATE_HZ, "bands": 16},
    "compress": {"_target_": "audiorep.compress.Compress"},
    "encoder": {"_target_": "audiorep.encoders.cnn.SmallCnn", "width": 4, "dim": 8},
}
CLASSES = ("down", "flat", "trill", "up")


def classifier(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    return Model(Mel(RATE_HZ, bands=16), Compress(), SmallCnn(4, 8), torch.nn.Linear(8, 4)).eval()


def batch(wave: torch.Tensor, index: list[int], start: list[int] | None = None) -> dict[str, torch.Tensor]:
    return {"wave": wave, "index": torch.tensor(index), "start": torch.tensor(start or [0] * len(index))}


def waves(count: int = 4) -> torch.Tensor:
    return torch.from_numpy(np.stack([tone(i % 4, i) for i in range(count)]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("teacher")
    info = ModelInfo(RATE_HZ, 0.5, "context", CLASSES, {"multilabel": False, "licence": "cc-by-4.0", "split": ""})
    save_model(classifier(), PARTS, info, out)
    write_onnx(classifier(), info.window_samples, out / "model.onnx", facts_of(classifier(), info, "cc-by-4.0"))
    return out


def test_a_folder_says_what_its_model_says(folder):
    teacher = open_teacher(str(folder))
    assert (teacher.network.rate_hz, teacher.network.dim, teacher.network.licence) == (RATE_HZ, 8, "cc-by-4.0")
    assert tuple(teacher.network.classes) == CLASSES and not teacher.network.multilabel
    wave = waves()
    told = teacher(batch(wave, [0, 1, 2, 3]), RATE_HZ)
    with torch.no_grad():
        embedding, logits = classifier()(wave)
    torch.testing.assert_close(told.embedding, embedding)
    torch.testing.assert_close(told.logits, logits)
    assert not told.embedding.requires_grad and not told.logits.requires_grad


def test_our_own_onnx_says_the_same_and_brings_its_facts(folder):
    ours, theirs = open_teacher(str(folder)), open_teacher(str(folder / "model.onnx"))
    for name in ("rate_hz", "dim", "licence", "multilabel"):
        assert getattr(ours.network, name) == getattr(theirs.network, name), name
    assert list(theirs.network.classes) == list(CLASSES)
    for length in (4000, 2600):
        given = batch(waves()[:, :length], [length + i for i in range(4)])
        a, b = ours(given, RATE_HZ), theirs(given, RATE_HZ)
        torch.testing.assert_close(a.embedding, b.embedding, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(a.logits, b.logits, rtol=1e-3, atol=1e-4)


def test_several_labels_are_told_by_the_file(tmp_path):
    facts = {"sample_rate": "8000", "multilabel": "true", "classes": '["a", "b", "c"]', "class_outputs_key": "scores"}
    teacher = open_teacher(str(fixed(tmp_path / "m.onnx", facts=facts | {"embedding_outputs_key": "level"})))
    assert teacher.network.multilabel and list(teacher.network.classes) == ["a", "b", "c"] and teacher.network.dim == 2


@pytest.mark.parametrize("first", ["b", 1])
@pytest.mark.parametrize("length", [600, 1000, 1001, 2500])
def test_a_model_of_fixed_length_hears_pieces_and_says_their_mean(first, length, tmp_path):
    teacher = open_teacher(str(fixed(tmp_path / "m.onnx", first=first)), 8000, "level", "scores")
    wave = torch.randn(3, length, generator=generator(0))
    told = teacher(batch(wave, [0, 1, 2]), 8000)
    count = max(1, -(-length // 1000))
    for row in range(3):
        levels = []
        for i in range(count):
            start = 0 if count == 1 else round(i * (length - 1000) / (count - 1))
            piece = wave[row, start : start + 1000]
            levels.append([float(piece.sum()) / 1000, float(piece.square().sum()) / 1000])
        wanted = np.mean(levels, 0)
        np.testing.assert_allclose(told.embedding[row], wanted, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(told.logits[row], [wanted[0], 2 * wanted[0], -wanted[0]], rtol=1e-4, atol=1e-6)


def test_outputs_are_taken_by_name_and_the_first_one_by_default(tmp_path):
    path = str(fixed(tmp_path / "m.onnx"))
    given = batch(torch.ones(2, 1000), [0, 1])
    only = open_teacher(path, 8000)(given, 8000)
    assert only.logits is None and only.embedding.tolist() == [[1.0, 1.0]] * 2
    scores = open_teacher(path, 8000, logits="scores")(given, 8000)
    assert scores.embedding is None and scores.logits.tolist() == [[1.0, 2.0, -1.0]] * 2
    swapped = open_teacher(path, 8000, embedding="scores")
    assert swapped.network.dim == 3 and swapped(given, 8000).embedding.shape == (2, 3)


class Centroid:
    """The centre of the spectrum in Hz, at the rate that it believes to hear."""

    dim, classes, multilabel, licence = 1, (), False, None

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz, self.heard = rate_hz, 0

    def __call__(self, wave: torch.Tensor) -> Told:
        self.heard += len(wave)
        power = torch.fft.rfft(wave * torch.hann_window(wave.shape[1])).abs().square()
        hz = torch.linspace(0, self.rate_hz / 2, power.shape[1])
        return Told((power * hz).sum(1, keepdim=True) / power.sum(1, keepdim=True), None)


@pytest.mark.parametrize("theirs", [4000, 8000, 22050, 48000])
def test_a_tone_is_heard_at_its_pitch_whatever_rate_the_teacher_was_made_for(theirs):
    time_s = torch.arange(4000) / 8000
    wave = torch.stack([torch.sin(2 * torch.pi * hz * time_s) for hz in (300.0, 1000.0, 1500.0)])
    told = FrozenTeacher(Centroid(theirs), "centroid")(batch(wave, [0, 1, 2]), 8000)
    np.testing.assert_allclose(told.embedding[:, 0], [300, 1000, 1500], rtol=0.02)


def test_windows_heard_before_are_not_asked_again_and_answers_stand_in_order():
    network = Centroid(8000)
    teacher, wave = FrozenTeacher(network, "centroid"), waves(6)
    first = teacher(batch(wave[:4], [0, 1, 2, 3]), 8000)
    assert network.heard == 4
    again = teacher(batch(wave[[5, 2, 0, 4]], [5, 2, 0, 4]), 8000)
    assert network.heard == 6
    assert torch.equal(again.embedding[[2, 1]], first.embedding[[0, 2]])
    elsewhere = teacher(batch(wave[[0, 1]], [3, 3], [40, 80]), 8000)  # other windows of a row
    assert network.heard == 8 and not torch.equal(elsewhere.embedding[0], first.embedding[3])
    twice = teacher(batch(wave[[1, 1]], [9, 9]), 8000)  # one window twice in a batch
    assert torch.equal(twice.embedding[0], twice.embedding[1]) and torch.equal(twice.embedding[0], first.embedding[1])


@pytest.mark.parametrize(
    "make, given, words",
    [
        (lambda path: path, {}, "there is no such folder or file"),
        (lambda path: path.write_bytes(b"nothing"), {"rate_hz": 8000}, "not an ONNX model"),
        (lambda path: path.mkdir(), {}, r"teacher\.model=.*no config\.json there"),
        (fixed, {}, r"does not say its sample rate: give it with teacher\.rate_hz="),
        (fixed, {"rate_hz": 8000, "embedding": "x"}, "has no output 'x'; there are: level, scores"),
        (fixed, {"rate_hz": 8000, "logits": "classes"}, "has no output 'classes'"),
        (lambda path: fixed(path, first=4), {"rate_hz": 8000}, "takes 4 windows at a time"),
    ],
)
def test_teachers_that_are_none_are_refused(make, given, words, tmp_path):
    make(tmp_path / "m.onnx")
    with pytest.raises(AudiorepError, match=words) as error:
        open_teacher(str(tmp_path / "m.onnx"), **given)
    assert "\n" not in str(error.value)
