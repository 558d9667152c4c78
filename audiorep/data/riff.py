"""Chunks of WAV files (RIFF, RF64): found without reading the sound, and put in without touching it."""

import os
import struct
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from audiorep.errors import AudioError
from audiorep.files import atomic

MOST_CHUNKS = 1000
LONGEST_TEXT = 1 << 20
"""Chunks of text longer than this, in bytes, are not read: something else stands there."""

BLOCK = 1 << 20
UNKNOWN_SIZE = 0xFFFFFFFF
LARGEST_RIFF = 0xFFFFFFFF - 8


def find_chunks(path: Path) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and length of each chunk, as far as the file is one of chunks; nothing of any other file.

    A corrupt file ends the search, it never raises: what lies past the file's end is not a chunk.
    """
    try:
        with path.open("rb") as file:
            yield from chunks_of(file, os.fstat(file.fileno()).st_size)
    except OSError:
        return


def chunks_of(file: BinaryIO | FileIO, total: int) -> Iterator[tuple[bytes, int, int]]:
    """As `find_chunks`, of an open file of `total` bytes."""
    head = file.read(12)
    if len(head) < 12 or head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:] != b"WAVE":
        return
    at, long_data = 12, None
    for _ in range(MOST_CHUNKS):
        file.seek(at)
        header = file.read(8)
        if len(header) < 8:
            return
        name, size = header[:4], int.from_bytes(header[4:], "little")
        if name == b"ds64" and size >= 16:
            long_data = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
        if name == b"data" and size == UNKNOWN_SIZE and long_data is not None:
            size = long_data
        if size > total - at - 8:
            return
        yield name, at + 8, size
        at += 8 + size + size % 2


def read_chunk(path: Path, wanted: bytes) -> bytes | None:
    """What the first chunk of that name holds; None where there is none, or it is too long for text."""
    for name, at, size in find_chunks(path):
        if name == wanted and size <= LONGEST_TEXT:
            with path.open("rb") as file:
                file.seek(at)
                return file.read(size)
    return None


def read_info(path: Path) -> dict[str, str]:
    """The texts of the ``LIST INFO`` chunk, by their four letters (ICMT: comment, IART: artist); {} where there is none."""
    out: dict[str, str] = {}
    for name, start, size in find_chunks(path):
        if name != b"LIST" or not 4 <= size <= LONGEST_TEXT:
            continue
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(size)
        at = 4 if content[:4] == b"INFO" else size
        while at + 8 <= len(content):
            length = int.from_bytes(content[at + 4 : at + 8], "little")
            key = content[at : at + 4].decode("ascii", "replace")
            out.setdefault(key, as_text(content[at + 8 : at + 8 + length]))
            at += 8 + length + length % 2
    return out


def write_chunk(source: Path, out: Path, name: bytes, content: bytes) -> None:
    """A copy of a WAV file with this chunk at its end, in place of those of that name; the sound is untouched.

    `out` may be `source`: it is replaced only when the copy is whole.

    Raises:
        AudioError: `source` is no WAV file with sound, or becomes too long for one.
        AudiorepError: it cannot be written.
    """
    chunks = list(find_chunks(source))
    if b"data" not in {chunk for chunk, _, _ in chunks}:
        raise AudioError(f"{source}: no WAV file with sound in it: nothing can be written into it")
    chunks = [chunk for chunk in chunks if chunk[0] != name]
    total = 4 + sum(8 + size + size % 2 for _, _, size in chunks) + 8 + len(content) + len(content) % 2
    with source.open("rb") as file:
        kind = file.read(4)
        if kind == b"RIFF" and total > LARGEST_RIFF:
            raise AudioError(f"{source}: would be longer than 4 GiB, which a WAV file cannot be")
        with atomic(out) as temporary, temporary.open("wb") as copy:
            copy.write(kind + min(total, UNKNOWN_SIZE).to_bytes(4, "little") + b"WAVE")
            for chunk, at, size in chunks:
                file.seek(at - 8)
                header = file.read(8)
                copy.write(header)
                if chunk == b"ds64":
                    copy.write(total.to_bytes(8, "little"))
                    file.seek(8, os.SEEK_CUR)
                _copy(file, copy, size - (8 if chunk == b"ds64" else 0))
                copy.write(b"\0" * (size % 2))
            copy.write(name + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2))


def as_text(content: bytes) -> str:
    """Text up to its padding, as UTF-8 or else Latin-1."""
    plain = content.strip(b"\0 \t\r\n")
    try:
        return plain.decode("utf-8").strip()
    except UnicodeDecodeError:
        return plain.decode("latin-1").strip()


def _copy(source: BinaryIO, out: BinaryIO, size: int) -> None:
    while size > 0:
        part = source.read(min(size, BLOCK))
        if not part:
            return
        out.write(part)
        size -= len(part)
