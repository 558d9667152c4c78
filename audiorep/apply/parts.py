"""One recording of many, done by whichever process: its rows as a part file, written whole or not at all."""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from audiorep.errors import AudioError
from audiorep.files import atomic

GROUP = 4096
"""Rows in a group of a Parquet file."""

Work = Callable[[Path], Iterator[pa.Table]]
"""The rows of a recording, some at a time, at least one table and all of one schema; a recording without any row is one
empty table. An `AudioError` means that the recording is left out. Other processes get it by pickle: what does not
pickle, such as an ONNX session, must open itself again there."""


@dataclass(frozen=True)
class Job:
    """A recording, and the file that its rows go to."""

    path: Path
    part: Path


@dataclass(frozen=True)
class Outcome:
    """How a recording ended: `rows` of it were written, or None and the `reason` why it is left out."""

    job: Job
    rows: int | None
    seconds: float
    reason: str = ""


Engine = Callable[[list[Job], Work], Generator[Outcome]]
"""Does every job once, wherever it runs them, and tells of each as it ends, in any order; closed early, it leaves
nothing running."""


def do(job: Job, work: Work) -> Outcome:
    """Write the part of one recording, or tell why it cannot be decoded."""
    began = time.monotonic()
    try:
        rows, reason = write_rows(job.part, work(job.path)), ""
    except AudioError as error:
        rows, reason = None, str(error).removeprefix(f"{job.path}: ")
    return Outcome(job, rows, time.monotonic() - began, reason)


def write_rows(path: Path, tables: Iterator[pa.Table]) -> int:
    """Write tables of one schema after each other, in groups of at least `GROUP` rows; returns how many rows.

    What waits is joined as in a binary counter: many small tables would lie between the large arrays that come and go, so
    that no room could be used again, and memory would grow with the recording.
    """
    rows, waiting, held = 0, list[pa.Table](), 0
    first = next(tables)
    with atomic(path) as temporary, pq.ParquetWriter(temporary, first.schema) as writer:
        for table in chain([first], tables):
            waiting.append(table)
            while len(waiting) > 1 and len(waiting[-1]) >= len(waiting[-2]):
                waiting[-2:] = [pa.concat_tables(waiting[-2:]).combine_chunks()]
            rows, held = rows + len(table), held + len(table)
            if held >= GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting, held = [], 0
        if held:
            writer.write_table(pa.concat_tables(waiting))
    return rows


def tables_of(path: Path) -> Iterator[pa.Table]:
    """The row groups of a Parquet file, one after the other; an empty table of its schema where it has no row."""
    with pq.ParquetFile(path) as file:
        if not file.num_row_groups:
            yield file.schema_arrow.empty_table()
        for group in range(file.num_row_groups):
            yield file.read_row_group(group)
