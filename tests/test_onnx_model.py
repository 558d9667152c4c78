"""ONNX of several makers hear windows of any length: as they are, in pieces, one by one, in their own numbers."""

import copy
import pickle
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from onnxes import PERCH_SAMPLES, fixed, perch, perch_by_hand, save

from audiorep.errors import AudiorepError
from audiorep.onnx_model import OnnxModel
from audiorep.types import generator


def noise(rows: int, samples: int) -> torch.Tensor:
    return torch.randn(rows, samples, generator=generator(rows, samples))


@pytest.mark.parametrize("first", ["b", 1])
@pytest.mark.parametrize("channel", [(), (1,)])
@pytest.mark.parametrize("samples", ["t", 1000])
def test_it_says_what_plain_onnxruntime_says(first, channel, samples, tmp_path):
    path, wave = fixed(tmp_path / "m.onnx", samples, first, channel=channel), noise(3, 1000)
    heard = OnnxModel(path).hear(wave, "level", "scores")
    plain = onnxruntime.InferenceSession(str(path))
    rows = [plain.run(["level", "scores"], {"x": row.reshape(1, *channel, 1000)}) for row in wave.numpy()]
    for found, wanted in zip((heard.tokens[:, 0], heard.logits), zip(*rows, strict=True), strict=True):
        np.testing.assert_allclose(found, np.concatenate(wanted), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("element, tolerance", [(TensorProto.FLOAT16, 1e-2), (TensorProto.DOUBLE, 1e-6)])
def test_samples_are_given_in_its_own_numbers(element, tolerance, tmp_path):
    wave = noise(2, 1000)
    heard = OnnxModel(fixed(tmp_path / "m.onnx", element=element)).hear(wave, "level", None)
    assert heard.logits is None and heard.tokens.dtype == torch.float32
    np.testing.assert_allclose(heard.tokens[:, 0, 1], wave.square().mean(1), rtol=tolerance)


def test_an_embedding_of_many_axes_is_one_of_tokens(tmp_path):
    wave, model = noise(2, PERCH_SAMPLES), OnnxModel(perch(tmp_path / "m.onnx"))
    spatial, embedding, label = perch_by_hand(wave.numpy())
    heard = model.hear(wave, "spatial_embedding", "label")
    assert heard.tokens.shape == (2, 6, 4)
    np.testing.assert_allclose(heard.tokens, spatial.reshape(2, 6, 4), rtol=1e-4)
    np.testing.assert_allclose(heard.tokens.mean(1), embedding, rtol=1e-4)
    np.testing.assert_allclose(heard.logits, label, rtol=1e-4)


def test_longer_windows_are_heard_in_pieces_and_shorter_ones_in_zeros(tmp_path):
    model, wave = OnnxModel(perch(tmp_path / "m.onnx")), noise(2, PERCH_SAMPLES + 1200)
    heard = model.hear(wave, "embedding", "label")
    ends = [perch_by_hand(wave.numpy()[:, part]) for part in (slice(PERCH_SAMPLES), slice(1200, None))]
    np.testing.assert_allclose(heard.tokens, np.stack([end[1] for end in ends], 1), rtol=1e-4)
    np.testing.assert_allclose(heard.logits, (ends[0][2] + ends[1][2]) / 2, rtol=1e-4)
    short = np.pad(wave.numpy()[:, :1000], ((0, 0), (1900, 1900)))
    heard = model.hear(wave[:, :1000], "embedding", None)
    np.testing.assert_allclose(heard.tokens[:, 0], perch_by_hand(short)[1], rtol=1e-4)


def test_moments_of_pieces_are_not_averaged(tmp_path):
    model = OnnxModel(perch(tmp_path / "m.onnx"))
    assert model.hear(noise(1, PERCH_SAMPLES), "embedding", "spectrogram", True).logits.shape == (1, 5, 960)
    with pytest.raises(AudiorepError, match="every moment of windows of 4800 samples, and of no others: got 4801"):
        model.hear(noise(1, PERCH_SAMPLES + 1), "embedding", "spectrogram", True)


def test_a_width_that_the_file_leaves_open_is_tried(tmp_path):
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [0, 5, -1])
    path = save(tmp_path / "m.onnx", nodes, {"x": ["b", "t"]}, {"y": ["b", 5, "n"]}, [shape])
    assert OnnxModel(path).width("y", 100) == 20
    assert OnnxModel(fixed(tmp_path / "n.onnx")).width("scores", 100) == 3


def test_a_copy_opens_the_file_for_itself(tmp_path):
    model, wave = OnnxModel(fixed(tmp_path / "m.onnx")), noise(2, 1000)
    said = model.hear(wave, "level", None).tokens
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
        assert again.running is None and torch.equal(again.hear(wave, "level", None).tokens, said)
    assert model.running is not None


def spectrogram(path: Path, shape: tuple[int | str, ...] = ("b", 1, 64, 96), element: int = TensorProto.FLOAT) -> None:
    save(path, [helper.make_node("Identity", ["x"], ["y"])], {"x": shape}, {"y": shape}, element=element)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b"nothing"), "not an ONNX model: "),
        (spectrogram, r"takes x \['b', 1, 64, 96\] .*one input \[batch, samples\] or \[batch, 1, samples\].*front-end"),
        (lambda path: spectrogram(path, ("b", 64, "n")), r"takes x \['b', 64, 'n'\]"),
        (lambda path: spectrogram(path, ("b", "n"), TensorProto.INT64), r"tensor\(int64\).*floating-point"),
        (lambda path: fixed(path, first=4), "takes 4 windows at a time, no more and no less"),
        (
            lambda path: save(
                path, [helper.make_node("Add", ["a", "b"], ["y"])], {"a": ["n", 9], "b": ["n", 9]}, {"y": ["n", 9]}
            ),
            r"takes a \['n', 9\] tensor\(float\), b \['n', 9\]",
        ),
    ],
)
def test_what_takes_no_samples_is_refused_in_one_line(make, words, tmp_path):
    make(tmp_path / "m.onnx")
    with pytest.raises(AudiorepError, match=f"model=.*{words}") as error:
        OnnxModel(tmp_path / "m.onnx")
    assert "\n" not in str(error.value)


def test_a_network_that_fails_says_on_what(tmp_path):
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 7])
    model = OnnxModel(save(tmp_path / "m.onnx", nodes, {"x": ["b", "t"]}, {"y": ["b", 7]}, [shape]))
    with pytest.raises(AudiorepError, match="fails on windows of 100 samples: ") as error:
        model.hear(noise(1, 100), "y", None)
    assert "\n" not in str(error.value)
    with pytest.raises(AudiorepError, match=r"its output 'y' has 2 rows for 1 window"):
        model.hear(noise(1, 14), "y", None)
