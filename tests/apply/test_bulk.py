"""The same work for many recordings: resumed, in several processes, with some that die."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audiorep.apply.bulk import process
from audiorep.errors import AudioError, AudiorepError

SCHEMA = pa.schema([("path", pa.string()), ("number", pa.int64())])


def numbers(path: Path):
    """As many rows as the file says, in tables of two; a file that holds no number is broken."""
    text = path.read_text()
    if not text.isdigit():
        raise AudioError(f"{path}: no number")
    rows = [{"path": path.name, "number": i} for i in range(int(text))]
    for i in range(0, max(1, len(rows)), 2):
        yield pa.Table.from_pylist(rows[i : i + 2], SCHEMA)


def files(folder: Path, *texts: str) -> list[Path]:
    folder.mkdir(parents=True)
    paths = [folder / f"{len(texts) - i}.txt" for i in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths


def table(out: Path) -> list[tuple[str, int]]:
    return [(row["path"], row["number"]) for row in pq.read_table(out / "rows.parquet").to_pylist()]


def test_rows_stand_in_the_order_given_and_a_recording_may_have_none(tmp_path):
    paths = files(tmp_path / "in", "0", "3", "x", "0", "1", "0")
    failed = process(paths, numbers, tmp_path / "out", {}, "rows.parquet")
    assert failed == [(paths[2], "no number")]
    assert table(tmp_path / "out") == [("5.txt", 0), ("5.txt", 1), ("5.txt", 2), ("2.txt", 0)]
    lines = [json.loads(line) for line in (tmp_path / "out" / "journal.jsonl").read_text().splitlines()[1:]]
    assert [line.get("rows") for line in lines] == [0, 3, None, 0, 1, 0]
    assert process(paths, numbers, tmp_path / "out", {}, "rows.parquet") == failed


def test_nothing_found_anywhere_is_an_empty_table_and_nothing_readable_is_refused(tmp_path):
    process(files(tmp_path / "in", "0", "0"), numbers, tmp_path / "out", {}, "rows.parquet")
    found = pq.read_table(tmp_path / "out" / "rows.parquet")
    assert len(found) == 0 and found.schema == SCHEMA
    with pytest.raises(AudiorepError, match=r"none of 2 .*2.txt: no number"):
        process(files(tmp_path / "bad", "x", "y"), numbers, tmp_path / "none", {}, "rows.parquet")
