"""A store of a corpus that was decoded once: how it is found beside the corpus, and what of it holds for the recordings now.

A folder with shards of raw samples and `index.parquet`, which tells of every recording where its samples stand, and of which
file they were decoded. `audiorep.data.packing` makes it.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from audiorep.data.raw import Raw
from audiorep.errors import AudiorepError
from audiorep.files import sha256

log = logging.getLogger(__name__)

INDEX = "index.parquet"

SCHEMA = pa.schema(
    [
        ("path", pa.string()),  # relative to the corpus where it can be
        ("size_bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("sha256", pa.string()),
        ("rate_hz", pa.int64()),  # of the sound, which is slowed down by time_expansion in the file
        ("header_hz", pa.int64()),
        ("time_expansion", pa.float64()),
        ("packed_hz", pa.int64()),  # of the samples in the store
        ("frames", pa.int64()),
        ("channels", pa.int32()),
        ("dtype", pa.string()),  # int16 or float32, little-endian, channels interleaved
        ("shard", pa.string()),
        ("offset_bytes", pa.int64()),
        ("length_bytes", pa.int64()),
        ("crc32", pa.int64()),
    ]
)
"""The index: source, sound, and samples of each recording."""

NAMED = 10
"""Recordings that a line of the log names."""


@dataclass(frozen=True)
class Packed:
    """Where each of a list of recordings stands in a store, as arrays [files]; `shards` are paths."""

    has: np.ndarray
    shards: np.ndarray
    shard: np.ndarray
    at: np.ndarray
    frames: np.ndarray
    channels: np.ndarray
    wide: np.ndarray
    rate_hz: np.ndarray

    def place(self, file: int) -> tuple[str, Raw, int]:
        """Shard, place in it, and sample rate."""
        dtype = "float32" if self.wide[file] else "int16"
        raw = Raw(int(self.at[file]), int(self.frames[file]), int(self.channels[file]), dtype)
        return self.shards[self.shard[file]].item(), raw, int(self.rate_hz[file])


@dataclass(frozen=True)
class Store:
    """An opened store: the rows of its index, by absolute path, whose recordings are as they were when they were packed."""

    folder: Path
    frame: pd.DataFrame

    def find(self, paths: Sequence[str], source_hz: np.ndarray, rate_hz: int) -> Packed:
        """What serves a model of `rate_hz`: recordings packed at their own rate, which is `source_hz`, or at the model's."""
        frame = self.frame.reindex(list(paths))
        there = frame["shard"].notna().to_numpy()
        own = frame["packed_hz"] == frame["rate_hz"]
        has = (own | ((frame["packed_hz"] == rate_hz) & (frame["rate_hz"] == source_hz))).to_numpy() & there
        if unfit := int(there.sum() - has.sum()):
            kept = " or ".join(str(int(rate)) for rate in sorted(frame["packed_hz"][there & ~has].unique()))
            say_once(
                f"{self.folder}: {unfit} recording(s) are kept at {kept} Hz, this model hears {rate_hz} Hz: they are read "
                "from their source; audiorep pack rate_hz=null keeps them for every model"
            )
        names, shard = np.unique(frame["shard"].fillna("").to_numpy(dtype=str), return_inverse=True)
        whole = frame[["offset_bytes", "frames", "channels", "packed_hz"]].fillna(0).astype(np.int64)
        return Packed(
            has,
            np.array([str(self.folder / name) for name in names], dtype=str),
            shard.astype(np.int32),
            whole["offset_bytes"].to_numpy(),
            whole["frames"].to_numpy(),
            whole["channels"].to_numpy(),
            (frame["dtype"] == "float32").to_numpy(),
            np.where(own, source_hz, whole["packed_hz"]),  # of a file at its own rate: that which the corpus says
        )


def store_beside(corpus: str | Path) -> Path:
    """Where the store of a corpus lies unless another place is named: ``corpus.store`` beside ``corpus.csv``."""
    source = Path(corpus).expanduser().resolve()
    return source.with_name(f"{source.name if source.is_dir() else source.stem}.store")


