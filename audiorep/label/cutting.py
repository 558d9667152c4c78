"""Long recordings that nobody has annotated, cut into clips that are short enough to be asked about."""

import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from omegaconf import DictConfig

from audiorep.build import Corpus
from audiorep.errors import AudiorepError
from audiorep.label.clips import Clip, get_clips
from audiorep.label.exchange import unsaid
from audiorep.label.settle import current
from audiorep.label.store import Store

log = logging.getLogger(__name__)

LONG = 2
"""An unlabelled row that is longer than so many clips is cut."""

MOST = 1_000_000
"""Clips that a desk is to choose from."""

LONGEST_WINDOW_S = 5.0
"""As of the windows that are chosen for a corpus."""


def length_of(cfg: DictConfig) -> float | None:
    """Length of the clips, in s; None: nothing is cut. `auto` is the window, which has to be chosen by now.

    Raises:
        AudiorepError: no length.
    """
    value = cfg.window.length_s if cfg.clip_s == "auto" else cfg.clip_s
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < math.inf:
        raise AudiorepError(f"clip_s={cfg.clip_s}: a length in s above 0, auto, or null for none is needed")
    return float(value)


def settle_window(cfg: DictConfig) -> None:
    """Without a model, `window.length_s=auto` is what the clips are, where that is said.

    Raises:
        AudiorepError: as `length_of`.
    """
    if cfg.clip_s == "auto" or (length_s := length_of(cfg)) is None:
        return
    if cfg.model is None and cfg.window.length_s == "auto":
        cfg.window.length_s = min(length_s, LONGEST_WINDOW_S)


def cut(corpus: Corpus, length_s: float | None, unit: str = "windows") -> Corpus:
    """The corpus with every unlabelled row that is longer than `LONG` clips cut into clips side by side; the last one ends
    where the row does, over the one before it if need be. Clips begin on whole samples of the recording, and take over what
    the corpus says of their row, its side of the split too. Other rows stay as they are.

    Args:
        length_s: of a clip; None: the corpus as it is.
        unit: what the clips are as long as, for the log.

    Raises:
        AudiorepError: more than `MOST` clips.
    """
    if length_s is None:
        return corpus
    frame, files = corpus.manifest.frame, corpus.manifest.files
    rate = frame["path"].map({path: info.rate_hz for path, info in files.items()}).to_numpy(float)
    start, end = (np.rint(frame[name].to_numpy(float) * rate) for name in ("start_s", "end_s"))
    length = np.maximum(1.0, np.rint(length_s * rate))
    long = unsaid(frame) & (end - start > LONG * length)
    pieces = np.where(long, np.ceil((end - start) / length), 1.0)
    if pieces.sum() > MOST:
        raise AudiorepError(
            f"clips of {length_s:g} s would be {pieces.sum():,.0f}, and {MOST:,} is the most to choose from: raise clip_s,"
            " or name a corpus of fewer recordings"
        )
    if not long.any():
        return corpus
    counts = pieces.astype(np.int64)
    rows = np.repeat(np.arange(len(frame)), counts)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = np.minimum(start[rows] + number * length[rows], end[rows] - length[rows])
    manifest = corpus.manifest.take(rows)
    start_s = np.where(long[rows], first / rate[rows], manifest.frame["start_s"])
    end_s = np.where(long[rows], (first + length[rows]) / rate[rows], manifest.frame["end_s"])
    manifest = replace(manifest, frame=manifest.frame.assign(start_s=start_s, end_s=end_s))
    train, test = (np.flatnonzero(np.isin(rows, side)) for side in (corpus.split.train, corpus.split.test))
    log.info(
        "%s rows longer than %d %s cut into %s clips of %g s",
        f"{long.sum():,}", LONG, unit, f"{counts[long].sum():,}", length_s,
    )  # fmt: skip
    return replace(
        corpus, manifest=manifest, truth=corpus.truth[rows], split=replace(corpus.split, train=train, test=test)
    )


def check_begun(store: Store, rows: Sequence[Clip], clips: Sequence[Clip], length_s: float | None) -> None:
    """Refuse to cut rows otherwise than they were when the page was answered: those answers would be about other clips.

    Args:
        rows: without a label, as the corpus has them. clips: what is asked about. length_s: of what is cut; None: nothing is.

    Raises:
        AudiorepError: such an answer; says how long its clip is.
    """
    now = {clip.place for clip in clips}
    answered = {one.clip for one in current(store) if one.source == "page" and one.kind != "skip"}
    others = [clip for clip in get_clips(store, answered).values() if clip.place not in now]
    spans = defaultdict(list)
    for row in rows if others else ():
        spans[row.path, row.channel].append((row.start, row.end))
    for clip in sorted(others, key=lambda one: one.place):
        mine, count = spans[clip.path, clip.channel], clip.end - clip.start
        inside = any(first <= clip.start and clip.end <= last for first, last in mine)
        if inside and (length_s is None or count != round(length_s * clip.rate_hz)):
            whole = (clip.start, clip.end) in mine
            was = "null" if whole else f"{count / clip.rate_hz:.6g}"
            raise AudiorepError(
                f"label store {store.name}: {clip.path} was answered {'as a whole' if whole else f'in clips of {was} s'}, and"
                f" now it is {'not cut' if length_s is None else f'cut into clips of {length_s:g} s'}: say clip_s={was} to"
                " go on, or name another out= or store="
            )
