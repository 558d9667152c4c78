"""Rows are recordings annotated throughout: what sounds at every moment is learned, and judged call by call."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from audiorep import build
from audiorep.data.annotated import Annotated
from audiorep.data.budget import hold_out
from audiorep.data.labels import split_label
from audiorep.data.manifest import Manifest
from audiorep.data.windows import Windows
from audiorep.errors import AudiorepError
from audiorep.evaluate.events import Tolerance
from audiorep.known import Known
from audiorep.model import Model
from audiorep.tasks.base import Trained
from audiorep.verdict_frames import customary, judge_frames

log = logging.getLogger(__name__)


class Frames:
    """Recordings with at least one annotation, each of which is taken to be annotated from its first to its last sample.

    A recording in which nothing calls is made known by a row with a label of background (`data.background`), which is no
    class here.

    Args:
        onset_s, iou: what counts as found, see `audiorep.evaluate.events.Tolerance`.

    Raises:
        AudiorepError: fewer than two recordings are annotated, one stands on both sides of the split, or a budget of
            labels is asked for that would leave calls of a recording out.
    """

    def __init__(self, onset_s: float = 0.01, iou: float = 0.5) -> None:
        self.tolerance = Tolerance(onset_s, iou)
        self.calls = pd.DataFrame()
        self.classes: list[str] = []

    def corpus(self, cfg: DictConfig, corpus: build.Corpus) -> build.Corpus:
        if cfg.labels_per_class is not None:
            raise AudiorepError(
                "labels_per_class= would take annotated calls for background: with objective=frames say label_fraction=, "
                "the part of the recordings that is used"
            )
        if cfg.chosen.resampler != "none":
            raise AudiorepError(
                "resampler= draws calls, and objective=frames learns from whole recordings: leave it out"
            )
        frame = corpus.manifest.frame
        side = np.full(len(frame), 2)
        side[corpus.split.train], side[corpus.split.test] = 0, 1
        calls = frame.assign(side=side)[corpus.labelled].reset_index(drop=True)
        sides = calls.groupby("path")["side"].agg(["min", "max"])
        if len(cut := sides.index[sides["min"] != sides["max"]]):
            raise AudiorepError(
                f"{len(cut)} recording(s) have calls on both sides of the split, the first: {cut[0]}: with objective=frames "
                "split by the recording or by what lies above it (split.by=group, site, individual ...)"
            )
        if len(sides) < 2:
            raise AudiorepError("objective=frames needs at least two annotated recordings")
        rows = calls.groupby("path", sort=False).agg(group=("group", "first"), side=("side", "first")).reset_index()
        if cfg.labels.multilabel:
            calls = calls.assign(label=calls["label"].map(split_label)).explode("label", ignore_index=True)
            calls = calls[~calls["label"].str.startswith("-")]
        calls = calls[~calls["label"].str.lower().isin(list(cfg.data.background))].reset_index(drop=True)
        self.calls, self.classes = calls, sorted(calls["label"].unique())
        lengths_s = rows["path"].map({path: info.duration_s for path, info in corpus.manifest.files.items()})
        rows = rows.assign(start_s=0.0, end_s=lengths_s, label="")
        manifest = Manifest(rows.drop(columns="side"), corpus.manifest.files, corpus.manifest.quarantined)
        train, test = (np.flatnonzero(rows["side"] == which) for which in (0, 1))
        if cfg.label_fraction is not None:
            order = np.random.default_rng([cfg.seed, 14]).permutation(train)
            train = np.sort(order[: max(1, round(cfg.label_fraction * len(train)))])
        split = replace(corpus.split, train=train, test=test)
        silent = frame["path"].nunique() - len(rows)
        notes = [*corpus.notes, f"{len(rows)} recordings are taken to be annotated from beginning to end"]
        if silent:
            notes.append(
                f"{silent} recording(s) without any label take no part; where nothing calls in them, say so by a row "
                f"labelled {cfg.data.background[0]}"
            )
            log.warning("%s", notes[-1])
        present = np.zeros((len(rows), len(self.classes)), np.float32)
        at = pd.Index(rows["path"]).get_indexer(pd.Index(calls["path"]))
        present[at, pd.Index(self.classes).get_indexer(pd.Index(calls["label"]))] = 1.0
        return replace(corpus, manifest=manifest, split=split, classes=self.classes, truth=present, notes=notes)

    def known(self, cfg: DictConfig, corpus: build.Corpus) -> Known:
        if cfg.calibration.folds is not None or cfg.calibration.answers is not None:
            raise AudiorepError(
                "calibration.folds= and calibration.answers= deal out labelled calls, and objective=frames keeps back whole "
                "recordings: use calibration.fraction="
            )
        frame, train = corpus.manifest.frame, corpus.split.train
        taught = corpus.truth[train].any(0)
        kept = np.flatnonzero(taught)
        notes = [
            f"class '{name}' has no call on the training side: it cannot be learned"
            for name, known in zip(corpus.classes, taught, strict=True)
            if not known
        ]
        self.classes = [corpus.classes[int(c)] for c in kept]
        named = np.flatnonzero(
            build.rows_where(frame, cfg.calibration.column, cfg.calibration.rows, "calibration.column")
        )
        held = np.intersect1d(named, train)
        if cfg.calibration.column is None:
            held = self.hold_out(cfg, corpus)
        for note in notes:
            log.warning("%s", note)
        return Known(self.classes, corpus.truth[:, kept], np.setdiff1d(train, held), held, notes)

    def hold_out(self, cfg: DictConfig, corpus: build.Corpus) -> np.ndarray:
        """Recordings of the training side that calibrate: whole groups, about `calibration.fraction` of the calls."""
        frame, train = corpus.manifest.frame, corpus.split.train
        group = frame["group"].iloc[train].to_numpy(dtype=str)
        if len(np.unique(group)) < 3:
            log.info("nothing is held out to calibrate: fewer than three groups of recordings")
            return train[:0]
        here = pd.Index(frame["path"].iloc[train]).get_indexer(pd.Index(self.calls["path"]))
        calls = np.flatnonzero(here >= 0)
        truth = pd.Index(corpus.classes).get_indexer(pd.Index(self.calls["label"]))
        of_call = group[here.clip(0)]
        _, rows, reason = hold_out(
            calls, truth, of_call, len(corpus.classes), cfg.calibration.fraction, cfg.calibration.least, cfg.seed
        )
        if reason:
            log.info("nothing is held out to calibrate: %s", reason)
        return train[np.isin(group, of_call[rows])]

    def facts(self, windows: Windows, model: Model) -> dict[str, Any]:
        annotated = self.annotated(windows.paths[windows.path_of], windows.rate_hz)
        samples = int(((windows.last - windows.first) * (windows.rate_hz / windows.source_hz[windows.path_of])).sum())
        return {"annotated": annotated, "samples": samples, "hop_samples": model.frontend.hop_samples}

    def annotated(self, paths: np.ndarray, rate_hz: int) -> Annotated:
        """The calls of recordings, by their place among `paths`, in samples at a rate."""
        recording = pd.Index(paths).get_indexer(pd.Index(self.calls["path"]))
        label = pd.Index(self.classes).get_indexer(pd.Index(self.calls["label"]))
        first, last = (
            np.rint(self.calls[name].to_numpy(float) * rate_hz).astype(np.int64) for name in ("start_s", "end_s")
        )
        order = np.lexsort((first, recording))
        order = order[(recording[order] >= 0) & (label[order] >= 0)]
        return Annotated(recording[order], label[order], first[order], last[order], len(paths), len(self.classes))

    def judge(self, trained: Trained) -> dict[str, float]:
        paths, known = trained.corpus.manifest.frame["path"].to_numpy(dtype=str), trained.known
        rate_hz = trained.info.sample_rate_hz
        learned = self.annotated(paths[np.concatenate([known.train, known.calibration])], rate_hz)
        shape = customary(learned, rate_hz)
        return judge_frames(trained, self.calls, self.tolerance, self.annotated(paths, rate_hz), shape)
