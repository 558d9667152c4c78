"""Which recordings a command listens to, and what it says of those that it left out."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiorep.data.audio import is_audio
from audiorep.data.formats.folders import find_audio
from audiorep.data.manifest import Quarantined, write_quarantine
from audiorep.data.quarantine import list_of, quarantined_paths
from audiorep.errors import AudiorepError
from audiorep.files import remove

log = logging.getLogger(__name__)

QUARANTINE = "quarantine.csv"
LEFT_OUT = 3
"""Exit status of a command that ended, but without some recordings."""


@dataclass(frozen=True)
class Recordings:
    """paths: to listen to, in order. quarantined: on the folder's quarantine list, with the reasons."""

    paths: list[Path]
    quarantined: Mapping[Path, str]


def recordings_in(place: str | Path) -> Recordings:
    """All recordings below a folder, or the one that is named.

    Raises:
        AudiorepError: no such place, nothing there that can be decoded, or all of it is quarantined.
    """
    source = Path(place).expanduser()
    if not source.exists():
        raise AudiorepError(f"recordings={source}: no such file or folder")
    paths = [source] if source.is_file() else find_audio(source)
    if not paths or (source.is_file() and not is_audio(source)):
        raise AudiorepError(f"recordings={source}: no recordings there that can be decoded")
    listed = quarantined_paths(source.resolve()) if source.is_dir() else {}
    paths = [path.resolve() for path in paths]
    kept = [path for path in paths if str(path) not in listed]
    if not kept:
        raise AudiorepError(f"every recording of {source} is on its quarantine list, {list_of(source)}")
    return Recordings(kept, {path: listed[str(path)] for path in paths if str(path) in listed})


def tell_left_out(recordings: Recordings, failed: Sequence[tuple[Path, str]], out: Path) -> int:
    """Write ``out/quarantine.csv`` where something was left out, and return the exit status."""
    remove(out, [QUARANTINE])  # of an earlier start
    quarantined = [(path, f"quarantined: {reason}") for path, reason in recordings.quarantined.items()]
    if failed or quarantined:
        left_out = [Quarantined(str(path), None, reason) for path, reason in [*failed, *quarantined]]
        write_quarantine(left_out, out / QUARANTINE)
    if failed:
        log.warning("%d recording(s) left out, the first: %s: %s; all in %s", len(failed), *failed[0], out / QUARANTINE)
    return LEFT_OUT if failed else 0
