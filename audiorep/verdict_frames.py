"""What is left of a detector besides its weights: thresholds, scores call by call, what it heard, a picture."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.markup import escape
from rich.table import Table

from audiorep import build
from audiorep.apply.detect import Reporting, all_calls
from audiorep.apply.scores import Scorer, scorer_of
from audiorep.console import console, progress_bar
from audiorep.data.annotated import Annotated
from audiorep.data.audio import probe, read_resampled, to_float
from audiorep.data.manifest import write_manifest
from audiorep.errors import AudioError
from audiorep.evaluate.calibrate import fit_temperature, probabilities
from audiorep.evaluate.events import COLUMNS, Tolerance, count, f1, scores
from audiorep.evaluate.figures import write_figure
from audiorep.evaluate.timeline import timeline
from audiorep.files import write_json
from audiorep.known import Known
from audiorep.model import Model
from audiorep.shown import cell
from audiorep.tasks.base import Trained

log = logging.getLogger(__name__)

LEVELS = np.arange(0.1, 0.96, 0.05).round(2)
"""Thresholds that are tried."""

SAMPLED = 200_000
"""Frames that the temperature is fitted to."""

DETECTIONS, PICTURE = "detections.csv", "detections.png"
"""What was detected on the test side, in a detector's folder, and some of it as a picture of `PICTURED_S`."""

PICTURED_S = 5.0


def judge_frames(
    trained: Trained, calls: pd.DataFrame, tolerance: Tolerance, annotated: Annotated, shape: Reporting
) -> dict[str, float]:
    """Listen to the recordings of both sides; choose temperature and thresholds on one, and score the calls of the other.

    Args:
        calls: path, start_s, end_s, label of all of them. annotated: the same by the recordings' numbers.
        shape: gaps and lengths of calls, as the training side has them.
    """
    cfg, corpus, known, model, notes, out = (
        trained.cfg, trained.corpus, trained.known, trained.model, trained.notes, trained.out,
    )  # fmt: skip
    scorer = scorer_of(model, trained.info, build.device_of(cfg.trainer.accelerator))
    paths = corpus.manifest.frame["path"].to_numpy(dtype=str)
    rows = np.concatenate([known.calibration, corpus.split.test])
    logits: dict[str, np.ndarray] = {}
    with progress_bar("listening") as progress:
        for done, row in enumerate(rows, 1):
            try:
                logits[paths[row]] = np.concatenate(list(scorer.logits(Path(paths[row]))))
            except AudioError as error:
                notes.append(f"not judged: {error}")
                log.warning("%s", notes[-1])
            progress(done, len(rows))
    calibration, test = (
        np.array([row for row in side if paths[row] in logits], int) for side in (known.calibration, corpus.split.test)
    )
    temperature = temperature_of(logits, annotated, paths, calibration, scorer, cfg.seed)
    said = {path: probabilities(raw, temperature, True) for path, raw in logits.items()}
    reporting = replace(shape, temperature=temperature)
    held = calls[calls["path"].isin(paths[calibration])]
    chosen = choose(said, scorer, reporting, held, list(paths[calibration]), known, tolerance)
    thresholds = {
        "temperature": temperature,
        "wanted_precision": None,
        "multilabel": True,
        "classes": chosen,
        "events": {
            name: value for name, value in asdict(reporting).items() if name not in ("thresholds", "temperature")
        },
    }
    write_json(out / "thresholds.json", thresholds)
    reporting = replace(reporting, thresholds={name: mark["threshold"] for name, mark in chosen.items()})
    found = all_calls(said, scorer, reporting, paths[test]).to_pandas()
    write_manifest(found, out / DETECTIONS)
    true = calls[calls["path"].isin(paths[test]) & calls["label"].isin(known.classes)]
    metrics = {"calibration/temperature": temperature, "calibration/recordings": float(len(calibration))}
    if len(test):
        frame = corpus.manifest.frame.iloc[test]
        hours = float((frame["end_s"] - frame["start_s"]).sum()) / 3600.0
        counts = count(found, true, list(paths[test]), known.classes, tolerance)
        group = frame["group"].to_numpy(dtype=str)
        figures = scores(counts, group, known.classes, cfg.evaluation.settings.resamples, cfg.seed, hours)
        metrics |= {f"test/{name}": value for name, value in figures.items() if np.isfinite(value)}
        metrics |= {"test/recordings": float(len(test)), "test/hours": hours}
        draw(model, paths[test], found, true, known.classes, out / PICTURE)
    write_json(out / "metrics.json", metrics)
    show(metrics, chosen)
    return metrics


