"""Directories of perch-hoplite (``hoplite.sqlite``, ``usearch.index``), read: annotations, recordings, windows."""

import json
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from audiorep.data.audio import is_audio
from audiorep.data.formats.beside import Found, find_recordings, gathered, nearest
from audiorep.data.formats.cells import column_of
from audiorep.errors import AudiorepError
from audiorep.files import is_file

DATABASE, INDEX = "hoplite.sqlite", "usearch.index"
NEGATIVE, POSITIVE, UNCERTAIN = 0, 1, 2
OURS = {"name": "deployment", "latitude": "lat", "longitude": "lon", "datetime": "recorded_at", "filename": "recording"}
SOURCES_KEY, CONFIG_KEY = "audio_sources", "usearch_config"


def read_annotations(folder: Path) -> pd.DataFrame:
    """One row an annotation, and one for each recording without any (no times, no label).

    Returns:
        recording (its path as hoplite has it), start_s, end_s, label (``-NAME`` where it is known to be absent, "" where it
        is uncertain), uncertain (the label then), provenance, recorded_at, deployment, project, lat, lon, and free columns.

    Raises:
        AudiorepError: no database of hoplite, or a cell that is none of its; names the file, the table and its row's id.
    """
    with opened(folder) as (database, path):
        known = _recordings(database, path)
        rows = _rows(database, path, "annotations")
    out, annotated = [], set()
    for row in rows:
        where = f"{path}: annotations, id {row.get('id')}"
        if row["recording_id"] not in known:
            raise AudiorepError(f"{where}: column 'recording_id' is of no recording")
        if row["label_type"] not in (NEGATIVE, POSITIVE, UNCERTAIN):
            raise AudiorepError(f"{where}: column 'label_type' is {row['label_type']!r}, not 0, 1 or 2")
        start, end = offsets(row["offsets"], where)
        annotated.add(row["recording_id"])
        label, kind = _text(row["label"], f"{where}: column 'label'"), row["label_type"]
        said = {"start_s": start, "end_s": end, "label": {NEGATIVE: f"-{label}", POSITIVE: label}.get(kind, "")}
        free = {name: row[name] for name in row if name not in ("id", "recording_id", "offsets", "label", "label_type")}
        out.append(free | known[row["recording_id"]] | said | {"uncertain": label if kind == UNCERTAIN else ""})
    out += [recording | {"label": "", "uncertain": ""} for id, recording in known.items() if id not in annotated]
    first = ["recording", "start_s", "end_s", "label", "uncertain", "provenance", *OURS.values(), "project"]
    table = pd.DataFrame(out)
    order = [*dict.fromkeys(first), *(name for name in table.columns if name not in first)]
    return table.reindex(columns=order).astype({"start_s": float, "end_s": float})


def read_windows(folder: Path) -> tuple[pd.DataFrame, Float[np.ndarray, "n d"] | None]:
    """The windows (recording, start_s, end_s), and their embeddings where usearch is installed and all have one.

    usearch trusts its file: a corrupt ``usearch.index`` may end the process. Annotations are read without it.

    Raises:
        AudiorepError: as `read_annotations`.
    """
    with opened(folder) as (database, path):
        known = _recordings(database, path)
        rows = _rows(database, path, "windows")
    out = []
    for row in rows:
        start, end = offsets(row["offsets"], f"{path}: windows, id {row.get('id')}")
        out.append((row["id"], known.get(row["recording_id"], {}).get("recording", ""), start, end))
    table = pd.DataFrame(out, columns=["id", "recording", "start_s", "end_s"])
    return table.drop(columns="id"), _embeddings(folder / INDEX, table["id"].to_numpy(dtype=np.uint64))


def base_paths(folder: Path) -> list[Path]:
    """Where hoplite took its recordings from, as far as the database says so and the folders are there."""
    with opened(folder) as (database, path):
        rows = _rows(database, path, "hoplite_metadata")
    try:
        sources: dict[str, Any] = next((json.loads(row["value"]) for row in rows if row["key"] == SOURCES_KEY), {})
        paths = [Path(str(source["base_path"])) for source in sources.get("audio_globs", [])]
        return [path for path in paths if path.is_dir()]
    except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError):
        return []


@contextmanager
def opened(folder: Path) -> Iterator[tuple[sqlite3.Connection, Path]]:
    """The database of a directory, for reading: nothing is written, not even beside it unless another program is at it.

    Raises:
        AudiorepError: it cannot be read, or is no database of hoplite.
    """
    path = folder / DATABASE
    mode = "mode=ro" if Path(f"{path}-wal").is_file() else "mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)) as database:
            database.row_factory = sqlite3.Row
            yield database, path
    except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as error:
        raise AudiorepError(f"{path}: not readable as a database of hoplite: {error}") from error


