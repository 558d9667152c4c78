"""Writing that leaves either the whole file or nothing, and output folders that never overwrite somebody's work."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audiorep.errors import AudiorepError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LEFT = {"quarantine.csv"}
"""What a run that was refused may have left in its folder."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well, remove it when it does not.

    Raises:
        AudiorepError: disk full or folder not writable; nothing half-written is left.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise AudiorepError(f"cannot write {path}: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise AudiorepError(
            f"cannot write {path}: {error.strerror or error}; nothing half-written was left there. "
            "Free some space or choose another out="
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def is_file(path: Path) -> bool:
    """Whether there is such a file; False too where no file can have such a name."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write bytes atomically. Writers of other packages raise all sorts on a full disk: let them write to memory."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """What `write_json` wrote.

    Raises:
        AudiorepError: a file that is not there or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AudiorepError(f"cannot read {path}: {error}") from error


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(model: Path) -> str:
    """SHA-256 of a model's weights: the `.onnx`, and the `.onnx.json` beside it, or the `model.safetensors` of a folder."""
    path = model if model.is_file() else model / "model.safetensors"
    told = path.with_name(f"{path.name}.json")
    return sha256(path) + (sha256(told) if told.is_file() else "")


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove what an earlier run of ours left in a folder, and nothing else."""
    for name in names:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def output_folder(out: str | Path, *, resume: bool | None = None, overwrite: bool = False) -> Path:
    """Make the folder `out`, refusing one that already holds something unless the run resumes or may overwrite.

    Args:
        resume: None: the command cannot go on where it stopped, and it is not offered.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise AudiorepError(f"out={folder} is a file: name a folder")
    if not resume and not overwrite and folder.exists() and any(path.name not in LEFT for path in folder.iterdir()):
        raise AudiorepError(
            f"out={folder} is not empty: choose another out=,"
            + (" or resume=true to go on where it stopped," if resume is not None else "")
            + " or overwrite=true to write over it"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudiorepError(f"cannot make the folder out={folder}: {error.strerror or error}") from error
    keep_others_out(folder)
    return folder


HELD: dict[Path, int] = {}
"""Folders that this process writes to, and the descriptors that hold them, until it ends."""


def keep_others_out(folder: Path) -> None:
    """Hold a folder until this process ends, whatever ends it.

    Where the system knows no such locks (Windows, some network drives), nothing is held.

    Raises:
        AudiorepError: another process holds it.
    """
    place = folder.resolve()
    if fcntl is None or place in HELD:
        return
    descriptor = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AudiorepError(
            f"out={folder}: another audiorep is writing there: wait for it, or choose another out="
        ) from None
    except OSError:
        os.close(descriptor)
        return
    HELD[place] = descriptor
