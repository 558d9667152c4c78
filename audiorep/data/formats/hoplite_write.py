"""Directories of perch-hoplite, written: as that library lays them out, so that it opens them and goes on with them."""

import json
import os
import sqlite3
import struct
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from audiorep.data.formats.cells import column_of, number_of, times
from audiorep.data.formats.hoplite import CONFIG_KEY, DATABASE, INDEX, NEGATIVE, POSITIVE, SOURCES_KEY, UNCERTAIN
from audiorep.data.labels import split_label
from audiorep.errors import AudiorepError
from audiorep.files import atomic

SCHEMA = """
CREATE TABLE hoplite_metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE deployments (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, project TEXT NOT NULL, latitude REAL,
    longitude REAL, UNIQUE (name, project));
CREATE TABLE recordings (id INTEGER PRIMARY KEY AUTOINCREMENT, filename TEXT NOT NULL, datetime TEXT,
    deployment_id INTEGER REFERENCES deployments(id) ON DELETE CASCADE, UNIQUE (id, deployment_id),
    UNIQUE (filename, deployment_id));
CREATE TABLE windows (id INTEGER PRIMARY KEY AUTOINCREMENT,
    recording_id INTEGER NOT NULL REFERENCES recordings(id) ON DELETE CASCADE, offsets FLOAT_LIST NOT NULL,
    UNIQUE (id, recording_id, offsets));
CREATE TABLE annotations (id INTEGER PRIMARY KEY AUTOINCREMENT,
    recording_id INTEGER NOT NULL REFERENCES recordings(id) ON DELETE CASCADE, offsets FLOAT_LIST NOT NULL,
    label TEXT NOT NULL, label_type INTEGER NOT NULL, provenance TEXT NOT NULL, UNIQUE (id, recording_id, offsets));
CREATE INDEX idx_annotations ON annotations(recording_id, offsets, label, label_type, provenance);
CREATE INDEX idx_labels ON annotations(label, label_type, provenance);
CREATE INDEX idx_recordings_deployment_id ON recordings(deployment_id);
CREATE INDEX idx_windows_recording_id ON windows(recording_id);
"""
CONFIG = {"dtype": "float16", "metric_name": "IP", "expansion_add": 256, "expansion_search": 128}
"""Of the index, as hoplite makes one by default."""

SOURCE = {"min_audio_len_s": 1.0, "target_sample_rate_hz": -2, "shard_len_s": 60.0, "max_shards_per_file": None}
"""How hoplite takes recordings from a folder by default."""

KEPT = ("low_hz", "high_hz", "channel", "individual", "score")
"""Columns of ours that become columns of the annotations."""


def write_hoplite(
    frame: pd.DataFrame,
    out: Path,
    embeddings: Float[np.ndarray, "n d"] | None = None,
    root: Path | None = None,
    project: str = "audiorep",
    dim: int = 1536,
) -> list[Path]:
    """Write rows as a directory of perch-hoplite.

    Args:
        frame: path, start_s, end_s, label (``a|-b``: -b is known to be absent; "": only a window); and where known uncertain,
            provenance or annotator, recorded_at (ISO 8601), deployment or site, project, lat, lon, low_hz, high_hz.
        out: a new directory.
        embeddings: of each row: rows become windows, kept in half precision as hoplite does.
        root: the folder that names of recordings start from; None: the one that holds all of them.
        project: of the deployments where the frame does not say.
        dim: without embeddings, how long those will be that hoplite may add.

    Returns:
        the files.

    Raises:
        AudiorepError: out holds such a directory, a row has no times, a time is not ISO 8601, embeddings do not fit, or
            usearch is not installed though there are some.
    """
    if (out / DATABASE).exists():
        raise AudiorepError(f"{out}: holds a {DATABASE} already; choose another folder, or remove it")
    frame = frame.reset_index(drop=True)
    start, end = times(frame, out)
    paths = list(dict.fromkeys(frame["path"].astype(str)))
    top = root or Path(os.path.commonpath([str(Path(path).parent) for path in paths]) if paths else out)
    number = {path: i + 1 for i, path in enumerate(paths)}
    spans = [struct.pack("<2d", a, b) for a, b in zip(start, end, strict=True)]
    places = list(zip(frame["path"].astype(str).map(number), spans, strict=True))
    windows = list(dict.fromkeys(places)) if embeddings is not None else []
    written = _write_index(out, embeddings, places, windows)
    with atomic(out / DATABASE) as temporary:
        try:
            with closing(sqlite3.connect(temporary, isolation_level=None)) as database:
                database.executescript(f"PRAGMA journal_mode = OFF; BEGIN; {SCHEMA}")
                sites = _deployments(frame, project)
                _insert(database, "deployments", ("id", "name", "project", "latitude", "longitude"), sites.values())
                made = _recordings(frame, sites, project, out).items()
                known = [(number[path], _name(path, top), *more) for path, more in made]
                _insert(database, "recordings", ("id", "filename", "datetime", "deployment_id"), known)
                _insert(
                    database, "windows", ("id", "recording_id", "offsets"), [(i, *w) for i, w in enumerate(windows, 1)]
                )
                _write_annotations(database, frame, places)
                length = dim if embeddings is None else embeddings.shape[1]
                source = {"dataset_name": project, "base_path": str(top.absolute()), "file_glob": "**/*"} | SOURCE
                meta = {CONFIG_KEY: {"embedding_dim": length} | CONFIG, SOURCES_KEY: {"audio_globs": [source]}}
                _insert(database, "hoplite_metadata", ("key", "value"), [(k, json.dumps(v)) for k, v in meta.items()])
                database.execute("COMMIT")
        except (sqlite3.Error, UnicodeEncodeError) as error:
            raise AudiorepError(f"cannot write {out / DATABASE}: {error}") from error
    return [*written, out / DATABASE]


