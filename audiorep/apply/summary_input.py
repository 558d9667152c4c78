"""What a summary is made of: the folder that detect left, or annotations of any format, and the recordings behind them."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from audiorep.apply.evidence import Evidence, evidence_of
from audiorep.data.formats.folders import find_audio
from audiorep.data.formats.table import TABLES, read_any
from audiorep.data.guano import blank
from audiorep.data.labels import split_label
from audiorep.data.manifest import Format, Progress, canonical, read_corpus
from audiorep.data.moments import wall_clock
from audiorep.data.recordings import COLUMNS, NUMBERS, where_and_when
from audiorep.errors import AudiorepError
from audiorep.files import is_file, read_json

DETECTIONS, RECORDINGS, FACTS = "detections.parquet", "recordings.csv", "detect.json"
THRESHOLDS = "thresholds.json"

log = logging.getLogger(__name__)

Tables = tuple[pd.DataFrame, pd.DataFrame]
"""Detections, and the recordings that were listened to."""


def read_detected(folder: Path, recordings: Path | None, progress: Progress) -> Tables:
    """What `audiorep detect` left in a folder; no recording is opened unless `recordings` is a folder of them."""
    return read_any(folder / DETECTIONS), read_recordings(recordings or folder / RECORDINGS, None, progress)


def read_annotated(
    source: Path, format: Format, annotations: Path | None, recordings: Path | None, progress: Progress
) -> Tables:
    """Annotations of any format; without `recordings` those that they name are what was listened to, and are opened.

    A folder of annotations without sound is read beside the recordings where these are a folder. What the annotations name
    and is not there is taken for the recording of its name, if one alone bears it: sound is not needed.

    Raises:
        AudiorepError: what cannot be read, or annotations without any label.
    """
    if recordings is None:
        manifest = read_corpus(source, format, annotations, progress)
        infos = manifest.files.items()
        known = manifest.frame.drop(columns=["start_s", "end_s"])
        durations = pd.DataFrame([(path, info.duration_s) for path, info in infos], columns=["path", "duration_s"])
        known = pd.concat([durations, known.drop(columns="duration_s", errors="ignore")])
        return labelled(manifest.frame, source), where_and_when(durations["path"].tolist(), known)
    source, beside = source.resolve(), None if annotations is None else annotations.resolve()
    apart = beside is None and source.is_dir() and recordings.is_dir() and not find_audio(source)
    read = format.read(recordings.resolve(), source) if apart else format.read(source, beside)
    frame = canonical(read, source)
    heard = read_recordings(recordings, frame, progress)
    heard["path"] = [str(Path(path).resolve()) for path in heard["path"]]  # as those of annotations are
    frame["path"] = by_name(frame["path"], heard["path"])
    duration_s = frame["path"].map(heard.set_index("path")["duration_s"]).astype(float)
    whole = frame.assign(start_s=frame["start_s"].fillna(0.0), end_s=frame["end_s"].fillna(duration_s))
    return labelled(whole, source), heard


def by_name(paths: pd.Series, known: pd.Series) -> pd.Series:
    """Paths of files that are not there, as the known path of the same name, where one alone bears it; others as they are."""
    names = pd.Series(known.to_numpy(object), [Path(path).name for path in known], dtype=object)
    names = names[~names.index.duplicated(keep=False)]
    stray = set(paths) - set(known)
    lost = [path for path in stray if Path(path).name in names and not is_file(Path(path))]
    return paths.replace({path: names[Path(path).name] for path in lost})


def labelled(frame: pd.DataFrame, source: Path) -> pd.DataFrame:
    """A row for each label of the rows that have one: "a|b" are two calls.

    Raises:
        AudiorepError: no row has one.
    """
    rows = frame[frame["label"] != ""]
    if not len(rows):
        raise AudiorepError(
            f"detections={source}: no row has a label: name the annotations, or the folder that detect left"
        )
    return rows.assign(label=rows["label"].map(split_label)).explode("label", ignore_index=True)


def read_recordings(source: Path, known: pd.DataFrame | None, progress: Progress) -> pd.DataFrame:
    """The recordings that were listened to: a table of them, or all that are in a folder.

    Args:
        known: columns that hold more of those in a folder; see `where_and_when`.

    Raises:
        AudiorepError: no such table or folder, or nothing in it.
    """
    if source.is_dir():
        paths = [path.resolve() for path in find_audio(source)]
        if not paths:
            raise AudiorepError(f"recordings={source}: no recordings there that can be decoded")
        table = where_and_when(paths, known, progress=progress)
        return table.assign(status=["failed" if missing else "done" for missing in table["duration_s"].isna()])
    if not source.is_file():
        raise AudiorepError(
            f"recordings={source}: no such table or folder; it names what was listened to, with path and duration_s"
        )
    table = read_any(source)
    table.columns = pd.Index([str(name).strip().lower() for name in table.columns])
    return table.assign(path=absolute(table, source)).replace("", float("nan"))


def absolute(table: pd.DataFrame, source: Path) -> pd.Series:
    """The column `path`, relative to the table.

    Raises:
        AudiorepError: no such column.
    """
    if "path" not in table:
        raise AudiorepError(f"{source}: no column 'path'; there are: {', '.join(map(str, table.columns))}")
    folder = source.resolve().parent
    return table["path"].map({name: str(folder / str(name).strip()) for name in table["path"].unique()})


def with_times(recordings: pd.DataFrame, source: Path) -> pd.DataFrame:
    """The recordings with what a table tells of them: recorded_at, site, lat, lon, recorder; its cells count before others.

    Its column `path` is absolute, relative to the table, or the bare name of a file where no two recordings share it.

    Raises:
        AudiorepError: a table that cannot be read or tells nothing, a time that is none, a recording that is named twice,
            no recording that is among ours.
    """
    if not source.is_file() or source.suffix.lower() not in TABLES:
        raise AudiorepError(f"times={source}: no such table (.csv, .tsv, .parquet)")
    told = read_any(source)
    told.columns = pd.Index([str(name).strip().lower() for name in told.columns])
    columns = [name for name in COLUMNS[2:] if name in told]
    if "path" not in told or not columns:
        raise AudiorepError(
            f"{source}: a table of times has the columns path and recorded_at (or {', '.join(COLUMNS[3:])})"
        )
    if "recorded_at" in told:
        bad = wall_clock(told["recorded_at"])["wall"].isna() & ~blank(told["recorded_at"])
        if bad.any():
            at = int(bad.to_numpy().argmax())
            raise AudiorepError(
                f"{source}: row {told.index[at] + 2}: recorded_at={told['recorded_at'].iloc[at]!r} is no date and time: "
                "write 2023-05-14T06:30:00, with an offset from UTC (+02:00) if it is known"
            )
    ours = pd.Series(recordings["path"].to_numpy(object), recordings["path"], dtype=object)
    names = pd.Series(ours.to_numpy(), [Path(path).name for path in ours], dtype=object)
    shared = names.index.duplicated(keep=False)
    path = absolute(told, source).map(ours).astype(object)
    if (several := path.isna() & told["path"].isin(names.index[shared])).any():
        at = int(several.to_numpy().argmax())
        raise AudiorepError(
            f"{source}: row {told.index[at] + 2}: several recordings are called {told['path'].iloc[at]}: give the path"
        )
    path = path.where(path.notna(), told["path"].map(names[~shared]))
    if not path.notna().any():
        raise AudiorepError(f"{source}: none of its paths is among the recordings, the first: {told['path'].iloc[0]}")
    if unknown := int(path.isna().sum()):
        log.warning("%s: %d of %d rows are of other recordings", source, unknown, len(told))
    told = told.assign(path=path)[path.notna()]
    if (twice := told["path"].duplicated()).any():
        at = int(twice.to_numpy().argmax())
        raise AudiorepError(f"{source}: row {told.index[at] + 2}: {told['path'].iloc[at]} is named twice")
    out = recordings.copy()
    for name in columns:
        cells = told.set_index("path")[name].astype(object)
        new = out["path"].map(cells[~blank(cells)])
        own = out[name].astype(object) if name in out else None
        merged = new if own is None else new.where(new.notna(), own)
        out[name] = pd.to_numeric(merged, errors="coerce") if name in NUMBERS else merged
    return out


def read_evidence(folder: Path, thresholds: Path | None) -> Evidence:
    """What is known of the detector: by the ``detect.json`` in the folder that detect left, if it is one, and by a model's
    ``thresholds.json`` or the folder that holds it, which counts before the thresholds that detect used.

    Raises:
        AudiorepError: no such file, or not of this form.
    """
    facts = read_json(folder / FACTS) if (folder / FACTS).is_file() else {}
    if not isinstance(facts, dict):
        raise AudiorepError(f"{folder / FACTS}: this is not what audiorep detect left there")
    return evidence_of(None if thresholds is None else read_marks(thresholds), facts, folder if facts else None)


def read_marks(source: Path) -> dict[str, Any]:
    """The content of a ``thresholds.json``, as far as a summary needs it: its table ``classes``.

    Raises:
        AudiorepError: no such file, or not of this form.
    """
    path = source / THRESHOLDS if source.is_dir() else source
    classes = content.get("classes") if isinstance(content := read_json(path), dict) else None
    if not isinstance(classes, dict) or not all(isinstance(one, dict) for one in classes.values()):
        raise AudiorepError(f"{path}: no thresholds of a model: there is no table 'classes' in it")
    return dict(content)
