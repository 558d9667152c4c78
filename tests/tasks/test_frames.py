"""A detector of toy songs: learned from annotated recordings, judged call by call, and used on whole recordings."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from test_cli import refused, run

from audiorep import build
from audiorep.composing import compose
from audiorep.tasks.frames import Frames

RATE = 8000
SMALL = ["encoder.width=6", "encoder.dim=32", "encoder.dilations=[1,2]", "frontend.bands=24", "logger=none",
         "trainer.max_steps=40", "data.batch_size=16", "window.length_s=0.6", "trainer.warmup=0.0", "optimizer.lr=0.01",
         "trainer.precision=32-true", "evaluation.settings.resamples=20", "calibration.least=5"]  # fmt: skip


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve recordings of 3 s: calls "up" and "low" of 80 to 150 ms in noise, with known onsets; two "up" touch."""
    folder = tmp_path_factory.mktemp("songs")
    lines = ["path,start_s,end_s,label,group"]
    for i in range(12):
        rng = np.random.default_rng([5, i])
        wave = 0.01 * rng.standard_normal(3 * RATE)
        at = 0.2 + 0.1 * rng.random()
        while at < 2.6:
            label, length = ("up", "low")[int(rng.integers(2))], rng.uniform(0.08, 0.15)
            t = np.arange(round(length * RATE)) / RATE
            base, slope = (1500.0, 8000.0) if label == "up" else (600.0, 0.0)
            first = round(at * RATE)
            wave[first : first + len(t)] += 0.2 * np.sin(2 * np.pi * (base * t + slope * t**2 / 2))
            lines.append(f"{i:02d}.wav,{first / RATE},{(first + len(t)) / RATE},{label},g{i}")
            at += length + rng.uniform(0.06, 0.3)
        soundfile.write(folder / f"{i:02d}.wav", wave, RATE, subtype="PCM_16")
    (folder / "songs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "songs.csv"


@pytest.fixture(scope="module")
def trained(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "m"
    assert run("train", f"corpus={songs}", "objective=frames", f"out={out}", *SMALL) == 0
    return out


def test_calls_of_unheard_recordings_are_found_with_their_onsets(trained):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["test/event_f1"] > 0.85 and metrics["test/recordings"] >= 2
    thresholds = json.loads((trained / "thresholds.json").read_text())
    assert set(thresholds["classes"]) == {"up", "low"} and thresholds["events"]["exclusive"] is True


def test_detect_finds_what_the_training_told(trained, songs, tmp_path):
    found = pd.read_csv(trained / "detections.csv")
    unheard = Path(found["path"].iloc[0])
    out = tmp_path / "out"
    assert run("detect", f"model={trained}", f"recordings={unheard}", f"out={out}", "to=[raven,audacity]") == 0
    table = pd.read_parquet(out / "detections.parquet")
    told = found[found["path"] == str(unheard)].reset_index(drop=True)
    assert len(told) and table["label"].tolist() == told["label"].tolist()
    assert np.allclose(table[["start_s", "end_s", "score"]], told[["start_s", "end_s", "score"]], atol=1e-5)
    lines = next((out / "raven").iterdir()).read_text().splitlines()
    assert (
        len(lines) == len(table) + 1
        and "Begin Time (s)" in lines[0]
        and next((out / "audacity").iterdir()).stat().st_size
    )


def test_detect_goes_on_and_leaves_out_what_is_broken(trained, songs, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("00.wav", "01.wav"):
        (folder / name).write_bytes((songs.parent / name).read_bytes())
    (folder / "broken.wav").write_bytes(b"RIFF none of it")
    given = ("detect", f"model={trained}", f"recordings={folder}", f"out={tmp_path / 'out'}")
    assert run(*given) == 3 and "broken.wav" in (tmp_path / "out" / "quarantine.csv").read_text()
    first = (tmp_path / "out" / "detections.parquet").read_bytes()
    assert run(*given, "resume=true") == 3 and (tmp_path / "out" / "detections.parquet").read_bytes() == first
    assert "threshold" in refused(capsys, *given, "resume=true", "threshold=0.9")


@pytest.mark.slow  # tests/apply/test_bundle.py compares their outputs
def test_a_bundle_detects_as_its_run_does(trained, songs, tmp_path):
    assert run("export", f"model={trained}", f"out={tmp_path / 'bundle'}") == 0
    tables = []
    for name, model in (("a", trained), ("b", tmp_path / "bundle")):
        assert run("detect", f"model={model}", f"recordings={songs.parent / '03.wav'}", f"out={tmp_path / name}") == 0
        tables.append(pd.read_parquet(tmp_path / name / "detections.parquet"))
    pd.testing.assert_frame_equal(*tables)


def test_recordings_of_background_take_part_and_unlabelled_ones_do_not(songs, tmp_path):
    frame = pd.read_csv(songs)
    frame["path"] = [str(songs.parent / name) for name in frame["path"]]
    quiet = pd.DataFrame(
        {"path": [frame["path"].iloc[0]], "start_s": 0.0, "end_s": 3.0, "label": "noise", "group": "g0"}
    )
    frame = frame[frame["path"] != quiet["path"].iloc[0]]
    frame.loc[frame["path"] == frame["path"].iloc[0], "label"] = ""
    frame.loc[frame.index[-1], "label"] = "up|low|-up"
    pd.concat([quiet, frame]).to_csv(tmp_path / "c.csv", index=False)
    cfg = compose(
        "train", [f"corpus={tmp_path / 'c.csv'}", "objective=frames", "labels.multilabel=true", f"out={tmp_path}"]
    )
    task = Frames()
    corpus = task.corpus(cfg, build.open_corpus(cfg))
    assert len(corpus.manifest) == 11 and corpus.classes == ["low", "up"]
    assert corpus.truth[corpus.manifest.frame["path"] == quiet["path"].iloc[0]].tolist() == [[0.0, 0.0]]
    assert any("1 recording(s) without any label" in note for note in corpus.notes)
    last = task.calls[task.calls["start_s"] == frame["start_s"].iloc[-1]]
    assert sorted(last["label"]) == ["low", "up"] and not set(task.calls["label"]) - {"low", "up"}


def test_what_cannot_work_is_refused_before_training(songs, tmp_path, capsys):
    given = ("train", f"corpus={songs}", "objective=frames", f"out={tmp_path / 'out'}", *SMALL)
    assert "label_fraction" in refused(capsys, *given, "labels_per_class=5")
    assert "resampler" in refused(capsys, *given, "resampler=random_over")
    plain = [key for key in given if not str(key).startswith("encoder.")]
    assert "does not keep them" in refused(capsys, *plain, "encoder=resnet18")
    frame = pd.read_csv(songs)
    frame["side"] = ["train", "test"] * (len(frame) // 2) + ["train"] * (len(frame) % 2)
    frame["path"] = [str(songs.parent / name) for name in frame["path"]]
    frame.to_csv(tmp_path / "leak.csv", index=False)
    said = refused(capsys, *given, f"corpus={tmp_path / 'leak.csv'}", "split.column=side")
    assert "both sides of the split" in said
    assert "audiorep train" in refused(
        capsys, "pretrain", f"corpus={songs}", "objective=frames", f"out={tmp_path / 'out'}"
    )
