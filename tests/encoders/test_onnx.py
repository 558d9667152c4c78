"""An ONNX as a model like any other: what it says, what it refuses, and how a classifier on it is kept."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from onnxes import PERCH_SAMPLES, fixed, perch, perch_by_hand
from toy import RATE_HZ, tone

from audiorep.encoders.onnx import OnnxEncoder
from audiorep.errors import AudiorepError
from audiorep.model import ModelInfo, load_model, save_model
from audiorep.types import generator

PERCH = {"sample_rate": "8000", "classes": '["a", "b", "c"]', "license": "apache-2.0", "multilabel": "true"}


@pytest.fixture
def path(tmp_path) -> Path:
    return perch(tmp_path / "perch.onnx", PERCH)


def wave(samples: int = PERCH_SAMPLES, rows: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.stack([tone(i % 4, i, samples / RATE_HZ) for i in range(rows)]))


def test_it_is_loaded_as_a_folder_is(path):
    model, info, parts = load_model(path)
    assert (info.sample_rate_hz, info.window_s, info.outside) == (8000, 0.6, "context")
    assert info.classes == ("a", "b", "c") and info.training["multilabel"] and info.training["licence"] == "apache-2.0"
    assert model.encoder.dim == 4 and not list(model.parameters()) and not model.framewise
    assert parts["encoder"]["sha256"] and parts["encoder"]["path"] == str(path)
    _, embedding, label = perch_by_hand(wave().numpy())
    said = model(wave())
    np.testing.assert_allclose(said[0], embedding, rtol=1e-4)
    np.testing.assert_allclose(said[1], label, rtol=1e-4)
    assert model.encoder(wave()[:, None, None]).tokens.shape == (3, 1, 4)


def test_without_names_of_its_classes_it_embeds_and_answers_nothing(tmp_path):
    model, info, _ = load_model(perch(tmp_path / "m.onnx", {"sample_rate": "8000"}))
    assert info.classes == () and len(model(wave())) == 1


def test_its_answers_can_be_left(path):
    model, _, _ = load_model(path)
    model.leave_answers()
    assert len(model(wave())) == 1


def test_the_file_beside_it_chooses_another_output(path):
    path.with_name("perch.onnx.json").write_text(json.dumps({"embedding_outputs_key": "spatial_embedding"}))
    model, _, _ = load_model(path)
    spatial, embedding, _ = perch_by_hand(wave().numpy())
    features = model.encoder(wave()[:, None, None])
    np.testing.assert_allclose(features.tokens, spatial.reshape(3, 6, 4), rtol=1e-4)
    np.testing.assert_allclose(features.pooled, embedding, rtol=1e-4)


def test_one_of_any_length_says_how_long_a_window_is(tmp_path):
    path = fixed(tmp_path / "m.onnx", "t", facts={"sample_rate": "8000"})
    with pytest.raises(AudiorepError, match=r'm\.onnx\.json: \{"sample_duration"'):
        load_model(path)
    path.with_name("m.onnx.json").write_text('{"sample_duration": 0.25}')
    assert load_model(path)[1].window_samples == 2000


def test_a_classifier_on_it_is_kept_with_the_place_of_the_network(path, tmp_path):
    model, info, parts = load_model(path, "init")
    model.leave_answers()
    torch.manual_seed(0)
    model.classifier = torch.nn.Linear(4, 2)
    save_model(model, parts, ModelInfo(info.sample_rate_hz, info.window_s, classes=("x", "y")), tmp_path / "run")
    again, told, _ = load_model(tmp_path / "run")
    assert told.classes == ("x", "y") and again(wave())[1].shape == (3, 2)
    for a, b in zip(model(wave()), again(wave()), strict=True):
        assert torch.equal(a, b)
    path.with_name("perch.onnx.json").write_text('{"embedding_outputs_key": "spatial_embedding"}')
    assert torch.equal(load_model(tmp_path / "run")[0](wave())[0], model(wave())[0])  # what it was made with stays
    for spoil in (lambda: path.write_bytes(b"another"), path.unlink):
        spoil()
        with pytest.raises(
            AudiorepError, match=r"config\.json: .*perch\.onnx: the ONNX .* is not there: put it"
        ) as error:
            load_model(tmp_path / "run")
        assert "\n" not in str(error.value)


def test_it_is_not_trained_and_takes_no_spectrograms(path):
    encoder = OnnxEncoder(str(path), "embedding", 4)
    spec = torch.zeros(1, 1, 1, PERCH_SAMPLES)
    for made, given in ((encoder.train(), spec), (copy.deepcopy(encoder).eval(), spec.clone().requires_grad_())):
        with pytest.raises(AudiorepError, match=r"perch\.onnx cannot be trained.*transfer=frozen.*teacher\.model="):
            made(given)
        with torch.no_grad():
            assert not made(given).pooled.requires_grad
    with pytest.raises(AudiorepError, match="OnnxEncoder takes samples, not a spectrogram of 64 bands"):
        encoder.eval()(torch.zeros(1, 1, 64, 96))
    with pytest.raises(AudiorepError, match="no patches to keep or mask"):
        encoder(spec, mask=torch.zeros(1, 3, dtype=torch.bool))


def test_a_copy_says_the_same(path):
    encoder = OnnxEncoder(str(path), "embedding", 4).eval()
    spec = torch.randn(1, 1, 1, PERCH_SAMPLES, generator=generator(0))
    said = encoder(spec).pooled
    for again in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):  # noqa: S301
        assert torch.equal(again(spec).pooled, said)
