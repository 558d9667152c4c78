"""The pieces of work whose growth is measured do what they say, and their tables hold every step."""

import csv
import io

import pyarrow.parquet as pq
import pytest

from audiorep.data.audio import probe
from benchmarks import scaling
from benchmarks.scaling import Point, as_csv, detected, embedded, measured, picture, rows, silence, table


@pytest.fixture(scope="module")
def wavs(tmp_path_factory):
    return scaling.recordings(tmp_path_factory.mktemp("wavs"))


def test_rows_come_as_windows_and_batches(wavs):
    manifest = scaling.manifest_of(wavs, 1000)
    assert len(manifest) == 1000 and set(manifest.files) == set(manifest.frame["path"])
    steps, extra_bytes = measured(rows, wavs, 1000)
    assert list(steps) == ["manifest", "windows", "first batch", "7 more batches"]
    assert all(seconds > 0 for seconds in steps.values())
    assert extra_bytes is None or extra_bytes >= 0


def test_a_long_recording_takes_no_room_and_is_embedded_and_searched_for_calls(tmp_path):
    path = silence(tmp_path / "long.wav", 3600)
    assert probe(path).duration_s == 3600 and path.stat().st_blocks * 512 < 2**20
    path = silence(tmp_path / "short.wav", 12)
    assert set(embedded(path, tmp_path / "e")) == {"embed"}
    assert len(pq.read_table(tmp_path / "e" / "embeddings.parquet")) == 3
    assert set(detected(path, tmp_path / "d")) == {"detect"}
    assert (tmp_path / "d" / "detections.parquet").exists()


def test_tables_and_the_picture_hold_what_was_found():
    found = [
        Point("rows", 1000, {"manifest": 0.5, "windows": 0.25}, 2_000_000),
        Point("embed", 3600, {"embed": 2.0}, None),
        Point("detect", 60, {}, None, "failed: MemoryError"),
    ]
    text = table(found, {"machine": "m"})
    assert "| rows | 1,000 | manifest 0.5, windows 0.25 | 2 MB |" in text and "- machine: m" in text
    assert "| embed | 1 h 0 min | embed 2 |  |" in text
    assert "failed: MemoryError" in text
    assert [row["step"] for row in csv.DictReader(io.StringIO(as_csv(found)))] == ["manifest", "windows", "embed", ""]
    assert picture(found).startswith(b"\x89PNG")
