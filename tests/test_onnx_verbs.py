"""`model=FILE.onnx` where a run folder may stand: every verb, beside the folder it was exported from or plain numbers."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import soundfile
import torch
from onnxes import perch
from test_cli import refused, run
from toy import RATE_HZ, tone

from audiorep.apply.facts import facts_of
from audiorep.apply.waveform_onnx import write_onnx
from audiorep.composing import compose
from audiorep.compress import Compress
from audiorep.encoders.cnn import SmallCnn
from audiorep.encoders.frame_cnn import FrameCnn
from audiorep.frontend import Mel
from audiorep.label.store import open_store
from audiorep.model import Model, ModelInfo, load_model, save_model
from audiorep.types import generator
from audiorep.verbs.label import open_desk

MEL = {"_target_": "audiorep.frontend.Mel", "sample_rate_hz": RATE_HZ, "bands": 16, "hop_s": 0.004, "win_s": 0.008}
CLASSES = ("down", "flat", "trill", "up")
LITTLE = ["evaluation.settings.resamples=0", "evaluation.protocol=[knn]", "data.workers=0"]


def with_onnx(folder: Path, encoder: torch.nn.Module, part: dict[str, object], framewise: bool) -> Path:
    """A run folder and its `model.onnx`, whose logits are spread enough to name calls."""
    head = torch.nn.Linear(8, 4)
    torch.nn.init.normal_(head.weight, std=3.0)
    frontend = Mel(**{name: value for name, value in MEL.items() if name != "_target_"})
    model = Model(frontend, Compress(), encoder, head, framewise).eval()
    info = ModelInfo(RATE_HZ, 0.5, "context", CLASSES, {"multilabel": False, "split": ""})
    parts = {"frontend": MEL, "compress": {"_target_": "audiorep.compress.Compress"}, "encoder": part}
    save_model(model, parts, info, folder)
    write_onnx(model, max(info.window_samples, model.frontend.shortest), folder / "model.onnx", facts_of(model, info))
    return folder


@pytest.fixture(scope="module")
def namer(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    part = {"_target_": "audiorep.encoders.cnn.SmallCnn", "width": 4, "dim": 8}
    return with_onnx(tmp_path_factory.mktemp("namer"), SmallCnn(4, 8), part, False)


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    part = {"_target_": "audiorep.encoders.frame_cnn.FrameCnn", "width": 4, "dim": 8, "dilations": [1, 2]}
    return with_onnx(tmp_path_factory.mktemp("detector"), FrameCnn(4, 8, dilations=(1, 2)), part, True)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> Path:
    """A model of another maker that says nothing of itself, and the files beside it that do."""
    path = perch(tmp_path_factory.mktemp("theirs") / "perch.onnx")
    path.with_name("perch.onnx.json").write_text(json.dumps({"sample_rate": RATE_HZ, "license": "apache-2.0"}))
    path.with_name("perch.labels.txt").write_text("quiet\nmiddle\nloud\n")
    return path


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("heard") / "a.wav"
    soundfile.write(path, np.concatenate([tone(i % 4, i) for i in range(7)]), RATE_HZ, subtype="FLOAT")
    return path


def test_moments_that_it_names_are_those_of_its_torch_model(detector):
    model, info, _ = load_model(detector)
    again, told, _ = load_model(detector / "model.onnx")
    assert again.framewise and again.step_samples == model.step_samples == 32
    assert (told.window_s, told.classes) == (info.window_s, info.classes)
    for samples in (4000, 2900):
        wave = 0.1 * torch.randn(3, samples, generator=generator(samples))
        with torch.no_grad():
            a, b = model(wave), again(wave)
        assert a[1].shape == b[1].shape and b[1].ndim == 3
        assert all(float((y - x).norm() / x.norm()) < 1e-4 for x, y in zip(a, b, strict=True))
    assert again.encoder.frames_per_token is None  # its tokens are no moments: no detector can be trained on them


def test_evaluate_scores_it_as_the_folder_it_came_from(namer, toy_corpus, tmp_path):
    found = []
    for name, model in (("folder", namer), ("onnx", namer / "model.onnx")):
        assert run("evaluate", f"model={model}", f"corpus={toy_corpus}", f"out={tmp_path / name}", *LITTLE) == 0
        found.append(json.loads((tmp_path / name / "metrics.json").read_text()))
    own = [name for name in found[0] if not name.startswith(("mel/", "random/"))]  # their mel differs: hop and bands
    assert {"knn/accuracy", "knn/cmap"} <= set(own) and "mel/knn/accuracy" in found[1]
    assert {name: found[1][name] for name in own} == pytest.approx({name: found[0][name] for name in own}, abs=0.03)
    assert not any(name.startswith("random/") for name in found[1])
    assert "there is no random encoder beside it" in (tmp_path / "onnx" / "report.html").read_text()


def test_embed_writes_what_plain_onnxruntime_says(theirs, recording, tmp_path):
    out = tmp_path / "out"
    assert run("embed", f"model={theirs}", f"recordings={recording}", f"out={out}", "hop_s=0.3") == 0
    table = pd.read_parquet(out / "embeddings.parquet")
    wave, _ = soundfile.read(recording, dtype="float32")
    starts = np.rint(table["start_s"].to_numpy() * RATE_HZ).astype(int)
    windows = np.stack([np.pad(wave, (0, 4800))[start : start + 4800] for start in starts])
    (wanted,) = onnxruntime.InferenceSession(str(theirs)).run(["embedding"], {"inputs": windows})
    assert len(table) == 11 and starts[1] == 2400
    np.testing.assert_allclose(np.stack(table["embedding"]), wanted, rtol=1e-4)


def test_embed_does_not_go_on_with_another_output(theirs, recording, tmp_path, capsys):
    model = tmp_path / "perch.onnx"
    model.write_bytes(theirs.read_bytes())
    given = ("embed", f"model={model}", f"recordings={recording}", f"out={tmp_path / 'out'}")
    assert "does not say its sample rate" in refused(capsys, *given)
    assert run(*given, f"sample_rate_hz={RATE_HZ}") == 0
    told = {"embedding_outputs_key": "label"}
    model.with_name("perch.onnx.json").write_text(json.dumps(told))
    assert "was begun with model=" in refused(capsys, *given, f"sample_rate_hz={RATE_HZ}", "resume=true")


@pytest.mark.parametrize("kind", ["namer", "detector"])
def test_detect_finds_the_calls_that_the_folder_finds(kind, recording, tmp_path, request):
    folder = request.getfixturevalue(kind)
    tables = []
    for name, model in (("folder", folder), ("onnx", folder / "model.onnx")):
        given = [f"model={model}", f"recordings={recording}", f"out={tmp_path / name}", "threshold=0.3"]
        assert run("detect", *given) == 0
        tables.append(pd.read_parquet(tmp_path / name / "detections.parquet"))
    assert len(tables[0]) > 1
    pd.testing.assert_frame_equal(*tables, rtol=1e-3, atol=1e-3)


def test_detect_takes_the_thresholds_beside_a_bundles_onnx(namer, recording, tmp_path, capsys):
    given = ("detect", f"model={namer / 'model.onnx'}", f"recordings={recording}")
    assert "say from which score on" in refused(capsys, *given, f"out={tmp_path / 'none'}")
    classes = {name: {"threshold": 0.3} for name in CLASSES}
    told = {"temperature": 1.0, "wanted_precision": 0.9, "multilabel": False, "classes": classes}
    (namer / "thresholds.json").write_text(json.dumps(told))
    try:
        for name, more in (("file", []), ("said", ["threshold=0.3"])):
            assert run(*given, f"out={tmp_path / name}", *more) == 0
    finally:
        (namer / "thresholds.json").unlink()
    a, b = (pd.read_parquet(tmp_path / name / "detections.parquet") for name in ("file", "said"))
    pd.testing.assert_frame_equal(a, b)
    assert len(a)


def test_detect_names_what_a_model_of_another_maker_names(theirs, recording, tmp_path, capsys):
    given = ("detect", f"recordings={recording}", "threshold=0.5")
    assert run(*given, f"model={theirs}", f"out={tmp_path / 'out'}") == 0
    assert set(pd.read_parquet(tmp_path / "out" / "detections.parquet")["label"]) <= {"quiet", "middle", "loud"}
    unnamed = perch(tmp_path / "x.onnx", {"sample_rate": str(RATE_HZ)})
    line = refused(capsys, *given, f"model={unnamed}", f"out={tmp_path / 'x'}")
    assert "no classifier" in line and "x.onnx.json which output answers" in line


def test_active_and_label_work_on_its_embeddings(theirs, toy_corpus, tmp_path):
    kept, out = tmp_path / "x.npz", tmp_path / "active"
    given = [f"model={theirs}", f"corpus={toy_corpus}", "data.workers=0", "window.outside=zero"]
    keys = ["seeds=1", "batch=4", "budget=12", "beside=[]", "selector=typiclust", f"embeddings={kept}"]
    assert run("active", *given, *keys, f"out={out}") == 0
    assert sorted(set(pd.read_csv(out / "curves.csv")["labels"])) == [4, 8, 12]
    with np.load(kept) as file:
        found = file["embedding"]
    for row in (0, 7, 95):  # half a second in the middle of zeros
        wave, _ = soundfile.read(toy_corpus.parent / f"{row:03d}.wav", dtype="float32")
        window = np.pad(wave, 400)[None]
        (wanted,) = onnxruntime.InferenceSession(str(theirs)).run(["embedding"], {"inputs": window})
        np.testing.assert_allclose(found[row], wanted[0], rtol=1e-3)
    desk, _ = open_desk(compose("label", [*given, f"out={tmp_path / 'label'}"]), tmp_path / "label")
    with np.load(tmp_path / "label" / "embeddings.npz") as file:
        np.testing.assert_array_equal(file["embedding"], found)
    assert desk.told.x.shape == (96, 4) and bool(desk.told.usable.all())
    desk.store.close()
    assert open_store(tmp_path / "label" / "labels.sqlite").name


def test_it_is_kept_frozen_under_a_classifier_and_not_trained(theirs, toy_corpus, recording, tmp_path, capsys):
    keys = [
        "trainer.max_steps=2",
        "data.batch_size=8",
        "data.workers=0",
        "evaluation.settings.resamples=0",
        "logger=none",
    ]
    given = ("train", f"init={theirs}", f"corpus={toy_corpus}", *keys)
    line = refused(capsys, *given, f"out={tmp_path / 'full'}")
    assert "none that can be trained" in line and "transfer=frozen views=wave" in line and "teacher.model=" in line
    out = tmp_path / "run"
    assert run(*given, "transfer=frozen", "views=wave", f"out={out}") == 0
    model, info, _ = load_model(out)
    assert info.training["licence"] == "apache-2.0" and info.training["encoder"] == "perch"
    assert model.classifier is not None and model.classifier.out_features == 4 and tuple(info.classes) == CLASSES
    assert run("embed", f"model={out}", f"recordings={recording}", f"out={tmp_path / 'e'}") == 0
    for source, words in ((theirs, "is finished, and there is nothing to export"), (out, "cannot become ONNX")):
        assert words in refused(capsys, "export", f"model={source}", f"out={tmp_path / 'bundle'}")


@pytest.mark.slow
def test_labels_spread_along_its_embeddings(namer, toy_corpus, tmp_path):
    given = [f"init={namer / 'model.onnx'}", f"corpus={toy_corpus}", f"out={tmp_path / 'out'}"]
    assert run("run", "label_propagation", *given, "train=evaluation.settings.resamples=0") == 0
    model, info, _ = load_model(tmp_path / "out" / "classifier")
    assert tuple(info.classes) == CLASSES and model.encoder.dim == 8


def test_a_spectrogram_is_refused_by_every_verb_alike(toy_corpus, recording, tmp_path, capsys):
    from test_onnx_model import spectrogram

    path = tmp_path / "s.onnx"
    spectrogram(path)
    for verb, what in (("evaluate", f"corpus={toy_corpus}"), ("active", f"corpus={toy_corpus}"),
                       ("embed", f"recordings={recording}"), ("detect", f"recordings={recording}")):  # fmt: skip
        line = refused(capsys, verb, f"model={path}", what, f"out={tmp_path / verb}")
        assert "one input [batch, samples] or [batch, 1, samples]" in line
    assert "no such file" in refused(
        capsys, "embed", "model=none.onnx", f"recordings={recording}", f"out={tmp_path / 'n'}"
    )
