"""The quarantine list: recordings that no run uses, with the reason; beside a manifest, or in a folder of recordings."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from audiorep.errors import AudiorepError
from audiorep.files import atomic

COLUMNS = ["path", "row", "reason"]


def list_of(source: Path) -> Path:
    """Where the list of a corpus lies: ``NAME.quarantine.csv`` beside a manifest, ``quarantine.csv`` in a folder."""
    return source / "quarantine.csv" if source.is_dir() else source.with_name(f"{source.stem}.quarantine.csv")


def quarantined_paths(source: Path) -> dict[str, str]:
    """Absolute paths of recordings that are left out as a whole, with the reason; rows with a number are of an earlier
    table, and not looked at.

    Raises:
        AudiorepError: a list that cannot be read.
    """
    path = list_of(source)
    if not path.is_file():
        return {}
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise AudiorepError(f"{path}: not readable as a quarantine list: {error}".replace("\n", " ")) from error
    if not {"path", "reason"} <= set(table.columns):
        raise AudiorepError(
            f"{path}: a quarantine list has the columns {', '.join(COLUMNS)}; delete it to use everything"
        )
    whole = table[table["row"] == ""] if "row" in table else table
    return {
        str((path.parent / name).resolve()): reason for name, reason in zip(whole["path"], whole["reason"], strict=True)
    }


def add_to_quarantine(source: Path, reasons: Mapping[str, str]) -> tuple[Path, int]:
    """Put recordings on the list; those that are there stay as they are.

    Returns:
        the list, and how many are new.
    """
    path = list_of(source)
    known = quarantined_paths(source)
    before = pd.read_csv(path, dtype=str, keep_default_na=False) if path.is_file() else pd.DataFrame(columns=COLUMNS)
    new = {name: reason for name, reason in reasons.items() if str(Path(name).resolve()) not in known}
    rows = pd.DataFrame([(name, "", reason) for name, reason in new.items()], columns=COLUMNS)
    with atomic(path) as temporary:
        pd.concat([before, rows], ignore_index=True).to_csv(temporary, index=False)
    return path, len(new)
