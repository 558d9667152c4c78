"""Defects planted in a real corpus are found, and nothing else; the quarantine list is honoured by all verbs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from test_cli import refused, run

from audiorep.data.formats.table import Table
from audiorep.data.manifest import read_corpus
from audiorep.data.quarantine import add_to_quarantine, list_of, quarantined_paths
from audiorep.doctor.examine import examine
from audiorep.doctor.finding import REMEDIES
from audiorep.errors import AudiorepError


@pytest.fixture
def copy(corpora, tmp_path):
    """Twelve songs of a finch, with their labels."""
    source = corpora / "finch_bird0"
    frame = pd.read_csv(source / "labels.csv")
    names = sorted(frame["file"].unique())[:12]
    (tmp_path / "audio").mkdir()
    for name in names:
        shutil.copy(source / name, tmp_path / name)
    frame = frame[frame["file"].isin(names)].astype({"label": str}).copy()
    common = frame["label"].value_counts()
    frame = frame[frame["label"].isin(common.index[common > 1])]
    frame.to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path


def found_in(folder):
    manifest = read_corpus(folder / "labels.csv", Table())
    return {(one.kind, Path(one.path).name) for one in examine(manifest)}


def test_the_clean_corpus_gives_nothing(copy):
    assert found_in(copy) == set()


def test_every_planted_defect_is_found_and_nothing_else(copy):
    frame = pd.read_csv(copy / "labels.csv", dtype={"label": str})
    names = sorted(frame["file"].unique())
    wave = {name: soundfile.read(copy / name) for name in names}
    rate_hz = wave[names[0]][1]

    def write(name, samples, rate=rate_hz):
        soundfile.write(copy / name, samples, rate)

    (copy / names[0]).write_bytes((copy / names[0]).read_bytes()[:20_000])
    write(names[1], np.zeros_like(wave[names[1]][0]))
    write(names[2], np.clip(30 * wave[names[2]][0], -1, 1))
    write(names[3], 0.2 + 0.5 * wave[names[3]][0])
    shutil.copy(copy / names[4], copy / "audio" / "again.flac")
    write("audio/louder.flac", 0.3 * wave[names[5]][0][2 * rate_hz :])
    write("audio/stereo.flac", np.stack([wave[names[6]][0][::-1], 0 * wave[names[6]][0]], 1))
    write("audio/slow.flac", wave[names[7]][0][::-1], 16_000)
    rows = [
        {"file": "audio/again.flac", "start_s": 0.0, "end_s": 0.5, "label": "0", "group": "elsewhere"},
        {"file": "audio/louder.flac", "start_s": 0.0, "end_s": 0.5, "label": "0", "group": "5b"},
        {"file": "audio/stereo.flac", "start_s": 0.0, "end_s": 0.5, "label": "0", "group": "s"},
        {"file": "audio/slow.flac", "start_s": 0.0, "end_s": 0.5, "label": "hapax", "group": "t"},
        {"file": names[8], "start_s": 0.0, "end_s": 1e6, "label": "0", "group": "8"},
        {"file": names[9], "start_s": 1.0, "end_s": 1.5, "label": "0", "group": "9"},
        {"file": names[9], "start_s": 1.01, "end_s": 1.5, "label": "1", "group": "9"},
    ]
    frame = pd.concat([frame, pd.DataFrame(rows), frame[frame["file"] == names[10]].head(1)], ignore_index=True)
    frame["split"] = ["test" if i % 2 and name == names[11] else "train" for i, name in enumerate(frame["file"])]
    frame.to_csv(copy / "labels.csv", index=False)
    base = {i: Path(name).name for i, name in enumerate(names)}
    expected = {
        ("not decodable", base[0]), ("silent", base[1]), ("clipped", base[2]), ("DC offset", base[3]),
        ("leak between groups", "again.flac"), ("silent channel", "stereo.flac"), ("mixed channel numbers", "stereo.flac"),
        ("mixed sample rates", "slow.flac"), ("single example", "slow.flac"), ("unusable", base[8]),
        ("two labels for one sound", base[9]), ("duplicate row", base[10]), ("recording in two splits", base[11]),
    }  # fmt: skip
    found = found_in(copy)
    near = {one for one in found if one[0] == "leak between groups" and one[1] in (base[5], "louder.flac")}
    assert len(near) == 1 and {*expected, *near} <= found
    others = found - expected - near
    assert {kind for kind, _ in others} <= {"group in two splits"}, (
        others
    )  # which goes with the recording in two splits


def test_a_label_that_goes_with_a_recorder_is_found(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(24):
        soundfile.write(tmp_path / f"{i}.wav", 0.1 * rng.standard_normal(8000), 8000)
        rows.append((f"{i}.wav", "ab"[i % 2], "XY"[i % 2] if i < 22 else "X", "PQ"[i // 2 % 2]))
    pd.DataFrame(rows, columns=["path", "label", "recorder", "site"]).to_csv(tmp_path / "labels.csv", index=False)
    (only,) = examine(read_corpus(tmp_path / "labels.csv", Table()))
    assert only.kind == "label goes with a recorder" and only.detail.startswith("recorder: Cramer's V 0.9")


def test_what_a_model_cannot_hear(tmp_path):
    t = np.arange(2 * 48000) / 48000
    soundfile.write(tmp_path / "bat.wav", 0.3 * np.sin(2 * np.pi * 20000 * t), 48000)
    soundfile.write(tmp_path / "bird.wav", 0.3 * np.sin(2 * np.pi * 3000 * t), 48000)
    (tmp_path / "labels.csv").write_text("path,label\nbat.wav,a\nbird.wav,a\n")
    manifest = read_corpus(tmp_path / "labels.csv", Table())
    (found,) = examine(manifest, model_rate_hz=16000)
    assert found.kind == "energy above the model" and Path(found.path).name == "bat.wav" and "100 %" in found.detail
    assert examine(manifest) == []


def test_a_quarantined_recording_is_used_by_no_verb(tmp_path, capsys):
    for i in range(4):
        soundfile.write(tmp_path / f"{i}.flac", 0.1 * np.random.default_rng(i).standard_normal(16000), 8000)
    whole = (tmp_path / "2.flac").read_bytes()
    (tmp_path / "2.flac").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(f"{i}.flac,a\n" for i in range(4)))
    out = tmp_path / "check.json"
    assert run("check", f"corpus={tmp_path / 'labels.csv'}", f"out={out}", "quarantine=true") == 1
    told = json.loads(out.read_text())
    assert [one["kind"] for one in told["findings"]] == ["not decodable"] and (
        tmp_path / "check.html"
    ).stat().st_size > 1000
    assert list(quarantined_paths(tmp_path / "labels.csv")) == [str((tmp_path / "2.flac").resolve())]
    manifest = read_corpus(tmp_path / "labels.csv", Table())
    assert len(manifest) == 3 and [Path(q.path).name for q in manifest.quarantined] == ["2.flac"]
    assert "cannot decode" in manifest.quarantined[0].reason and manifest.quarantined[0].reason.startswith(
        "quarantined: "
    )
    assert run("check", f"corpus={tmp_path / 'labels.csv'}", "quarantine=true") == 1  # still named, listed once
    assert len(pd.read_csv(list_of(tmp_path / "labels.csv"))) == 1
    assert "name a .json file" in refused(capsys, "check", f"corpus={tmp_path / 'labels.csv'}", "out=x.csv")


def test_a_list_that_is_none_or_names_everything_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.ones(4000) * 0.1, 8000)
    add_to_quarantine(tmp_path, {str(tmp_path / "a.wav"): "no"})
    assert list_of(tmp_path).name == "quarantine.csv"
    (tmp_path / "m.csv").write_text("path\na.wav\n")
    add_to_quarantine(tmp_path / "m.csv", {str(tmp_path / "a.wav"): "no"})
    with pytest.raises(AudiorepError, match=r"every recording of .* is on its quarantine list"):
        read_corpus(tmp_path / "m.csv", Table())
    list_of(tmp_path / "m.csv").write_text("file\na.wav\n")
    with pytest.raises(AudiorepError, match="a quarantine list has the columns"):
        read_corpus(tmp_path / "m.csv", Table())


def test_every_kind_has_a_remedy():
    source = "".join(path.read_text() for path in (Path(__file__).parents[2] / "audiorep" / "doctor").glob("*.py"))
    assert all(f'"{kind}"' in source for kind in REMEDIES)
