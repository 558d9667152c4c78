"""The file of rows beside ``embeddings.parquet``: made once, by a stream over its row groups, and again when that changes."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from audiorep.apply.embed import EMBEDDINGS
from audiorep.apply.rows import BATCH, COLUMNS, Rows, vectors_of
from audiorep.errors import AudiorepError
from audiorep.files import atomic, read_json
from audiorep.journal import stamp

log = logging.getLogger(__name__)

INDEX, TOLD = "search.arrow", "embed.json"
VERSION = 1
"""Of the file of rows; any other is made again."""

HEADER = b"audiorep"
READ = 4096
"""Rows that are read at once."""

SHORTEST = 1e-12
"""An embedding of less length than this has no direction, and is no row."""


@dataclass(frozen=True)
class Embedded:
    """What `audiorep embed` left, ready to be searched.

    fingerprint: SHA-256 of the model's weights.
    model: where the model was then.
    """

    folder: Path
    rows: Rows
    fingerprint: str
    model: str
    sample_rate_hz: int
    window_samples: int
    hop_samples: int

    @property
    def window_s(self) -> float:
        return self.window_samples / self.sample_rate_hz


def open_embedded(
    folder: str | Path,
    index: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    key: str = "embeddings",
) -> Embedded:
    """Open a folder of embeddings; where the file of rows is missing or of other embeddings, it is made.

    Args:
        index: the file of rows; None: ``search.arrow`` in the folder.
        progress: is told of rows while the file is made.
        key: the setting that named the folder.

    Raises:
        AudiorepError: not a folder that `audiorep embed` left, no rows in it, or a file of rows that cannot be written.
    """
    folder = Path(folder)
    source, told = folder / EMBEDDINGS, folder / TOLD
    if missing := next((path for path in (source, told) if not path.is_file()), None):
        raise AudiorepError(f"{key}={folder}: no {missing.name} there; name the out= folder of audiorep embed")
    about = dict(read_json(told))
    needed = ("fingerprint", "model", "sample_rate_hz", "window_samples", "hop_samples")
    if absent := next((name for name in needed if name not in about), None):
        raise AudiorepError(
            f"{told}: does not tell {absent}, so an earlier audiorep wrote it; "
            "the same audiorep embed with resume=true writes it anew"
        )
    path = folder / INDEX if index is None else Path(index)
    header = {"version": VERSION, "batch": BATCH, "source": stamp(source), "footer": footer_hash(source)}
    header |= {"fingerprint": about["fingerprint"]}
    if header_of(path) != header:
        if path.parent.is_dir() and not os.access(path.parent, os.W_OK):
            raise AudiorepError(
                f"{path.parent} is read only, and {path.name} has to be made: say index=FILE, elsewhere"
            )
        made = write_rows(path, source, header, progress)
        log.info("wrote %s: %d rows to search", path, made)
    with pa.memory_map(str(path)) as file:
        opened = pa.ipc.open_file(file)
        width = opened.schema.field("embedding").type.list_size
        last = opened.num_record_batches - 1
        rows = Rows(path, last * BATCH + len(opened.get_batch(last)), width)
    return Embedded(folder, rows, *(about[name] for name in needed))


def footer_hash(path: Path) -> str:
    """SHA-256 of the end of a Parquet file, which tells of every row group where it lies and what it spans.

    Raises:
        AudiorepError: not a Parquet file.
    """
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - 8))
        size, magic = int.from_bytes(file.read(4), "little"), file.read(4)
        if magic != b"PAR1" or size > end:
            raise AudiorepError(f"{path}: not readable as Parquet: embed again with overwrite=true")
        file.seek(end - 8 - size)
        return hashlib.sha256(file.read(size)).hexdigest()


def header_of(path: Path) -> dict[str, Any]:
    """What a file of rows was made of; nothing, where it is not there or not whole."""
    try:
        with pa.memory_map(str(path)) as file:
            found = (pa.ipc.open_file(file).schema.metadata or {}).get(HEADER, b"{}")
            return dict(json.loads(found))
    except (OSError, ValueError, pa.ArrowException):
        return {}


def write_rows(
    path: Path, source: Path, header: Mapping[str, Any], progress: Callable[[int, int], None] = lambda done, total: None
) -> int:
    """Write the file of rows, whole or not at all; returns how many rows.

    ``x / ||x||`` in float32, rounded to float16. Embeddings that are not finite or all zero are left out.

    Raises:
        AudiorepError: columns that are missing or of another kind, no row that can be used, or a disk that is full or
            read only.
    """
    width = width_of(source)
    schema = pa.schema([*COLUMNS.items(), ("embedding", pa.list_(pa.float16(), width))])
    schema = schema.with_metadata({HEADER: json.dumps(dict(header)).encode()})
    kept = 0
    with atomic(path) as temporary, pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for batch in evenly(unit_tables(source, width, schema, progress), BATCH):
            writer.write_batch(batch)
            kept += len(batch)
        if not kept:
            raise AudiorepError(f"{source}: holds no embedding that can be searched; embed recordings first")
    return kept


def width_of(source: Path) -> int:
    """Numbers in an embedding.

    Raises:
        AudiorepError: columns that are missing or of another kind.
    """
    try:
        schema = pq.read_schema(source)
    except (OSError, pa.ArrowException) as error:
        raise AudiorepError(f"{source}: not readable as Parquet: {error}") from error
    if missing := next((name for name in (*COLUMNS, "embedding") if name not in schema.names), None):
        raise AudiorepError(f"{source}: no column '{missing}'; audiorep embed writes it")
    kind = schema.field("embedding").type
    if not pa.types.is_fixed_size_list(kind) or not pa.types.is_floating(kind.value_type):
        raise AudiorepError(f"{source}: column 'embedding' is {kind}; lists of so many float32 each are needed")
    return int(kind.list_size)


def unit_tables(
    source: Path, width: int, schema: pa.Schema, progress: Callable[[int, int], None]
) -> Iterator[pa.RecordBatch]:
    """The rows of ``embeddings.parquet`` with embeddings of length 1, without those that have no direction."""
    done, left_out = 0, 0
    with pq.ParquetFile(source) as file:
        for batch in batches_of(file):
            x = vectors_of(batch).astype(np.float32)
            length = np.linalg.norm(x, axis=1, keepdims=True)
            good = np.isfinite(length[:, 0]) & (length[:, 0] > SHORTEST)
            unit = (x[good] / length[good]).astype(np.float16)
            listed = pa.FixedSizeListArray.from_arrays(pa.array(unit.ravel()), width)
            mine = batch.select(list(COLUMNS)).filter(pa.array(good))
            yield pa.record_batch([*(mine[name].cast(kind) for name, kind in COLUMNS.items()), listed], schema=schema)
            left_out += int((~good).sum())
            done += len(batch)
            progress(done, file.metadata.num_rows)
    if left_out:
        log.warning("%s: %d embedding(s) left out: not finite, or all zero", source, left_out)


def batches_of(file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file, a row group after the other: asked for all at once, all would be read ahead."""
    for group in range(file.num_row_groups):
        yield from file.iter_batches(READ, row_groups=[group], columns=[*COLUMNS, "embedding"])


def evenly(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `size`, the last one of what is left."""
    waiting: pa.Table | None = None
    for batch in batches:
        table = pa.Table.from_batches([batch])
        waiting = table if waiting is None else pa.concat_tables([waiting, table])
        while len(waiting) >= size:
            yield joined(waiting.slice(0, size))
            waiting = waiting.slice(size)
    if waiting is not None and len(waiting):
        yield joined(waiting)


def joined(table: pa.Table) -> pa.RecordBatch:
    """A table as one batch."""
    return pa.record_batch([column.combine_chunks() for column in table.columns], schema=table.schema)
