"""Clips as ANIMAL-SPOT names them: ``CLASS-INFO_ID_YEAR_TAPE_STARTMS_ENDMS.wav``, times in ms on the tape."""

import re
from pathlib import Path

import pandas as pd

from audiorep.data.formats.cells import column_of, number_of
from audiorep.data.formats.clips import write_clips
from audiorep.data.formats.folders import find_audio
from audiorep.errors import AudiorepError

NAME = re.compile(
    r"(?P<label>[^-_]+)(?:-(?P<info>.*))?_(?P<id>[^_]+)_(?P<year>[0-9]{4})_(?P<tape>[^_]+)_(?P<start>[0-9]{1,15})_(?P<end>[0-9]{1,15})"
)
ROUNDED_S = 0.002
"""Times in ms are so far off the clip's length at most."""

EXPECTED = "CLASS-INFO_ID_YEAR_TAPE_STARTMS_ENDMS"


class AnimalSpot:
    """A folder of clips named like ANIMAL-SPOT's. The tape of a year is the group; the clip's place on it is kept."""

    def describe(self) -> str:
        return f"clips of ANIMAL-SPOT ({EXPECTED})"

    def recognises(self, recordings: Path, annotations: Path | None) -> bool:
        if annotations is not None or not recordings.is_dir():
            return False
        found = find_audio(recordings)
        return bool(found) and all(NAME.fullmatch(path.stem) for path in found)

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        rows = []
        for path in find_audio(recordings) if recordings.is_dir() else [recordings]:
            match = NAME.fullmatch(path.stem)
            if match is None:
                raise AudiorepError(f"{path}: its name is not {EXPECTED}; rename it or say format=recordings")
            label, info, clip, year, tape, start, end = match.groups()
            group = f"{year}_{tape}"
            rows.append([str(path), label, group, info or "", clip, year, tape, int(start) / 1000, int(end) / 1000])
        columns = ["path", "label", "group", "info", "id", "year", "tape", "tape_start_s", "tape_end_s"]
        return pd.DataFrame(rows, columns=columns)


def write(frame: pd.DataFrame, out: Path) -> list[Path]:
    """Cut each labelled row out of its recording as a clip in the folder `out`; returns the clips.

    Args:
        frame: path, start_s, end_s, label, and where known info, id, year, tape, tape_start_s, tape_end_s; without them the
            row's number, the year of ``recorded_at`` or 0000, the recording's name, and the row's own times.

    Raises:
        AudiorepError: a label or tape that such a name cannot hold, or a clip that cannot be read or written.
    """
    frame = frame[frame["label"] != ""].reset_index(drop=True)
    stems = pd.Series([re.sub(r"[_/\\]", "-", Path(path).stem) for path in frame["path"]], frame.index, dtype=object)
    tape = column_of(frame, "tape", "").where(lambda cell: cell != "", stems)
    year = column_of(frame, "year", "").where(
        lambda cell: cell != "", column_of(frame, "recorded_at", "").astype(str).str[:4]
    )
    year = year.astype(str).where(year.astype(str).str.fullmatch(r"[0-9]{4}"), "0000")
    number = pd.Series([str(i + 1) for i in range(len(frame))], frame.index, dtype=object)
    clip, info = column_of(frame, "id", "").where(lambda cell: cell != "", number), column_of(frame, "info", "")
    names: dict[str, str] = {}
    for label, about, own, *rest in zip(frame["label"], info, clip, year, tape, *_on_tape(frame), strict=True):
        name, count = _name(out, label, about, own, *rest), 1
        while name.casefold() in names:
            name, count = _name(out, label, about, f"{own}-{count + 1}", *rest), count + 1
        names[name.casefold()] = name
    return write_clips(frame, out, ["."] * len(names), list(names.values()))


def _name(out: Path, label: str, info: object, *rest: object) -> str:
    name = f"{label}{f'-{info}' if info != '' else ''}_{'_'.join(map(str, rest))}"
    match = NAME.fullmatch(name)
    if match is None or match["label"] != label or "/" in name or "\0" in name:
        raise AudiorepError(
            f"{out}: {name!r} is not {EXPECTED}: the class may hold no -, _ or /, ID and TAPE no _ or /"
        )
    return name


def _on_tape(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Begin and end of each row on its tape, in ms; of a whole clip those that its name had."""
    first, last = number_of(frame, "tape_start_s"), number_of(frame, "tape_end_s")
    start, end = number_of(frame, "start_s").fillna(0.0), number_of(frame, "end_s")
    whole = last.notna() & ~(end < last - first - ROUNDED_S)
    stop = (first.fillna(0.0) + end.fillna(start)).where(~whole, last)
    return tuple((time * 1000).round().astype("int64") for time in (first.fillna(0.0) + start, stop))  # type: ignore[return-value]
