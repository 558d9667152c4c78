"""All other formats of the crowsetta library (TextGrid, TIMIT, evsonganaly's not.mat ...), by the names it gives them."""

from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any
from warnings import catch_warnings

import numpy as np
import pandas as pd

from audiorep.data.formats.beside import Found, find_recordings, gathered, rates_hz, recording_of
from audiorep.data.formats.cells import stretch
from audiorep.data.formats.folders import files_of, holds
from audiorep.data.formats.generic_seq import GenericSeq
from audiorep.data.formats.simple_seq import SimpleSeq
from audiorep.data.manifest import Format
from audiorep.errors import AudiorepError

OWN: Mapping[str | None, Callable[..., Format]] = {"generic-seq": GenericSeq, "simple-seq": SimpleSeq}
"""What we read ourselves, without the library."""

TELLING = {".not.mat": "notmat", ".textgrid": "textgrid", ".phn": "timit"}
"""Endings that tell the format."""

EXACT = {"round_times": False}
"""What the library is asked for where it can: it would round times to ms."""

COLUMNS = ["path", "start_s", "end_s", "label", "low_hz", "high_hz", "tier"]


class Crowsetta:
    """Recordings with annotations of a format of crowsetta beside them or in `annotations`.

    Args:
        name: crowsetta's name of the format; None: by the file's ending, where it tells.
        options: further arguments of the format's ``from_file`` and ``to_annot``, as ``annot_col`` of raven, ``tier`` of
            textgrid.
        unannotated: keep recordings without annotations, as unlabelled rows.
    """

    def __init__(
        self, name: str | None = None, options: Mapping[str, Any] | None = None, unannotated: bool = True
    ) -> None:
        self.name, self.options, self.unannotated = name, dict(options or {}), unannotated

    def describe(self) -> str:
        return f"crowsetta's {self.name or ', '.join(sorted(set(TELLING.values())))}"

    def recognises(self, recordings: Path, annotations: Path | None) -> bool:
        return holds(annotations or recordings, TELLING, _tells)

    def read(self, recordings: Path, annotations: Path | None) -> pd.DataFrame:
        if self.name in OWN and not self.options:
            own: Format = OWN[self.name](unannotated=self.unannotated)
            return own.read(recordings, annotations)
        library = _library()
        names = library.formats.as_list()
        if self.name is not None and self.name not in names:
            raise AudiorepError(f"format.name={self.name}: crowsetta knows {', '.join(names)}")
        source, found = annotations or recordings, find_recordings(recordings)
        endings = _endings(library, self.name) if self.name is not None else tuple(TELLING)
        paths = files_of(source, endings)
        if not paths:
            raise AudiorepError(f"{source}: no file ends in {' or '.join(endings)}")
        return gathered((self._read(library, path, found) for path in paths), found, self.unannotated)

    def _read(self, library: ModuleType, path: Path, found: Found) -> pd.DataFrame:
        name = self.name or TELLING.get(next((end for end in TELLING if path.name.lower().endswith(end)), ""))
        if name is None:
            raise AudiorepError(f"{path}: its ending does not tell the format; say format.name=NAME")
        try:  # the library raises whatever comes
            kind = library.formats.by_name(name)
            later = signature(kind.to_annot).parameters
            with catch_warnings(action="ignore"):
                opened = kind.from_file(path, **{key: value for key, value in self.options.items() if key not in later})
                annotated = opened.to_annot(**{key: v for key, v in (EXACT | self.options).items() if key in later})
            rows = [row for one in (annotated if isinstance(annotated, list) else [annotated]) for row in _rows(one)]
        except Exception as error:
            raise AudiorepError(
                f"{path}: crowsetta cannot read it as {name}: {type(error).__name__}: {error}".replace("\n", " ")[:500]
            ) from error
        parts = []
        table = pd.DataFrame(rows, columns=[*COLUMNS, "onset_sample", "offset_sample"])
        for notated in dict.fromkeys(table["path"]) if len(table) else [""]:
            part = table[table["path"] == notated]
            parts.append(part.assign(path=_recording(found, notated, path)))
        return _in_seconds(pd.concat(parts), path)


def _library() -> ModuleType:
    try:
        import crowsetta
    except ImportError as error:
        raise AudiorepError(
            "annotations of a crowsetta format need its library: pip install 'audiorep[crowsetta]', or say format=recordings"
        ) from error
    return crowsetta


def _endings(library: ModuleType, name: str) -> tuple[str, ...]:
    endings = library.formats.by_name(name).ext
    return tuple(end.lower() for end in ((endings,) if isinstance(endings, str) else endings))


def _tells(path: Path) -> bool:
    return path.name.lower().endswith(tuple(TELLING))


def _rows(annotation: Any) -> Iterator[tuple[Any, ...]]:
    """Path, onset and offset (s), label, low and high (Hz), tier, onset and offset (samples); NaN: not told."""
    path, content = str(annotation.notated_path or ""), vars(annotation)
    for box in content.get("bboxes", []):
        yield (path, box.onset, box.offset, box.label, box.low_freq, box.high_freq, 0, np.nan, np.nan)
    sequences = content.get("seq", [])
    for tier, sequence in enumerate(sequences if isinstance(sequences, list) else [sequences]):
        for one in sequence.segments:
            times = (np.nan if time is None else time for time in (one.onset_s, one.offset_s))
            samples = (np.nan if sample is None else sample for sample in (one.onset_sample, one.offset_sample))
            yield (path, *times, one.label, np.nan, np.nan, tier, *samples)


def _recording(found: Found, notated: str, source: Path) -> str:
    """The recording that the annotations name, where it is there; else the one whose name the file bears."""
    name = notated.replace("\\", "/").rsplit("/", 1)[-1]
    if len(named := found.by_name.get(name.lower(), [])) == 1:
        return str(named[0])
    try:
        return recording_of(found, source, "the recording's name before the ending")
    except AudiorepError:
        if not name:
            raise
        return str(found.root / name)


def _in_seconds(table: pd.DataFrame, source: Path) -> pd.DataFrame:
    """Times in s also where only samples are told; segments of no length, as TextGrids have, are left out."""
    table = table.reset_index(drop=True)
    times = {}
    rate = table["path"].map(rates_hz(table["path"][table["start_s"].isna() | table["end_s"].isna()])).astype(float)
    for name, sample in (("start_s", "onset_sample"), ("end_s", "offset_sample")):
        times[name] = table[name].astype(float).fillna(table[sample].astype(float) / rate)
    table = table.assign(**times)
    table = table[table["start_s"] != table["end_s"]]
    start, end = stretch(table[table["start_s"].notna()], source, "onset_s", "offset_s")
    told = {name: bool(table[name].notna().any()) for name in ("low_hz", "high_hz")}
    told["tier"] = table["tier"].nunique() > 1
    return table.assign(start_s=start, end_s=end)[[name for name in COLUMNS if told.get(name, True)]]
