"""Making a store: where every recording goes, by its header alone; then each is decoded once into its place."""

import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from audiorep.data.audio import AudioInfo
from audiorep.data.blocks import decode_blocks, resample_blocks, resampled_frames
from audiorep.data.manifest import relative_to
from audiorep.data.store import table_of
from audiorep.errors import AudioError
from audiorep.files import sha256
from audiorep.journal import stamp

SHARD_BYTES = 2**30
ALIGNED_BYTES = 64
"""A recording begins at a multiple of so many bytes, so that its samples can be mapped into memory."""

BLOCK_BYTES = 2**22

SHARDS = "shard-*.raw"
"""Names of the files of samples."""


@dataclass(frozen=True)
class Place:
    """Where a recording goes: number of the shard and first byte there; what it is, and the rate that it is kept at."""

    shard: int
    at: int
    info: AudioInfo
    packed_hz: int

    @property
    def frames(self) -> int:
        return resampled_frames(self.info, self.packed_hz)

    @property
    def length_bytes(self) -> int:
        return self.frames * self.info.channels * np.dtype(self.info.dtype).itemsize

    @property
    def end(self) -> int:
        return self.at + self.length_bytes


def plan(
    files: Mapping[str, AudioInfo], rate_hz: int | None = None, shard_bytes: int = SHARD_BYTES
) -> dict[str, Place]:
    """Every recording's place, one after the other; a shard is full before it would exceed `shard_bytes`, and a recording
    that is longer has one to itself.

    Args:
        rate_hz: that all are kept at; None: each at its own.
    """
    out: dict[str, Place] = {}
    shard, at = 0, 0
    for path, info in files.items():
        place = Place(shard, at, info, rate_hz or info.rate_hz)
        if at and place.end > shard_bytes:
            shard, at = shard + 1, 0
            place = Place(shard, at, info, place.packed_hz)
        out[path] = place
        at = -(-place.end // ALIGNED_BYTES) * ALIGNED_BYTES
    return out


def shard_sizes(places: Mapping[str, Place]) -> dict[str, int]:
    """The shards of a plan, and their lengths in bytes."""
    sizes: dict[str, int] = {}
    for place in places.values():
        name = shard_name(place.shard)
        sizes[name] = max(sizes.get(name, 0), place.end)
    return sizes


def shard_name(number: int) -> str:
    """Name of the file."""
    return SHARDS.replace("*", f"{number:05d}")


def digest(places: Mapping[str, Place]) -> str:
    """A plan in a few letters: another plan, other letters."""
    told = "\n".join(
        f"{path} {p.shard} {p.at} {p.frames} {p.info.channels} {p.info.dtype} {p.info.rate_hz} {p.info.time_expansion}"
        for path, p in places.items()
    )
    return hashlib.sha256(os.fsencode(told)).hexdigest()[:16]


def make_shards(folder: Path, places: Mapping[str, Place]) -> None:
    """Shards of their full length, empty where nothing was written yet."""
    for name, size in shard_sizes(places).items():
        with (folder / name).open("ab") as file:
            file.truncate(size)


@dataclass(frozen=True)
class Packer:
    """Decodes one recording after the other into the shards in `folder`; what it returns is the recording's row of the index.

    root: the folder to which paths are relative where they can be.
    """

    folder: Path
    root: Path
    places: Mapping[str, Place]

    def __call__(self, path: Path) -> Iterator[pa.Table]:
        place = self.places[str(path)]
        info, shard = place.info, shard_name(place.shard)
        try:
            before, content = path.stat(), sha256(path)
        except OSError as error:
            raise AudioError(f"{path}: cannot be read ({error.strerror or error})") from error
        crc32 = write_samples(path, place, self.folder / shard)
        if stamp(path) != f"{before.st_size} {before.st_mtime_ns}":
            raise AudioError(f"{path}: was changed while it was packed")
        source = {"path": relative_to(str(path), self.root), "size_bytes": before.st_size}
        source |= {"mtime_ns": before.st_mtime_ns, "sha256": content}
        sound: dict[str, object] = {"rate_hz": info.rate_hz, "header_hz": round(info.rate_hz / info.time_expansion)}
        sound |= {"time_expansion": info.time_expansion, "packed_hz": place.packed_hz, "frames": place.frames}
        kept = {"channels": info.channels, "dtype": info.dtype, "shard": shard, "offset_bytes": place.at}
        yield table_of([source | sound | kept | {"length_bytes": place.length_bytes, "crc32": crc32}])


def write_samples(path: Path, place: Place, shard: Path) -> int:
    """Decode a recording into its place; returns the checksum (CRC-32) of its bytes.

    Raises:
        AudioError: not decodable, or not as long as its header says.
    """
    info, written, crc32 = place.info, 0, 0
    blocks = decode_blocks(path)
    if place.packed_hz != info.rate_hz:
        blocks = resample_blocks(blocks, info, place.packed_hz)
    with shard.open("r+b") as file:
        file.seek(place.at)
        for samples in blocks:
            content = np.ascontiguousarray(samples, np.dtype(info.dtype).newbyteorder("<")).tobytes()
            written += len(content)
            if written > place.length_bytes:
                break
            file.write(content)
            crc32 = zlib.crc32(content, crc32)
    if written != place.length_bytes:
        raise AudioError(f"{path}: is not of the length that its header says")
    return crc32


def damaged(folder: Path, index: pd.DataFrame) -> Iterator[str | None]:
    """For each row of an index None, or what is wrong with its samples: they are read and their checksum is compared."""
    columns = (index[name] for name in ("path", "shard", "offset_bytes", "length_bytes", "crc32"))
    for path, shard, at, length_bytes, crc32 in zip(*columns, strict=True):
        found = 0
        with (folder / shard).open("rb") as file:
            file.seek(at)
            while length_bytes > 0:
                content = file.read(min(length_bytes, BLOCK_BYTES))
                if not content:
                    break
                found, length_bytes = zlib.crc32(content, found), length_bytes - len(content)
        good = found == crc32 and not length_bytes
        yield None if good else f"{path}: its samples in {shard} are not those that were packed"
