"""The manifest: one row a call, or a whole file. Read generously, written strictly.

Columns: path, start_s, end_s (NaN: the whole file), label ("" unlabelled, "a|b" several), group, and whatever else the
table holds (split, site, individual, channel, low_hz ...), kept as it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd

from audiorep.data.audio import AudioInfo, probe
from audiorep.data.expansion import SLOWED, at_true_speed, factors
from audiorep.data.quarantine import list_of, quarantined_paths
from audiorep.errors import AudioError, AudiorepError
from audiorep.files import atomic

PATH_NAMES = ("path", "file", "filename", "file_name")
MEANT = {
    "start_s": ("start", "begin", "begin_s", "onset", "onset_s", "start_time", "begin_time", "start_seconds"),
    "end_s": ("end", "stop", "stop_s", "offset", "offset_s", "end_time", "stop_time", "end_seconds"),
    "label": ("labels",),
}
"""Columns that are missed where they are misspelt, and other names that people give them."""
SLIP = 0.78
"""Names at least so alike (difflib's ratio) are taken for slips: lable and label have .8."""

PAST_END_TOLERANCE_S = 0.05
"""Annotations are often rounded; an end this little past the end of the file is cut, more is an error."""

Progress = Callable[[int, int], None]


@runtime_checkable
class Format(Protocol):
    """An annotation format: one file in `audiorep/data/formats`, one YAML in `configs/format`, one test."""

    def recognises(self, recordings: Path, annotations: Path | None) -> bool:
        """Whether this looks like mine."""

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        """A table with at least `path` (absolute) and whatever of start_s, end_s, label, group the format knows."""

    def describe(self) -> str:
        """What it is, for "read as ...": a few words."""


@dataclass(frozen=True)
class Quarantined:
    """A file or row that is left out, and why."""

    path: str
    row: int | None
    reason: str


@dataclass(frozen=True)
class Manifest:
    """Rows in canonical form, the files behind them, and what was left out."""

    frame: pd.DataFrame
    files: dict[str, AudioInfo]
    quarantined: tuple[Quarantined, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, rows: np.ndarray) -> "Manifest":
        """The same manifest with these rows only."""
        return replace(self, frame=self.frame.iloc[rows].reset_index(drop=True))

    @property
    def durations_s(self) -> np.ndarray:
        """Annotated length of each row, in s."""
        return (self.frame["end_s"] - self.frame["start_s"]).to_numpy(float)

    @property
    def common_rate_hz(self) -> int:
        """The sample rate that most rows have."""
        rates = self.frame["path"].map({path: info.rate_hz for path, info in self.files.items()})
        return int(rates.mode().iloc[0])


def canonical(table: pd.DataFrame, source: Path) -> pd.DataFrame:
    """Bring a table as users write them into canonical form: names, types, absolute paths.

    Raises:
        AudiorepError: no path column, a time that is no number, an end before its start; names file, row and column.
    """
    names = {column: str(column).strip().lower() for column in table.columns}
    table = table.rename(columns=names)
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()][0]
        raise AudiorepError(f"{source}: two columns are called '{twice}'; rename one of them")
    look_for_slips(list(table.columns), source)
    path_name = next((name for name in PATH_NAMES if name in table.columns), None)
    if path_name is None:
        raise AudiorepError(
            f"{source}: no column with the recordings' paths; name one of its columns 'path': "
            f"{', '.join(map(str, table.columns))}"
        )
    table = table.rename(columns={path_name: "path"})
    missing = table["path"].isna() | (table["path"].astype(str).str.strip() == "")
    if missing.any():
        raise AudiorepError(f"{source}: row {_row(missing)}: column '{path_name}' is empty")
    root = source.parent if source.is_file() else source
    if (bad := table["path"].astype(str).str.contains("[\0\r\n]")).any():
        raise AudiorepError(f"{source}: row {_row(bad)}: column '{path_name}' is no path: it goes on over lines")
    table["path"] = [str((root / str(path).strip()).resolve()) for path in table["path"]]
    for name in ("start_s", "end_s"):
        table[name] = _seconds(table, name, source)
    backwards = table["end_s"] <= table["start_s"].fillna(0.0)
    if backwards.any():
        raise AudiorepError(f"{source}: row {_row(backwards)}: end_s is not after start_s")
    if "time_expansion" in table:
        table["time_expansion"] = factors(table, source)
    table["label"] = _text(table, "label", "")
    table["group"] = _text(table, "group", None).where(lambda group: group != "", table["path"])
    first = ["path", "start_s", "end_s", "label", "group"]
    return table[first + [name for name in table.columns if name not in first]].reset_index(drop=True)


def look_for_slips(columns: Sequence[str], source: Path) -> None:
    """Refuse a column whose name is nearly that of one that is missing: rows would silently be other rows.

    Raises:
        AudiorepError: such a column; the message names both.
    """
    for name, others in MEANT.items():
        if name in columns:
            continue
        near = [column for column in columns if column in others] or get_close_matches(name, columns, 1, SLIP)
        if near and near[0] not in MEANT:
            raise AudiorepError(
                f"{source}: there is a column '{near[0]}' and none '{name}': if that is meant, rename it to '{name}'; if "
                "not, give it a name that is less like it"
            )


