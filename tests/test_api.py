"""The few lines of Python that most people need."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
from test_cli import TINY, run
from toy import RATE_HZ, tone

import audiorep
from audiorep.apply.detect import LEFT_OUT
from audiorep.composing import compose
from audiorep.errors import AudiorepError

KEYS = [key for key in TINY if "projector" not in key and "evaluation.settings.k" not in key]


@pytest.fixture(scope="module")
def classifier(toy_corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("api") / "m"
    assert run("train", f"corpus={toy_corpus}", f"out={out}", "logger=none", "calibration.least=5", *KEYS) == 0
    return out


def test_embed_classify_and_detect_agree_with_the_verbs(classifier, tmp_path):
    model = audiorep.load(classifier)
    wave = np.concatenate([tone(i % 4, i) for i in range(5)])
    soundfile.write(tmp_path / "x.wav", wave, RATE_HZ, subtype="FLOAT")
    assert model.classes == ["down", "flat", "trill", "up"] and model.sample_rate_hz == RATE_HZ

    embedding = model.embed(wave, RATE_HZ)
    assert run("embed", f"model={classifier}", f"recordings={tmp_path / 'x.wav'}", f"out={tmp_path / 'e'}") == 0
    table = pd.read_parquet(tmp_path / "e" / "embeddings.parquet")
    assert np.allclose(embedding, np.stack(table["embedding"].to_list()), atol=1e-5)

    said = model.classify(wave, RATE_HZ)
    assert np.allclose(said[model.classes].sum(axis=1), 1) and said["end_s"].max() == pytest.approx(len(wave) / RATE_HZ)
    assert np.allclose(np.diff(said["start_s"]), model.window_s / 2)

    calls = model.detect(tmp_path / "x.wav", threshold=0.2)
    args = [f"model={classifier}", f"recordings={tmp_path / 'x.wav'}", f"out={tmp_path / 'd'}", "threshold=0.2"]
    assert run("detect", *args) == 0
    found = pd.read_parquet(tmp_path / "d" / "detections.parquet")
    assert len(calls) and calls.drop(columns="path").equals(found.drop(columns="path"))


def test_other_rates_are_resampled_and_other_shapes_refused(classifier):
    model = audiorep.load(classifier)
    slow, fast = (
        np.sin(2 * np.pi * 900 * np.arange(rate) / rate).astype(np.float32) for rate in (RATE_HZ, 2 * RATE_HZ)
    )
    a, b = model.embed(slow, RATE_HZ), model.embed(fast, 2 * RATE_HZ)
    assert a.shape == b.shape and np.linalg.norm(a[0] - b[0]) < 0.05 * np.linalg.norm(a[0])
    with pytest.raises(AudiorepError, match="one channel"):
        model.embed(np.zeros((2, 100), np.float32), RATE_HZ)


def test_a_model_without_thresholds_asks_for_one(classifier, tmp_path):
    (classifier / "thresholds.json").rename(tmp_path / "kept.json")
    soundfile.write(tmp_path / "x.wav", tone(0, 0), RATE_HZ)
    try:
        with pytest.raises(AudiorepError, match=r"threshold=0\.5"):
            audiorep.load(classifier).detect(tmp_path / "x.wav")
    finally:
        (tmp_path / "kept.json").rename(classifier / "thresholds.json")


def test_python_and_the_command_report_and_refuse_the_same(classifier, tmp_path, capsys):
    """A class of noise is none to report, and without any threshold both say the same."""
    model = shutil.copytree(classifier, tmp_path / "model")
    for name in ("config.json", "thresholds.json"):
        (model / name).write_text((model / name).read_text().replace('"flat"', '"Noise"'))
    wave = tmp_path / "x.wav"
    soundfile.write(wave, np.concatenate([tone(i % 4, i) for i in range(8)]), RATE_HZ, subtype="FLOAT")
    given = ["detect", f"model={model}", f"recordings={wave}", "leave_out=[]", "threshold=0.1"]
    assert run(*given, f"out={tmp_path / 'all'}") == 0 and run(*given[:3], *given[4:], f"out={tmp_path / 'd'}") == 0
    every, found = (pd.read_parquet(tmp_path / name / "detections.parquet") for name in ("all", "d"))
    assert "Noise" in set(every["label"]) and "Noise" not in set(found["label"])
    calls = audiorep.load(model).detect(wave, threshold=0.1)
    assert calls.drop(columns="path").equals(found.drop(columns="path"))

    told = json.loads((model / "thresholds.json").read_text())
    for mark in told["classes"].values():
        mark["threshold"] = None
    (model / "thresholds.json").write_text(json.dumps(told))
    capsys.readouterr()
    with pytest.raises(AudiorepError, match="no class has a threshold: threshold=0.5 for instance") as error:
        audiorep.load(model).detect(wave)
    assert run(*given[:3], f"out={tmp_path / 'none'}") == 2
    assert str(error.value) in capsys.readouterr().err


def test_detect_leaves_what_a_summary_must_know(classifier, tmp_path):
    model = shutil.copytree(classifier, tmp_path / "model")
    told = json.loads((model / "thresholds.json").read_text())
    at = {"up": 0.3, "flat": None, "down": None, "trill": 0.3}
    marks = {"precision": 1.0, "recall": 1.0, "positives": 5}
    told["classes"] = {name: {"threshold": mark} | (marks if mark else {}) for name, mark in at.items()}
    (model / "thresholds.json").write_text(json.dumps(told))
    wave, out = tmp_path / "x.wav", tmp_path / "d"
    soundfile.write(wave, np.concatenate([tone(i % 4, i) for i in range(8)]), RATE_HZ, subtype="FLOAT")
    given = [f"model={model}", f"recordings={wave}", "leave_out=[trill]", "summary=true", f"out={out}"]
    assert run("detect", *given) == 0
    facts = json.loads((out / "detect.json").read_text())
    assert facts["without_threshold"] == ["down", "flat"] and list(facts["thresholds"]) == ["up"]
    assert facts["window_s"] == audiorep.load(model).window_s and facts["calibration"] == told
    for folder, words in ((out / "summary", []), (tmp_path / "s", [f"detections={out}", f"out={tmp_path / 's'}"])):
        assert not words or run("summarise", *words) == 0
        table = pd.read_csv(folder / "summary.csv").set_index("label")
        assert table["not_looked_for"].notna().to_dict() == {"up": False, "down": True, "flat": True}
        assert np.isnan(table.loc["flat", "calls"]) and table.loc["up", "precision_low"] == pytest.approx(
            0.478, abs=1e-3
        )


def test_the_classes_that_are_left_out_are_those_of_the_command():
    assert compose("detect", ["model=m", "recordings=r"]).leave_out == list(LEFT_OUT)