def root_of(corpus: str | Path) -> Path:
    """The folder to which the paths in a store are relative."""
    source = Path(corpus).expanduser().resolve()
    return source if source.is_dir() else source.parent


def find_store(
    corpus: str | Path, asked: str | None, paths: Sequence[str], progress: Callable[[int, int], None] | None = None
) -> Store | None:
    """The store that a corpus is read from, and one line that says so.

    Args:
        asked: auto: the one beside the corpus, where there is one; a folder: that one; None: none.
        paths: the recordings of the corpus, absolute.

    Raises:
        AudiorepError: the folder that is asked for is no store; a store is damaged.
    """
    if asked is None:
        return None
    folder = store_beside(corpus) if asked == "auto" else Path(asked).expanduser().resolve()
    if not (folder / INDEX).is_file():
        if asked != "auto":
            raise AudiorepError(f"data.store={asked}: no {INDEX} there: {mend(folder, 'resume')}")
        if folder.is_dir():
            log.warning("%s is not finished and is not used: %s", folder, mend(folder, "resume"))
        return None
    frame = read_index(folder)
    frame.index = pd.Index([str(root_of(corpus) / path) for path in frame["path"]])
    frame = frame[frame.index.isin(paths)]
    fresh = unchanged(frame, progress)
    count = len(paths)
    changed = [Path(path).name for path in frame.index[~fresh]]
    if changed:
        more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
        log.warning(
            "changed since they were packed into %s, and read from their source: %s%s",
            folder, ", ".join(changed[:NAMED]), more,
        )  # fmt: skip
    absent = count - len(frame)
    rest = f"; {absent} are not in it and are read from their source" if absent else ""
    log.info("%d of %d recording(s) are read from the store %s%s", int(fresh.sum()), count, folder, rest)
    return Store(folder, frame[fresh])


def read_index(folder: Path) -> pd.DataFrame:
    """The index of a store, whose shards are all there.

    Raises:
        AudiorepError: an index that cannot be read or is none, a shard that is missing or too short; tells how to mend it.
    """
    path = folder / INDEX
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise AudiorepError(f"{path}: damaged: {reason}; {mend(folder, 'overwrite')}") from error
    if table.schema.names != SCHEMA.names:
        raise AudiorepError(f"{path}: is no index of a store, or of another version; {mend(folder, 'overwrite')}")
    frame = table.to_pandas()
    ends = (frame["offset_bytes"] + frame["length_bytes"]).groupby(frame["shard"]).max()
    for name, end in ends.items():
        shard = folder / str(name)
        if not shard.is_file():
            raise AudiorepError(f"{shard}: this part of the store is missing; {mend(folder, 'overwrite')}")
        if (there := shard.stat().st_size) < end:
            raise AudiorepError(f"{shard}: cut off: {there} bytes of at least {end}; {mend(folder, 'overwrite')}")
    return frame


def unchanged(frame: pd.DataFrame, progress: Callable[[int, int], None] | None = None) -> np.ndarray:
    """[rows] whether each recording is the one that was packed: by size and time of change, else by its content."""
    fresh = np.zeros(len(frame), bool)
    rows = zip(frame.index, frame["size_bytes"], frame["mtime_ns"], frame["sha256"], strict=True)
    for number, (path, size_bytes, mtime_ns, content) in enumerate(rows):
        try:
            told = Path(path).stat()
            same_time = told.st_mtime_ns == mtime_ns
            fresh[number] = told.st_size == size_bytes and (same_time or sha256(Path(path)) == content)
        except OSError:
            continue
        if progress:
            progress(number + 1, len(frame))
    return fresh


def mend(folder: Path, how: str) -> str:
    """What to do about a store."""
    return f"audiorep pack corpus=... out={folder} {how}=true makes it whole, data.store=null does without"


@cache
def say_once(text: str) -> None:
    """A warning that would come again and again."""
    log.warning("%s", text)


def table_of(rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Rows of the index."""
    return pa.Table.from_pylist([dict(row) for row in rows], SCHEMA)
