"""The corpus doctor finds every defect that was planted, and nothing in a clean corpus."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiorep.data.formats.table import Table
from audiorep.data.manifest import Manifest, read_corpus
from audiorep.doctor import recording as doctor
from audiorep.doctor.examine import as_json
from audiorep.doctor.examine import examine as check

RATE_HZ = 8000


def call(seed: int, level: float = 0.2) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, level, RATE_HZ).clip(-0.9, 0.9)


def corpus(folder: Path, waves: dict[str, np.ndarray], lines: list[str] | None = None, **keys) -> Manifest:
    for name, wave in waves.items():
        soundfile.write(folder / name, wave, keys.get("rate_hz", RATE_HZ), subtype=keys.get("subtype", "PCM_16"))
    rows = lines or [f"{name},0.1,0.9,{'ab'[i % 2]}" for i, name in enumerate(waves)]
    (folder / "calls.csv").write_text("path,start_s,end_s,label\n" + "\n".join(rows) + "\n")
    return read_corpus(folder / "calls.csv", Table())


def clean(folder: Path, lines: list[str] | None = None) -> Manifest:
    return corpus(folder, {f"{i}.wav": call(i) for i in range(4)}, lines)


def kinds(manifest: Manifest) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.kind, Path(finding.path).name) for finding in check(manifest)]


def test_a_clean_corpus_gives_nothing(tmp_path):
    manifest = clean(tmp_path)
    assert check(manifest) == []
    assert as_json(manifest, [])["rows"] == 4 and as_json(manifest, [])["findings"] == []


def test_every_planted_defect_is_found(tmp_path):
    silent, shifted = np.zeros(RATE_HZ), 0.1 + call(7, 0.05)
    clipped = (call(5) * 20).clip(-1, 1)
    manifest = corpus(
        tmp_path,
        {"0.wav": call(0), "1.wav": call(1), "silent.wav": silent, "clipped.wav": clipped, "shifted.wav": shifted},
    )
    soundfile.write(tmp_path / "nan.wav", np.append(call(3)[:-1], np.nan), RATE_HZ, subtype="FLOAT")
    soundfile.write(tmp_path / "high.wav", call(4), 2 * RATE_HZ)
    for name in ("cut.flac", "cut.wav"):
        soundfile.write(tmp_path / name, call(6), RATE_HZ)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:6000])
    more = [
        "0.wav,0.1,0.9,a", "nan.wav,0,0.5,b", "high.wav,0,0.5,a", "cut.flac,0,0.5,b", "cut.wav,0,0.5,b",
        "1.wav,0.5,3,b", "1.wav,0.5,0.6,hapax",
    ]  # fmt: skip
    with (tmp_path / "calls.csv").open("a") as file:
        file.write("\n".join(more) + "\n")
    manifest = read_corpus(tmp_path / "calls.csv", Table())
    found = check(manifest)
    assert sorted((f.severity, f.kind, Path(f.path).name) for f in found) == [
        ("error", "not decodable", "cut.flac"),
        ("error", "not decodable", "nan.wav"),
        ("error", "unusable", "1.wav"),
        ("error", "unusable", "cut.wav"),
        ("warning", "DC offset", "shifted.wav"),
        ("warning", "clipped", "clipped.wav"),
        ("warning", "duplicate row", "0.wav"),
        ("warning", "mixed sample rates", "high.wav"),
        ("warning", "silent", "silent.wav"),
        ("warning", "single example", "1.wav"),
    ]
    summary = as_json(manifest, found)
    assert (summary["errors"], summary["warnings"], len(summary["findings"])) == (4, 6, 10)
    details = {f.kind: f.detail for f in found}
    assert "NaN" in next(f.detail for f in found if f.path.endswith("nan.wav"))
    assert "'hapax'" in details["single example"] and "16000 Hz" in details["mixed sample rates"]
    assert all(f.detail and "\n" not in f.detail for f in found)


def test_a_dead_recorder_with_an_offset_is_constant(tmp_path):
    waves = {f"{i}.wav": call(i) for i in range(3)} | {"dead.wav": np.full(RATE_HZ, 0.02)}
    assert ("warning", "constant", "dead.wav") in kinds(corpus(tmp_path, waves))


@pytest.mark.parametrize("gain,found", [(1.0, False), (20.0, True)])
def test_a_loud_recording_is_not_yet_a_clipped_one(tmp_path, gain, found):
    waves = {f"{i}.wav": call(i) for i in range(3)} | {"loud.wav": (call(9, 0.25) * gain).clip(-1, 1)}
    assert (("warning", "clipped", "loud.wav") in kinds(corpus(tmp_path, waves))) == found


def test_unlabelled_rows_are_not_single_examples(tmp_path):
    assert kinds(clean(tmp_path, ["0.wav,0,0.5,", "1.wav,0,0.5,a", "2.wav,0,0.5,a"])) == []


def test_rows_of_one_time_but_different_labels_are_no_duplicates(tmp_path):
    lines = ["0.wav,0,0.5,a", "0.wav,0,0.5,b", "1.wav,0,0.5,a", "1.wav,0,0.5,b"]
    found = kinds(clean(tmp_path, lines))
    assert found == [("warning", "two labels for one sound", name) for name in ("0.wav", "1.wav")]
    assert check(clean(tmp_path, lines), multilabel=True) == []


def test_a_long_recording_is_read_in_blocks_with_the_same_findings(tmp_path, monkeypatch):
    wave = np.concatenate([call(i) for i in range(3)])
    wave[-20:] = 1.0
    waves = {"a.wav": 0.3 + wave * 0.1, "b.wav": wave, "c.wav": wave.clip(-0.5, 0.5), "d.wav": wave * 0}
    manifest = corpus(tmp_path, waves)
    whole = check(manifest)
    monkeypatch.setattr(doctor, "BLOCK", 1000)
    assert check(manifest) == whole
    assert {finding.kind for finding in whole} == {"DC offset", "silent", "near duplicate"}


def test_progress_is_told_for_each_recording(tmp_path):
    seen: list[tuple[int, int]] = []
    check(clean(tmp_path), lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
