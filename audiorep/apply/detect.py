"""Calls in whole recordings: a classifier along time, calibrated, with a threshold for each class."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from audiorep.apply.scores import Scorer
from audiorep.apply.tracks import Call, Rule, calls_of
from audiorep.data.audio import probe
from audiorep.errors import AudiorepError
from audiorep.evaluate.calibrate import probabilities

THRESHOLDS = "thresholds.json"
LEFT_OUT = ("noise", "background", "silence", "other")
"""Classes that are not reported unless it is said otherwise; `leave_out` in configs/detect.yaml."""

log = logging.getLogger(__name__)

TIME, TEXT = pa.float64(), pa.string()
SCHEMA = pa.schema([("path", TEXT), ("start_s", TIME), ("end_s", TIME), ("label", TEXT), ("score", pa.float64())])


@dataclass(frozen=True)
class Reporting:
    """From when on a call is reported.

    thresholds: of each class that is reported, the probability that a call reaches somewhere.
    temperature: of the classifier's logits.
    low: part of its threshold that a class keeps throughout a call (hysteresis).
    gap_s: a shorter fall below that does not end a call. shortest_s: what is shorter is no call.
    exclusive: at each moment only the likeliest class counts.
    """

    thresholds: Mapping[str, float]
    temperature: float = 1.0
    low: float = 0.5
    gap_s: float = 0.0
    shortest_s: float = 0.0
    exclusive: bool = False

    def __post_init__(self) -> None:
        if wrong := next((name for name, at in self.thresholds.items() if not 0 <= at <= 1), None):
            raise AudiorepError(f"the threshold of '{wrong}', {self.thresholds[wrong]}, must lie between 0 and 1")
        if not 0 < self.low <= 1 or self.gap_s < 0 or self.shortest_s < 0:
            raise AudiorepError(
                f"low={self.low} must lie in (0, 1], gap_s={self.gap_s} and shortest_s={self.shortest_s} must not be negative"
            )

    def rule(self, scorer: Scorer) -> Rule:
        """The same in steps and class numbers. Windows that overlap and name the same call are one, whatever the gap.

        Raises:
            AudiorepError: a threshold of a class that the classifier does not know.
        """
        if unknown := sorted(set(self.thresholds) - set(scorer.classes)):
            raise AudiorepError(
                f"there is no class '{unknown[0]}' to have a threshold; the model knows: {', '.join(scorer.classes)}"
            )
        high = np.array([self.thresholds.get(name, np.nan) for name in scorer.classes])
        touching = 0 if scorer.step_samples else -(-scorer.window_samples // scorer.hop_samples) - 1
        gap, shortest = max(scorer.steps(self.gap_s), touching), max(1, scorer.steps(self.shortest_s))
        return Rule(high, self.low * high, gap, shortest if scorer.step_samples else 1, self.exclusive)


@dataclass(frozen=True)
class Detector:
    """A recording's path to its calls, rows of `SCHEMA` in order of time."""

    scorer: Scorer
    reporting: Reporting
    batch_size: int = 64
    rule: Rule = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rule", self.reporting.rule(self.scorer))

    def __call__(self, path: Path) -> Iterator[pa.Table]:
        """The one table of a recording. Raises AudioError where it cannot be decoded."""
        chunks = (
            probabilities(logits, self.reporting.temperature, self.scorer.multilabel)
            for logits in self.scorer.logits(path, self.batch_size)
        )
        yield table(path, calls_of(chunks, self.rule), self.scorer)


def table(path: Path, calls: Sequence[Call], scorer: Scorer) -> pa.Table:
    """Calls in steps as rows in seconds, within the recording."""
    duration_s = probe(path).duration_s
    spans = [scorer.span(call.first, call.last) for call in calls]
    return pa.table(
        {
            "path": pa.array([str(path)] * len(calls), pa.string()),
            "start_s": [start / scorer.rate_hz for start, _ in spans],
            "end_s": [min(end / scorer.rate_hz, duration_s) for _, end in spans],
            "label": [scorer.classes[call.label] for call in calls],
            "score": [call.score for call in calls],
        },
        schema=SCHEMA,
    )


def all_calls(said: Mapping[str, np.ndarray], scorer: Scorer, reporting: Reporting, paths: Iterable[str]) -> pa.Table:
    """The calls of recordings of which the probabilities [n c] are at hand."""
    rule = reporting.rule(scorer)
    parts = [table(Path(path), calls_of([said[path]], rule), scorer) for path in paths]
    return pa.concat_tables([SCHEMA.empty_table(), *parts])


def reporting_of(thresholds: Mapping[str, Any]) -> Reporting:
    """What the content of a ``thresholds.json`` says of reporting; classes without a threshold are not reported."""
    chosen = {
        name: float(mark["threshold"]) for name, mark in thresholds["classes"].items() if mark["threshold"] is not None
    }
    return Reporting(chosen, float(thresholds["temperature"]), **thresholds.get("events", {}))


def thresholds_beside(model: Path) -> Path:
    """Where the thresholds of a model stand, or would: in its folder, or beside an ONNX."""
    return (model if model.is_dir() else model.parent) / THRESHOLDS


def reporting_by(
    model: Path,
    classes: Sequence[str],
    told: Mapping[str, Any] | None,
    threshold: float | None = None,
    leave_out: Sequence[str] = LEFT_OUT,
) -> Reporting:
    """When a model's calls are reported: by its thresholds, or all classes from one `threshold` on.

    Args:
        model: for the errors.
        told: the content of its ``thresholds.json``; None: there is none.
        leave_out: classes that are not reported, in small letters.

    Raises:
        AudiorepError: there are no thresholds, or no class is left to report.
    """
    if told is None and threshold is None:
        raise AudiorepError(
            f"model={model} has no {THRESHOLDS}: say from which score on a call is reported, threshold=0.5 for "
            "instance, or train with labels to calibrate on"
        )
    base = Reporting({}) if told is None else reporting_of(told)
    at = base.thresholds if threshold is None else dict.fromkeys(classes, float(threshold))
    found = replace(base, thresholds={name: mark for name, mark in at.items() if name.lower() not in leave_out})
    if silent := without_threshold(classes, found, leave_out):
        log.warning("not reported, for want of a threshold (threshold=0.5 sets one): %s", ", ".join(silent))
    if not found.thresholds:
        raise AudiorepError(f"model={model}: no class has a threshold: threshold=0.5 for instance sets one for all")
    return found


def without_threshold(classes: Sequence[str], reporting: Reporting, leave_out: Sequence[str]) -> list[str]:
    """The classes that are not reported, without anybody having asked for that."""
    return [name for name in classes if name not in reporting.thresholds and name.lower() not in leave_out]