def scan(frame: pd.DataFrame, progress: Progress | None = None, expanded: bool = False) -> Manifest:
    """Read every file's header once, fill in ends, and leave out what cannot be used, with the reason.

    Args:
        frame: in canonical form. A column `time_expansion` says how many times a file is slowed down, before its GUANO.
        expanded: times and frequencies are those of slowed-down files as they play; they become those of the sound.

    Raises:
        AudiorepError: nothing usable is left.
    """
    paths = list(dict.fromkeys(frame["path"]))
    files: dict[str, AudioInfo] = {}
    out: list[Quarantined] = []
    factor = dict(zip(frame["path"], frame.get("time_expansion", [None] * len(frame)), strict=True))
    for done, path in enumerate(paths, 1):
        try:
            files[path] = probe(path, factor[path])
        except AudioError as error:
            out.append(Quarantined(path, None, str(error).removeprefix(f"{path}: ")))
        if progress:
            progress(done, len(paths))
    if expanded:
        frame = at_true_speed(frame, files)
    duration_s = frame["path"].map({path: info.duration_s for path, info in files.items()}).astype(float)
    start_s = frame["start_s"].fillna(0.0)
    end_s = frame["end_s"].fillna(duration_s)
    past = duration_s.notna() & ((start_s >= duration_s) | (end_s > duration_s + PAST_END_TOLERANCE_S))
    for row in np.flatnonzero(past):
        out.append(
            Quarantined(
                frame["path"].iloc[row],
                int(row),
                f"{start_s.iloc[row]:g} to {end_s.iloc[row]:g} s lies past the end of the file ({duration_s.iloc[row]:g} s)"
                + (SLOWED if files[frame["path"].iloc[row]].time_expansion != 1.0 and not expanded else ""),
            )
        )
    kept = duration_s.notna() & ~past
    if not kept.any():
        first = f"; the first: {out[0].path}: {out[0].reason}" if out else ""
        raise AudiorepError(f"none of the {len(frame)} rows can be used{first}")
    frame = frame.assign(start_s=start_s, end_s=np.minimum(end_s, duration_s))
    return Manifest(frame[kept].reset_index(drop=True), files, tuple(out))


def read_corpus(
    corpus: str | Path,
    format: Format,
    annotations: str | Path | None = None,
    progress: Progress | None = None,
    time_expansion: float | None = None,
    expanded: bool = False,
    key: str = "corpus",
) -> Manifest:
    """Read recordings and annotations in any known format, and scan the files.

    Args:
        corpus: a manifest, or a folder of recordings.
        format: how to read it, mostly `audiorep.data.formats.auto.Auto`.
        annotations: where the annotations are if not beside the recordings.
        time_expansion: how many times all recordings are slowed down, where the table does not say; None: as GUANO tells.
        expanded: see `scan`.
        key: the setting that named it, for messages.
    """
    source = Path(corpus).expanduser().resolve()
    if not source.exists():
        raise AudiorepError(f"{key}={corpus}: no such file or folder")
    beside = Path(annotations).expanduser().resolve() if annotations is not None else None
    if beside is not None and not beside.exists():
        raise AudiorepError(f"annotations={annotations}: no such file or folder")
    table = format.read(source, beside)
    if time_expansion is not None and "time_expansion" not in table:
        table = table.assign(time_expansion=time_expansion)
    table = canonical(table, source)
    if not len(table):
        raise AudiorepError(f"{source}: no rows")
    listed = quarantined_paths(source)
    away = table["path"].isin(listed)
    if away.all():
        raise AudiorepError(
            f"every recording of {source} is on its quarantine list {list_of(source)}: take some off it"
        )
    named = [path for path in dict.fromkeys(table["path"]) if path in listed]
    manifest = scan(table[~away].reset_index(drop=True), progress, expanded)
    left_out = tuple(Quarantined(path, None, f"quarantined: {listed[path]}") for path in named)
    return replace(manifest, quarantined=(*manifest.quarantined, *left_out))


def write_manifest(frame: pd.DataFrame, out: Path) -> None:
    """Write CSV or Parquet by the ending of `out`; paths become relative to it where they can."""
    folder = out.resolve().parent
    table = frame.assign(path=[relative_to(path, folder) for path in frame["path"]])
    with atomic(out) as temporary:
        if out.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")


def write_quarantine(rows: Sequence[Quarantined], out: Path) -> None:
    """Write what was left out, with reasons, as CSV."""
    with atomic(out) as temporary:
        pd.DataFrame([(q.path, q.row, q.reason) for q in rows], columns=["path", "row", "reason"]).to_csv(
            temporary, index=False
        )


def relative_to(path: str, folder: Path) -> str:
    """A path relative to a folder where it can be, else as it is."""
    resolved = Path(path)
    return resolved.relative_to(folder).as_posix() if resolved.is_relative_to(folder) else str(resolved)


def _row(mask: pd.Series) -> int:
    """The first marked row as a person counts it in the file: the header is row 1; the index tells of blank lines."""
    return int(mask.index[np.flatnonzero(mask.to_numpy())[0]]) + 2


def _seconds(table: pd.DataFrame, name: str, source: Path) -> pd.Series:
    if name not in table.columns:
        return pd.Series(np.nan, table.index, dtype=float)
    text = table[name].replace("", np.nan)
    value = pd.to_numeric(text, errors="coerce").astype(float)
    bad = (value.isna() & text.notna()) | (value < 0) | np.isinf(value)
    if bad.any():
        raise AudiorepError(
            f"{source}: row {_row(bad)}: column '{name}' is no time in seconds: {table[name][bad].iloc[0]!r}"
        )
    return value


def _text(table: pd.DataFrame, name: str, default: str | None) -> pd.Series:
    if name not in table.columns:
        return pd.Series("" if default is None else default, table.index, dtype=object)
    return table[name].map(lambda value: "" if pd.isna(value) else str(value).strip()).astype(object)
