"""Tables of any length become one file of all rows in their order, in groups."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audiorep.apply import parts


@pytest.mark.parametrize("lengths", [[0], [3], [4, 4, 4, 4, 4, 1], [1] * 23, [5, 0, 1, 9, 2, 2], [0, 0, 30, 1]])
def test_tables_are_written_one_after_the_other_in_groups(tmp_path, monkeypatch, lengths):
    monkeypatch.setattr(parts, "GROUP", 8)
    numbers = iter(range(100))
    lists = [[next(numbers) for _ in range(length)] for length in lengths]
    schema = pa.schema([("number", pa.int64()), ("name", pa.string())])
    tables = [pa.table([rows, [f"row {row}" for row in rows]], schema=schema) for rows in lists]
    rows = parts.write_rows(tmp_path / "a.parquet", iter(tables))
    found = pq.read_table(tmp_path / "a.parquet")
    assert rows == sum(lengths) == len(found) and found.schema == schema
    assert found["number"].to_pylist() == list(range(rows))
    assert found["name"].to_pylist() == [f"row {row}" for row in range(rows)]
    with pq.ParquetFile(tmp_path / "a.parquet") as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert all(size >= 8 for size in sizes[:-1])