def draw(
    model: Model, paths: np.ndarray, found: pd.DataFrame, true: pd.DataFrame, classes: Sequence[str], path: Path
) -> None:
    """The busiest stretch of the test recording with most calls: its spectrogram, what is annotated, what was detected."""
    if not len(true):
        return
    busiest = str(true["path"].value_counts().reindex(paths).fillna(0).idxmax())
    here, there = (calls[calls["path"] == busiest] for calls in (true, found))
    starts = np.sort(here["start_s"].to_numpy(float))
    many = np.searchsorted(starts, starts + PICTURED_S) - np.arange(len(starts))
    info, rate = probe(busiest), model.frontend.sample_rate_hz
    start_s = max(0.0, min(float(starts[many.argmax()]) - 0.1, info.duration_s - PICTURED_S))
    end_s = min(start_s + PICTURED_S, info.duration_s)
    count = max(round((end_s - start_s) * rate), model.frontend.shortest)
    wave = to_float(read_resampled(busiest, info.rate_hz, round(start_s * info.rate_hz), count, rate))
    with torch.inference_mode():
        seen = model.cpu().spectrogram(torch.from_numpy(wave[None]))
        spec = model.frontend.picture(seen)[0, 0].float().numpy()
    rows = [("annotated", here), ("detected", there)]
    band_hz = model.frontend.shown.band_hz.tolist()
    write_figure(timeline(spec, start_s, end_s, band_hz, rows, classes, Path(busiest).name), path, dpi=110)


def temperature_of(
    logits: Mapping[str, np.ndarray],
    annotated: Annotated,
    paths: np.ndarray,
    rows: np.ndarray,
    scorer: Scorer,
    seed: int,
) -> float:
    """The temperature that the frames of these recordings ask for; 1 without any."""
    if not len(rows):
        return 1.0
    assert scorer.step_samples is not None
    said = np.concatenate([logits[paths[row]] for row in rows])
    truth = np.concatenate(
        [annotated.frames(int(row), 0, len(logits[paths[row]]), scorer.step_samples) for row in rows]
    )
    some = np.random.default_rng([seed, 15]).permutation(len(said))[:SAMPLED]
    return fit_temperature(said[some], truth[some])


def customary(annotated: Annotated, rate_hz: int) -> Reporting:
    """Gaps and lengths as the annotations have them: what is shorter than half of 99 calls in 100 is none, and half of
    the shortest customary silence between two calls of a class does not end one."""
    lengths = annotated.last - annotated.first
    order = np.lexsort((annotated.first, annotated.label, annotated.recording))
    recording, label, first, last = (
        x[order] for x in (annotated.recording, annotated.label, annotated.first, annotated.last)
    )
    next_one = (recording[1:] == recording[:-1]) & (label[1:] == label[:-1])
    silences = (first[1:] - last[:-1])[next_one]
    gap = float(np.quantile(silences.clip(0), 0.01)) / 2 if len(silences) else 0.0
    shortest = float(np.quantile(lengths, 0.01)) / 2 if len(lengths) else 0.0
    return Reporting(
        {}, gap_s=round(gap / rate_hz, 4), shortest_s=round(shortest / rate_hz, 4),
        exclusive=not annotated.overlap,
    )  # fmt: skip


def choose(
    said: Mapping[str, np.ndarray],
    scorer: Scorer,
    reporting: Reporting,
    true: pd.DataFrame,
    paths: list[str],
    known: Known,
    tolerance: Tolerance,
) -> dict[str, dict[str, Any]]:
    """For each class the threshold with the highest event F1 on these recordings (of several the middle one), with
    precision and recall there; where
    they hold no call of it, .5, and nothing is known of its precision."""
    tried = []
    for level in LEVELS:
        found = all_calls(said, scorer, replace(reporting, thresholds=dict.fromkeys(known.classes, level)), paths)
        tried.append(count(found.to_pandas(), true[list(COLUMNS)], paths, known.classes, tolerance))
    figures = np.nan_to_num(np.stack([f1(counts) for counts in tried]))
    ties = figures >= figures.max(0) - 1e-9
    best = [int(np.median(np.flatnonzero(column))) for column in ties.T]  # the middle of those that are as good
    out: dict[str, dict[str, Any]] = {}
    for c, name in enumerate(known.classes):
        counts = tried[best[c]]
        hits, there, reported = (int(x[:, c].sum()) for x in (counts.hits, counts.true, counts.found))
        if not there:
            out[name] = {"threshold": 0.5, "precision": None, "recall": None, "positives": 0, "reported": reported}
            continue
        precision = hits / reported if reported else None
        out[name] = {
            "threshold": float(LEVELS[best[c]]), "precision": precision, "recall": hits / there, "positives": there,
            "reported": reported,
        }  # fmt: skip
    return out


def show(metrics: Mapping[str, float], chosen: Mapping[str, Mapping[str, Any]]) -> None:
    """The scores as a table on the terminal."""
    table = Table("class", "threshold", "event F1", "precision", "recall", title="calls of the test side")
    for name in ["", *chosen]:
        end = f"/{name}" if name else ""
        values = [cell(metrics, f"test/{figure}{end}") for figure in ("event_f1", "event_precision", "event_recall")]
        table.add_row(escape(name) or "mean", f"{chosen[name]['threshold']:.2f}" if name else "", *values)
    console.print(table)
