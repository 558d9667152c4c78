"""The recordings that were listened to: how long, when, where and by what, from their headers, names and folders."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from os.path import split
from pathlib import Path

import numpy as np
import pandas as pd

from audiorep.data.audio import probe
from audiorep.data.guano import Recorded, add_recorded, blank, recorded
from audiorep.data.manifest import Progress
from audiorep.data.moments import moments
from audiorep.errors import AudioError, AudiorepError

COLUMNS = ["path", "duration_s", "recorded_at", "site", "lat", "lon", "recorder"]
NUMBERS = ("duration_s", "lat", "lon")

log = logging.getLogger(__name__)


def where_and_when(
    paths: Sequence[str | Path],
    known: pd.DataFrame | None = None,
    site_from: str = "auto",
    progress: Progress = lambda done, total: None,
) -> pd.DataFrame:
    """A row for each recording: path, duration_s, recorded_at, site, lat, lon, recorder; "" or NaN where nothing tells.

    A cell of `known` comes first, then GUANO or AudioMoth's comment (`audiorep.data.guano`), then the name of the file
    (`audiorep.data.moments`). Times are ISO 8601, with the offset from UTC where one is told; without one they are those of
    the recorder's clock, and stay so. A recording that cannot be read has no duration.

    Args:
        paths: absolute; one that is named twice is one row.
        known: path, and any other of these columns; of several rows of a path the first cell that is not blank counts.
        site_from: see `add_sites`.

    Raises:
        AudiorepError: `site_from` is unknown.
    """
    names = list(dict.fromkeys(map(str, paths)))
    frame = known_of(names, known)
    told: dict[str, Recorded] = {}
    duration_s = frame["duration_s"].to_numpy(float, copy=True)
    for number, name in enumerate(names):
        told[name] = recorded(Path(name))
        if np.isnan(duration_s[number]):
            duration_s[number] = _duration_s(name)
        progress(number + 1, len(names))
    frame = add_recorded(frame.assign(duration_s=duration_s), told)
    frame = frame.assign(**{name: pd.to_numeric(frame[name], errors="coerce") for name in NUMBERS})
    unit = [
        one.deployment or (f"{one.make} {one.model} {one.serial}".strip() if one.serial else "")
        for one in told.values()
    ]
    return from_names(frame.assign(unit=unit), site_from)


def known_of(names: Sequence[str], known: pd.DataFrame | None) -> pd.DataFrame:
    """A row for each name with what a table knows of it, and blanks."""
    frame = pd.DataFrame({"path": pd.Series(names, dtype=object)})
    for column in COLUMNS[1:]:
        cells = pd.Series(
            np.nan if column in NUMBERS else "", frame.index, dtype=float if column in NUMBERS else object
        )
        if known is not None and column in known:
            filled = known[~blank(known[column])].drop_duplicates("path").set_index("path")[column]
            values = frame["path"].map(filled)
            cells = pd.to_numeric(values, errors="coerce") if column in NUMBERS else values.astype(object).fillna("")
        frame[column] = cells
    return frame


def from_names(frame: pd.DataFrame, site_from: str = "auto") -> pd.DataFrame:
    """The table with blank times and sites filled in from what names and folders tell; no file is opened.

    Args:
        frame: path, and any other of `COLUMNS`; a column ``unit`` (deployment or number of the recorder) is used up.
    """
    told = pd.Series(site_from != "auto", frame.index)
    for name in ("recorded_at", "site"):
        told |= blank(frame[name]) if name in frame else True
    parts = [split(path) for path in frame["path"][told]]
    named = moments(name.rpartition(".")[0] or name for _, name in parts).set_index(frame.index[told])
    folders = pd.Series([folder for folder, _ in parts], named.index, dtype=object)
    own = frame["recorded_at"].astype(object) if "recorded_at" in frame else pd.Series("", frame.index, dtype=object)
    frame = frame.assign(recorded_at=own.where(~blank(own), named["recorded_at"].reindex(frame.index)))
    frame = add_sites(frame.assign(prefix=named["prefix"], folder=folders), site_from)
    return frame.drop(columns=["prefix", "folder", "unit"], errors="ignore")


def add_sites(frame: pd.DataFrame, site_from: str = "auto") -> pd.DataFrame:
    """With a site for each recording that has none yet.

    Args:
        frame: with ``prefix``, what stands before the time in a file's name, and ``folder``, where sites are missing.
        site_from: ``recorder`` (its deployment or number), ``name`` (what stands before the time), ``folder``; ``auto``: the
            first of these that tells for every recording that can be read; a make and model without a number tell no site.
            All but ``auto`` replace the sites that are there.

    Raises:
        AudiorepError: `site_from` is none of these.
    """
    if site_from not in ("auto", *SITES):
        raise AudiorepError(f"site_from={site_from}: there are auto, {', '.join(SITES)}")
    own = frame["site"].astype(object) if "site" in frame else pd.Series("", frame.index, dtype=object)
    free = blank(own) if site_from == "auto" else pd.Series(True, frame.index)
    if not free.any():
        return frame
    readable = frame["duration_s"][free].notna() if "duration_s" in frame else free[free]
    told_by_all = [name for name in SITES if name != "recorder" or "unit" in frame]
    for name in told_by_all if site_from == "auto" else [site_from]:
        told = pd.Series(SITES[name](frame[free]), frame.index[free], dtype=object)
        if not blank(told[readable]).any():
            break
    log.info("sites of %d recording(s) are taken from the %s", int(free.sum()), name)
    return frame.assign(site=own.where(~free, told.reindex(frame.index)))


def _recorder(frame: pd.DataFrame) -> list[str]:
    column = next((name for name in ("unit", "recorder") if name in frame), None)
    return [""] * len(frame) if column is None else frame[column].fillna("").astype(str).tolist()


def _name(frame: pd.DataFrame) -> list[str]:
    return frame["prefix"].tolist()


def _folder(frame: pd.DataFrame) -> list[str]:
    """The folder's name; where two folders bear one name, with as many of the folders above as tell them apart."""
    parts = {folder: Path(folder).parts for folder in frame["folder"].unique()}
    shown: dict[str, str] = {}
    for depth in range(1, max(map(len, parts.values())) + 1):
        names = {folder: "/".join(above[-depth:]) for folder, above in parts.items() if folder not in shown}
        count = Counter(names.values())
        shown |= {folder: name for folder, name in names.items() if count[name] == 1}
    shown = {folder: folder for folder in parts} | shown
    return frame["folder"].map(shown).tolist()


SITES: dict[str, Callable[[pd.DataFrame], list[str]]] = {
    "recorder": _recorder,
    "name": _name,
    "folder": _folder,
}
"""Where a site's name may come from, in the order in which they are asked."""


def _duration_s(path: str) -> float:
    try:
        return probe(path).duration_s
    except AudioError:
        return float("nan")
