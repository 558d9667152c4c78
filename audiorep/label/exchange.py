"""Labels in and out: earlier ones from a corpus, settled ones as a manifest, Raven tables or Audacity tracks."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from audiorep.data.formats import audacity, raven
from audiorep.data.formats.beside import write_each
from audiorep.data.labels import split_label
from audiorep.data.manifest import Manifest
from audiorep.errors import AudiorepError
from audiorep.label.answer import Answer
from audiorep.label.clips import Clip, Place, add_clips, clip_id, get_clips
from audiorep.label.journal import add_answers, newest
from audiorep.label.settle import Rule, Settled, settled, unanimous
from audiorep.label.store import Store

COLUMNS = ["path", "start_s", "end_s", "label", "group", "low_hz", "high_hz", "channel", "rate_hz", "annotator", "time"]
COLUMNS += ["kind", "settled", "clip"]
WITHOUT_LABEL = ("noise", "unknown")
"""What a column `kind` may say of rows without a label."""


def clips_of(manifest: Manifest, folder: Path) -> list[Clip]:
    """The rows of a corpus as clips, in whole samples as `audiorep.data.windows` cuts them; alike rows are one clip.

    Args:
        folder: of the corpus: paths below it are kept relative, so that store and corpus can move.
    """
    frame, files, root = manifest.frame, manifest.files, folder.resolve()
    rate = frame["path"].map({path: info.rate_hz for path, info in files.items()}).to_numpy(np.int64)
    frames = frame["path"].map({path: info.frames for path, info in files.items()}).to_numpy(np.int64)
    start = np.rint(frame["start_s"].to_numpy(float) * rate).astype(np.int64)
    end = np.rint(frame["end_s"].to_numpy(float) * rate).astype(np.int64)
    end = np.minimum(np.maximum(end, start + 1), frames)
    channel = _numbers(frame, "channel").fillna(0).astype(int)
    short = {path: _relative(path, root) for path in files}
    clips = []
    for i, (path, group) in enumerate(zip(frame["path"], frame["group"], strict=True)):
        place = short[path], int(start[i]), int(end[i]), int(channel.iloc[i])
        clips.append(
            Clip(clip_id(*place), *place[:3], int(rate[i]), place[3], short[path] if group == path else str(group))
        )
    return clips


def kinds_of(frame: pd.DataFrame) -> pd.Series:
    """What rows say by a column `kind`: noise or unknown; else label."""
    return frame.get("kind", pd.Series("label", frame.index)).where(lambda k: k.isin(WITHOUT_LABEL), "label")


def unsaid(frame: pd.DataFrame) -> np.ndarray:
    """[rows] which rows say nothing: no label, nor that there is none to give."""
    return ((frame["label"] == "") & (kinds_of(frame) == "label")).to_numpy(bool)


def import_labels(
    store: Store, manifest: Manifest, folder: Path, annotator: str, several: bool = False
) -> tuple[int, int]:
    """Take over the labels of a corpus as answers of `annotator`; what was imported before is not imported again.

    Rows without a label are left out, but for what a column `kind` calls noise or unknown. Where a column `clip`, as
    `settled_table` writes it, names a clip of the store, the row is about this clip, and its times and frequencies are
    where the call was dragged to. Several rows of one clip are one answer.

    Args:
        folder: of the corpus, as for `clips_of`.
        several: whether cells hold several labels, ``a|b|-c``, -c being absent.

    Returns:
        how many answers are new, and how many were there.

    Raises:
        AudiorepError: several labels in one clip although `several` is false, or one both there and absent.
    """
    manifest = manifest.take(np.flatnonzero(~unsaid(manifest.frame)))
    kinds = kinds_of(manifest.frame).astype(str).tolist()
    clips = clips_of(manifest, folder)
    if "clip" in manifest.frame:
        known = get_clips(store, set(manifest.frame["clip"].astype(str)))
        about = [known.get(str(id), clip) for id, clip in zip(manifest.frame["clip"], clips, strict=True)]
    else:
        about = clips
    low, high = _numbers(manifest.frame, "low_hz"), _numbers(manifest.frame, "high_hz")
    said: dict[Place, Answer] = {}
    for i, clip in enumerate(clips):
        place = about[i].place
        labels = _labels(manifest.frame["label"].iloc[i], several) if kinds[i] == "label" else {}
        moved = clip.place[1:3] != place[1:3]
        boxed = low[i] < high[i] and (low[i] > 0 or high[i] < clip.rate_hz / 2)
        answer = Answer(
            "",
            about[i].id,
            annotator,
            kinds[i],
            labels,
            "import",
            start_s=clip.start_s if moved else None,
            end_s=clip.end_s if moved else None,
            low_hz=float(low[i]) if boxed else None,
            high_hz=float(high[i]) if boxed else None,
        )
        said[place] = _joined(said[place], answer, clip, several) if place in said else answer
    ids = dict(zip((clip.place for clip in about), add_clips(store, about), strict=True))
    answers = [replace(answer, clip=ids[place]) for place, answer in said.items()]
    before = newest(store)
    stored = add_answers(store, [replace(answer, key=_import_key(answer)) for answer in answers])
    new = sum(answer.id > before for answer in stored)
    return new, len(stored) - new


def settled_table(
    store: Store,
    folder: Path,
    rule: Rule = unanimous,
    several: bool = False,
    each: bool = False,
    noise: str = "noise",
) -> pd.DataFrame:
    """The settled answers as rows of a manifest, in order of recording and time; `write_manifest` writes them.

    A row lies where its answer was dragged to, else where the clip lies. What is not settled is left out; what nobody
    could name is a row without a label. Beside the manifest's own columns: annotator (all who say so, joined by |), time,
    kind, settled (how), clip.

    Args:
        folder: of the corpus on this machine.
        rule, several: see `audiorep.label.settle.settle`. With `several` a clip of noise denies all classes: ``-a|-b``.
        each: a row for each call that is there, as selection tables want it, and none for what nobody could name.
        noise: the label of clips without a call; "": none.

    Raises:
        AudiorepError: with `several`, a class that begins with "-", which would be read as absent.
    """
    found, clips, root = settled(store, rule, several), get_clips(store), folder.resolve()
    names = sorted({name for one in found for name in one.labels})
    if several and (bad := next((name for name in names if name.startswith("-")), None)):
        raise AudiorepError(
            f"the class {bad!r} begins with -, which says absent where clips have several labels: rename it"
        )
    rows = []
    for one in found:
        clip, box = clips[one.clip], one.answer
        place = [str(root / clip.path), clip.start_s, clip.end_s] if box.start_s is None else [
            str(root / clip.path), box.start_s, box.end_s]  # fmt: skip
        where = [str(root / clip.path) if clip.group == clip.path else clip.group, box.low_hz, box.high_hz]
        about = [clip.channel or None, clip.rate_hz, "|".join(one.annotators), box.time, one.kind, one.how, clip.id]
        for cell in _cells(one, names, several, each, noise):
            rows.append([*place, cell, *where, *about])
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"channel": "Int64", "low_hz": float, "high_hz": float})
    return table.sort_values(["path", "start_s", "end_s"], kind="stable").reset_index(drop=True)


def write_raven(table: pd.DataFrame, out: Path, folder: Path) -> list[Path]:
    """Write ``NAME.Table.1.selections.txt`` for each recording of a table with a row `each` call.

    Args:
        folder: of the corpus: `out` gets the same folders below it.

    Returns:
        what was written.
    """
    return write_each(table, out, ".Table.1.selections.txt", raven.write_table, folder)


def write_audacity(table: pd.DataFrame, out: Path, folder: Path) -> list[Path]:
    """Write the label track ``NAME.labels.txt`` for each recording; see `write_raven`."""
    return write_each(table, out, ".labels.txt", audacity.write_labels, folder)


def _cells(one: Settled, names: Sequence[str], several: bool, each: bool, noise: str) -> list[str]:
    """The labels of the rows of one clip."""
    if one.kind == "label":
        there, absent = ([name for name in names if one.labels.get(name) is is_there] for is_there in (True, False))
        return there if each else ["|".join([*there, *(f"-{name}" for name in absent if several)])]
    if one.kind == "noise" and several and not each:
        return ["|".join(f"-{name}" for name in names)]
    label = noise if one.kind == "noise" else ""
    return [label] if label or not each else []


def _labels(cell: str, several: bool) -> dict[str, bool]:
    """What one cell says."""
    if several:
        return {name.removeprefix("-"): not name.startswith("-") for name in split_label(cell)}
    if "|" in cell:
        raise AudiorepError(f"the label {cell!r} names several classes: say labels.multilabel=true")
    return {cell: True}


def _joined(first: Answer, again: Answer, clip: Clip, several: bool) -> Answer:
    """Two rows of one clip as one answer."""
    labels = {**first.labels, **again.labels}
    same = first.kind == again.kind and (several or first.labels == again.labels)
    if not same or any(labels[name] != there for name, there in first.labels.items()):
        raise AudiorepError(
            f"{clip.path}, {clip.start_s:g} to {clip.end_s:g} s: rows say both {_words(first)} and {_words(again)}: leave"
            " one, or say labels.multilabel=true where a clip may hold several calls"
        )
    box = ("start_s", "end_s", "low_hz", "high_hz")
    if all(getattr(first, name) == getattr(again, name) for name in box):
        return replace(first, labels=labels)
    return replace(first, labels=labels, start_s=None, end_s=None, low_hz=None, high_hz=None)


def _words(answer: Answer) -> str:
    return ", ".join(name if there else f"not {name}" for name, there in answer.labels.items()) or answer.kind


def _import_key(answer: Answer) -> str:
    """The same for the same statement: what was imported once is known."""
    box = [answer.start_s, answer.end_s, answer.low_hz, answer.high_hz]
    said = [answer.annotator, answer.clip, answer.kind, sorted(answer.labels.items()), box]
    return f"import-{hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]}"


def _numbers(frame: pd.DataFrame, name: str) -> pd.Series:
    """A column as numbers, NaN where there is none."""
    return pd.to_numeric(frame.get(name, pd.Series(np.nan, frame.index)), errors="coerce").astype(float)


def _relative(path: str, root: Path) -> str:
    return Path(path).relative_to(root).as_posix() if Path(path).is_relative_to(root) else path
