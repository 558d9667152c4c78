"""What a long command has done, file by file: a line each as it happens, so that a killed run goes on where it stopped."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from audiorep.errors import AudiorepError

Entry = dict[str, Any]
"""``unit`` and what is known of it: ``status`` (done, failed), ``reason``, ``seconds`` ..."""


class Journal:
    """Lines of JSON in one file, the settings first, then one a unit; the last line of a unit counts.

    A line that a kill cut off is left out when the file is opened again.

    Args:
        path: of the file; made if it is not there.
        settings: what must be the same to go on.

    Raises:
        AudiorepError: begun with other settings, or not such a file.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        try:
            entries = [json.loads(line) for line in lines]
            before = entries[0]["settings"] if entries else dict(settings)
            self.entries: dict[str, Entry] = {entry["unit"]: entry for entry in entries[1:]}
        except (ValueError, KeyError, TypeError) as error:
            raise AudiorepError(f"{path}: not readable as a journal: {error}; overwrite=true starts anew") from error
        if different := [name for name in settings if before.get(name) != settings[name]]:
            name = different[0]
            raise AudiorepError(
                f"{path}: was begun with {name}={before.get(name)}, not {settings[name]}: "
                "resume with the same settings, or overwrite=true to start anew"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as whole:  # the beginning of a line that was cut off goes
            whole.truncate(sum(len(line) + 1 for line in lines))
        self.file = path.open("a", encoding="utf-8")
        if not lines:
            self._write({"settings": dict(settings)})

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def done(self, path: Path) -> Entry | None:
        """The entry of a file that is done and has not changed since; None otherwise."""
        entry = self.entries.get(str(path), {})
        return entry if entry.get("status") == "done" and self.ended(path) else None

    def ended(self, path: Path) -> bool:
        """Whether a file is done or has failed, and has not changed since."""
        return str(path) in self.entries and self.entries[str(path)]["file"] == stamp(path)

    def add(self, path: Path, status: str, **facts: Any) -> Entry:
        """Write down how a file ended; returns the entry."""
        entry = {"unit": str(path), "status": status, "file": stamp(path), **facts}
        self.entries[entry["unit"]] = entry
        self._write(entry)
        return entry

    def _write(self, entry: Entry) -> None:
        self.file.write(json.dumps(entry) + "\n")
        self.file.flush()


def stamp(path: Path) -> str:
    """Size and time of change of a file: another stamp is another file; "" where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"
