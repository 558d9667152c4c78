"""Embeddings ready to be searched: rows of length 1 as float16 in an Arrow file, of which a piece at a time is mapped."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Float16, Int

BATCH = 16384
"""Rows in a batch of the file, which is mapped as a whole: 16 MB at 512 numbers a row."""

COLUMNS = {"path": pa.string(), "start_s": pa.float64(), "end_s": pa.float64()}
Chunk = tuple[int, Float16[np.ndarray, "n d"]]
"""The number of the first row, and the rows."""


@dataclass(frozen=True)
class Rows:
    """Embeddings of length 1 and where each was heard, in the order of ``embeddings.parquet``.

    Every batch is mapped by itself and let go, so that what a process holds does not grow with the number of rows.

    path: of the Arrow IPC file.
    count, width: rows, and numbers a row.
    """

    path: Path
    count: int
    width: int

    def __len__(self) -> int:
        return self.count

    def chunks(self, size: int = BATCH) -> Iterator[Chunk]:
        """All rows in order, at most `size` at a time."""
        for first, batch in self._batches(range(-(-self.count // BATCH))):
            x = vectors_of(batch)
            for at in range(0, len(x), size):
                yield first + at, x[at : at + size]

    def take(self, rows: Int[np.ndarray, " m"]) -> Float16[np.ndarray, "m d"]:
        """Some rows, in the order asked for."""
        out = np.empty((len(rows), self.width), np.float16)
        for first, batch in self._batches(np.unique(rows // BATCH).tolist()):
            mine = np.flatnonzero(rows // BATCH == first // BATCH)
            out[mine] = vectors_of(batch)[rows[mine] - first]
        return out

    def places(self, rows: Int[np.ndarray, " m"]) -> pd.DataFrame:
        """path, start_s, end_s of some rows, in the order asked for."""
        found = [pd.DataFrame({name: pd.Series(dtype=kind.to_pandas_dtype()) for name, kind in COLUMNS.items()})]
        where = [np.empty(0, np.int64)]
        for first, batch in self._batches(np.unique(rows // BATCH).tolist()):
            where.append(np.flatnonzero(rows // BATCH == first // BATCH))
            table = batch.select(list(COLUMNS)).take(pa.array(rows[where[-1]] - first))
            found.append(table.to_pandas())
        together = pd.concat(found[1:] or found, ignore_index=True)
        return together.iloc[np.argsort(np.concatenate(where), kind="stable")].reset_index(drop=True)

    def of(self, paths: Collection[str]) -> pd.DataFrame:
        """row, path, start_s, end_s of everything in these recordings, in order."""
        wanted, found = pa.array(sorted(paths), pa.string()), []
        for first, batch in self._batches(range(-(-self.count // BATCH))):
            mine = np.flatnonzero(pc.is_in(batch["path"], wanted).to_numpy(zero_copy_only=False))
            if len(mine):
                found.append(batch.select(list(COLUMNS)).take(pa.array(mine)).to_pandas().assign(row=mine + first))
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=[*COLUMNS, "row"])

    def clocks(self) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """A number for each row's recording, and the second in it at which the row begins."""
        numbers: dict[str, int] = {}
        recording, start_s = np.empty(self.count, np.int64), np.empty(self.count)
        for first, batch in self._batches(range(-(-self.count // BATCH))):
            coded = batch["path"].dictionary_encode()
            own = np.array([numbers.setdefault(path, len(numbers)) for path in coded.dictionary.to_pylist()])
            recording[first : first + len(batch)] = own[coded.indices.to_numpy()]
            start_s[first : first + len(batch)] = batch["start_s"].to_numpy()
        return recording, start_s

    def _batches(self, which: Iterable[int]) -> Iterator[tuple[int, pa.RecordBatch]]:
        for number in which:
            with pa.memory_map(str(self.path)) as file:
                yield number * BATCH, pa.ipc.open_file(file).get_batch(number)


def vectors_of(batch: pa.RecordBatch) -> Float[np.ndarray, "n d"]:
    """The embeddings of a batch as they lie in the file, without a copy."""
    column = batch["embedding"]
    return np.asarray(column.flatten().to_numpy(zero_copy_only=True)).reshape(len(column), -1)