def offsets(blob: Any, where: str) -> tuple[float, float]:
    """Begin and end in s of a blob of little-endian float64.

    Raises:
        AudiorepError: it is none, or no stretch of a recording.
    """
    try:
        start, end = struct.unpack("<2d", blob)
    except (struct.error, TypeError) as error:
        raise AudiorepError(f"{where}: column 'offsets' is not two float64 numbers") from error
    if not 0.0 <= start < end < np.inf:
        raise AudiorepError(f"{where}: column 'offsets': {start:g} to {end:g} s is no stretch of a recording")
    return start, end


class Hoplite:
    """A directory of perch-hoplite, beside its recordings or as `annotations`; what is uncertain is unlabelled.

    Args:
        unannotated: keep recordings without an annotation, as unlabelled rows.
    """

    def __init__(self, unannotated: bool = True) -> None:
        self.unannotated = unannotated

    def describe(self) -> str:
        return "hoplite (absent classes with -: say labels.multilabel=true; uncertain ones are in a column)"

    def recognises(self, recordings: Path, annotations: Path | None) -> bool:
        return (_folder(annotations or recordings) / DATABASE).is_file()

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        folder = _folder(annotations or recordings)
        table = read_annotations(folder)
        found, bases = find_recordings(recordings), base_paths(folder)
        names = column_of(table, "recording").astype(str)
        known = {name: _place(name, found, folder, bases) for name in set(names)}
        table = table.drop(columns="recording").assign(path=names.map(known))
        return gathered([table if self.unannotated else table[table["start_s"].notna()]], found, self.unannotated)


def _folder(source: Path) -> Path:
    return source.parent if source.name == DATABASE else source


def _place(name: str, found: Found, folder: Path, bases: list[Path]) -> str:
    """The recording that hoplite means: relative to where it took them from, to what was given, or by its name."""
    plain = name.replace("\\", "/")
    for base in (found.root, *bases, folder, folder.parent):
        if is_audio(base / plain) and is_file(base / plain):
            return str((base / plain).absolute())
    near = nearest(found.by_name.get(plain.rsplit("/", 1)[-1].lower(), []), folder, plain)
    return str(near or found.root / (plain.replace("\0", "") or "nameless"))


def _rows(database: sqlite3.Connection, path: Path, table: str) -> list[dict[str, Any]]:
    wanted = {
        "annotations": {"recording_id", "offsets", "label", "label_type", "provenance"},
        "windows": {"id", "recording_id", "offsets"},
        "recordings": {"id", "filename", "datetime", "deployment_id"},
        "deployments": {"id", "name", "project", "latitude", "longitude"},
        "hoplite_metadata": {"key", "value"},
    }[table]
    cursor = database.execute(f"SELECT * FROM {table}")  # a name of ours
    if missing := wanted - {column[0] for column in cursor.description}:
        raise AudiorepError(
            f"{path}: table '{table}' has no column '{min(missing)}'; is it of perch-hoplite 1.0 or newer?"
        )
    return [{name.lower(): row[name] for name in row.keys()} for row in cursor]  # noqa: SIM118 of sqlite3.Row


def _recordings(database: sqlite3.Connection, path: Path) -> dict[Any, dict[str, Any]]:
    """What is known of each recording, by its id."""
    places: dict[Any, dict[str, Any]] = {}
    for row in _rows(database, path, "deployments"):
        places[row["id"]] = {OURS.get(name, name): value for name, value in row.items() if name != "id"}
    known = {}
    for row in _rows(database, path, "recordings"):
        own = {OURS.get(name, name): value for name, value in row.items() if name not in ("id", "deployment_id")}
        own["recording"] = _text(own["recording"], f"{path}: recordings, id {row['id']}: column 'filename'")
        known[row["id"]] = places.get(row["deployment_id"], {}) | own
    return known


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise AudiorepError(f"{where} is no text")
    return value


def _embeddings(path: Path, ids: np.ndarray) -> np.ndarray | None:
    try:
        from usearch.index import Index
    except ImportError:
        return None
    if not path.is_file() or not len(ids):
        return None
    try:
        index = Index.restore(path, view=True)
        found = None if index is None else index.get(ids)
    except (RuntimeError, ValueError, OSError) as error:
        raise AudiorepError(f"{path}: not readable as an index of usearch: {error}") from error
    return None if found is None or any(one is None for one in found) else np.asarray(found, np.float32)
