"""Which recording an annotation belongs to: by the annotation file's name, or by a path written on another machine."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import pandas as pd

from audiorep.data.audio import is_audio, probe
from audiorep.data.formats.folders import find_audio
from audiorep.errors import AudioError, AudiorepError
from audiorep.files import is_file


@dataclass(frozen=True)
class Found:
    """The recordings of a corpus, by name and by name without ending, whatever their case."""

    root: Path
    paths: tuple[Path, ...]
    by_name: Mapping[str, Sequence[Path]]
    by_stem: Mapping[str, Sequence[Path]]


def find_recordings(recordings: Path) -> Found:
    """The recordings in a folder, beside a table, or the one given."""
    root = recordings if recordings.is_dir() else recordings.parent
    paths = (recordings,) if is_audio(recordings) else tuple(find_audio(root))
    return Found(root, paths, _index(paths, lambda path: path.name), _index(paths, lambda path: path.stem))


def recording_of(found: Found, source: Path, example: str) -> str:
    """The recording that an annotation file's name points to; of several of that name the one whose folders agree best.

    ``NAME.Table.1.selections.txt`` points to ``NAME.wav``: endings are taken off until a recording is found.

    Args:
        example: names that were expected, for the error.

    Raises:
        AudiorepError: none of that name, or several and nothing tells which is meant.
    """
    stem = source.name.lower()
    while stem:
        stem = stem.rpartition(".")[0]
        if near := nearest(found.by_stem.get(stem, []), source):
            return str(near)
    raise AudiorepError(f"{source}: no recording of that name; expected {example}")


def recording_named(found: Found, written: str, source: Path, whole: str | None = None) -> str:
    """The recording that an annotation file names, perhaps by a path of another machine.

    One of the corpus counts first, then what lies at `written` beside the annotation file, then what lies at `whole`.

    Args:
        written: its name or path, with / or \\.
        whole: its path where `written` is only a name: tells recordings of one name apart.

    Returns:
        the path; of a recording that nobody has, where it would lie.

    Raises:
        AudiorepError: several of that name, and nothing tells which is meant.
    """
    name = written.replace("\\", "/").rsplit("/", 1)[-1]
    if near := nearest(found.by_name.get(name.lower(), []), source, (whole or written).replace("\\", "/")):
        return str(near)
    elsewhere = [source.parent / place.strip() for place in (written, whole or written)]
    there = [place for place in elsewhere if name and is_file(place)]
    return str(there[0] if there else found.root / name)


def nearest(paths: Sequence[Path], source: Path, tail: str | None = None) -> Path | None:
    """Of recordings of one name the one whose folders agree with `tail`, or the one beside the table; None of none.

    Args:
        source: the annotation file.
        tail: the recording's path on another machine; None: it lies in folders like those of the annotation file.

    Raises:
        AudiorepError: several of that name, and nothing tells which is meant.
    """

    def agreement(path: Path) -> tuple[int, bool]:
        parts = path.parent.parts if tail is None else path.parts
        wanted = source.parent.parts if tail is None else tail.split("/")
        ends = zip(reversed(parts), reversed(wanted), strict=False)
        return sum(
            1 for _ in takewhile(lambda pair: pair[0].lower() == pair[1].lower(), ends)
        ), path.parent == source.parent

    if len(paths) < 2:
        return paths[0] if paths else None
    best = max(map(agreement, paths))
    near = [path for path in paths if agreement(path) == best]
    if len(near) > 1:
        raise AudiorepError(
            f"{source}: {len(near)} recordings are called {near[0].name} ({near[0]}, {near[1]}); "
            "put the table beside the one it belongs to"
        )
    return near[0]


def rates_hz(paths: Iterable[str]) -> dict[str, float]:
    """The recordings' sample rates; NaN of those that cannot be read: they are left out later, with the reason."""
    out = {}
    for path in dict.fromkeys(paths):
        try:
            out[path] = float(probe(path).rate_hz)
        except AudioError:
            out[path] = float("nan")
    return out


def gathered(parts: Iterable[pd.DataFrame], found: Found, unannotated: bool) -> pd.DataFrame:
    """Tables of several annotation files as one; recordings that none of them names are unlabelled rows, if wanted."""
    all_parts = [pd.DataFrame({"path": [], "label": []}, dtype=object), *parts]
    annotated = {path for part in all_parts for path in part["path"]}
    if unannotated:
        rest = [str(path) for path in found.paths if str(path) not in annotated]
        all_parts.append(pd.DataFrame({"path": rest, "label": ""}, dtype=object))
    return pd.concat(all_parts, ignore_index=True)


def write_each(
    frame: pd.DataFrame, out: Path, ending: str, write: Callable[[pd.DataFrame, Path], object], root: Path | None = None
) -> list[Path]:
    """Write one file a recording, ``NAME`` + `ending`, in the same folders below `out` as the recordings have below `root`.

    Args:
        root: of the corpus; None: the folder that holds all recordings of the frame.

    Returns:
        what was written; recordings that differ in nothing but their ending keep it in the name, those outside the root
        are below ``elsewhere``.
    """
    paths = sorted(set(frame["path"].astype(str)))
    top = root.resolve() if root else Path(os.path.commonpath([str(Path(path).parent) for path in paths] or [str(out)]))
    stems = [Path(path).with_suffix("") for path in paths]
    written = []
    for path, stem in zip(paths, stems, strict=True):
        named = Path(path) if stems.count(stem) > 1 else stem
        inside = named.relative_to(top) if named.is_relative_to(top) else Path("elsewhere", *named.parts[1:])
        target = out / inside.parent / f"{inside.name}{ending}"
        write(frame[frame["path"].astype(str) == path], target)
        written.append(target)
    return written


def _index(paths: Sequence[Path], name: Callable[[Path], str]) -> dict[str, list[Path]]:
    out: dict[str, list[Path]] = {}
    for path in paths:
        out.setdefault(name(path).lower(), []).append(path)
    return out