def write(frame: pd.DataFrame, out: Path) -> list[Path]:
    """Write rows as a new directory of perch-hoplite, without embeddings; returns its files."""
    return write_hoplite(frame, out)


def _write_annotations(database: sqlite3.Connection, frame: pd.DataFrame, places: list[tuple[int, bytes]]) -> None:
    kept = [name for name in KEPT if name in frame]
    for name in kept:
        kind = "REAL" if pd.api.types.is_numeric_dtype(frame[name]) else "TEXT"
        database.execute(f"ALTER TABLE annotations ADD COLUMN {name} {kind}")
    who = column_of(frame, "provenance").where(lambda cell: cell != "", column_of(frame, "annotator", "audiorep"))
    more = [[None if pd.isna(value) else value for value in frame[name].tolist()] for name in kept]
    rows = []
    for i, (label, doubt) in enumerate(zip(frame["label"], column_of(frame, "uncertain"), strict=True)):
        said = [
            (name.removeprefix("-"), NEGATIVE if name.startswith("-") else POSITIVE) for name in split_label(str(label))
        ]
        said += [(name, UNCERTAIN) for name in split_label(str(doubt))]
        rows += [(*places[i], name, kind, str(who.iloc[i]), *(values[i] for values in more)) for name, kind in said]
    _insert(database, "annotations", ("recording_id", "offsets", "label", "label_type", "provenance", *kept), rows)


def _deployments(frame: pd.DataFrame, project: str) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Each deployment's row, by its name and project; the position is that of its first row that has one."""
    table = pd.DataFrame(
        {"name": _sites(frame), "project": column_of(frame, "project", project).astype(str)}
        | {name: number_of(frame, name) for name in ("lat", "lon")}
    )
    out: dict[tuple[str, str], tuple[Any, ...]] = {}
    for (name, of), part in table[table["name"] != ""].groupby(["name", "project"], sort=False):
        known = part.dropna(subset=["lat", "lon"])
        place = (float(known["lat"].iloc[0]), float(known["lon"].iloc[0])) if len(known) else (None, None)
        out[str(name), str(of)] = (len(out) + 1, name, of, *place)
    return out


def _recordings(
    frame: pd.DataFrame, sites: dict[tuple[str, str], tuple[Any, ...]], project: str, out: Path
) -> dict[str, tuple[str | None, int | None]]:
    """When each recording was made, and the number of its deployment."""
    known: dict[str, tuple[str | None, int | None]] = {}
    columns = (
        _sites(frame),
        column_of(frame, "project", project).astype(str),
        column_of(frame, "recorded_at").astype(str),
    )
    for at, (path, name, of, when) in enumerate(zip(frame["path"].astype(str), *columns, strict=True)):
        if path in known:
            continue
        try:
            moment = datetime.fromisoformat(when.strip()).isoformat() if when.strip() else None
        except ValueError as error:
            raise AudiorepError(f"{out}: row {at + 1}: column 'recorded_at' is not ISO 8601: {when!r}") from error
        known[path] = (moment, sites[name, of][0] if (name, of) in sites else None)
    return known


def _sites(frame: pd.DataFrame) -> pd.Series:
    """The deployment of each row: as it is called, else its site, else its position."""
    lat, lon = number_of(frame, "lat"), number_of(frame, "lon")
    at = lat.astype(str) + " " + lon.astype(str)
    place = at.where(lat.notna() & lon.notna(), "")
    site = column_of(frame, "site").astype(str)
    name = column_of(frame, "deployment").astype(str)
    return name.where(name != "", site.where(site != "", place))


def _name(path: str, root: Path) -> str:
    return Path(path).relative_to(root).as_posix() if Path(path).is_relative_to(root) else path


def _insert(
    database: sqlite3.Connection, table: str, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]
) -> None:
    database.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", rows)


def _write_index(
    out: Path, embeddings: np.ndarray | None, places: list[tuple[int, bytes]], windows: list[tuple[int, bytes]]
) -> list[Path]:
    """The vectors of the windows; of rows that share one, the first."""
    if embeddings is None:
        return []
    if embeddings.ndim != 2 or len(embeddings) != len(places):
        raise AudiorepError(f"{out}: embeddings {embeddings.shape} for {len(places)} rows: one each is needed")
    with np.errstate(over="ignore"):
        half = np.asarray(embeddings, np.float16)
    if not np.isfinite(half).all():
        raise AudiorepError(
            f"{out}: embeddings hold numbers that half precision cannot (NaN, or beyond 65504): scale them"
        )
    try:
        from usearch.index import Index
    except ImportError as error:
        raise AudiorepError("hoplite keeps embeddings with usearch: pip install 'audiorep[hoplite]'") from error
    first = {place: i for i, place in reversed(list(enumerate(places)))}
    index = Index(ndim=half.shape[1], metric="ip", dtype="f16", expansion_add=256, expansion_search=128)
    index.add(np.arange(1, len(windows) + 1, dtype=np.uint64), half[[first[window] for window in windows]])
    with atomic(out / INDEX) as temporary:
        index.save(temporary)
    return [out / INDEX]
