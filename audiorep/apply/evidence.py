"""What is known of the detector whose calls are summed up: what it listened for, and how often it was right before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from audiorep.apply.rates import binomial_bounds
from audiorep.errors import AudiorepError

NO_THRESHOLD = "no threshold"


@dataclass(frozen=True)
class Precision:
    """How often detections of a class were right on the labelled rows on which its threshold was chosen.

    value: the part of the rows that reach the threshold that are calls of the class.
    positives: calls of the class among the rows. reported: rows that reach the threshold. None: not told.
    """

    value: float
    positives: int | None = None
    reported: int | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """The exact 95 % interval (`audiorep.apply.rates.binomial_bounds`); NaN where nobody knows on how many it rests."""
        if not self.reported:
            return float("nan"), float("nan")
        return binomial_bounds(round(self.value * self.reported), self.reported)


UNKNOWN = Precision(float("nan"))


@dataclass(frozen=True)
class Evidence:
    """What is known of a detector.

    precision: of each class of which it is known. looked_for: classes that would have been reported.
    not_looked_for: classes that would not, with the reason.
    background: whether rows without any call had a say in the precision; None: not told.
    window_s: length of the windows that the model names; None: it names moments, or nothing is told.
    folder: that detect left.

    Raises:
        AudiorepError: a precision that is none.
    """

    precision: Mapping[str, Precision] = field(default_factory=dict)
    looked_for: Sequence[str] = ()
    not_looked_for: Mapping[str, str] = field(default_factory=dict)
    background: bool | None = None
    window_s: float | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        if wrong := next((name for name, of in self.precision.items() if not 0.0 <= of.value <= 1.0), None):
            value = self.precision[wrong].value
            raise AudiorepError(f"the precision of {wrong!r}, {value}, does not lie between 0 and 1")

    def beside(self, heard: Sequence[str]) -> "Evidence":
        """The same beside what was heard: that was looked for, whatever a file says."""
        kept = {name: why for name, why in self.not_looked_for.items() if name not in heard}
        return replace(self, not_looked_for=kept)


def evidence_of(
    thresholds: Mapping[str, Any] | None, facts: Mapping[str, Any] | None = None, folder: Path | None = None
) -> Evidence:
    """What files say of a detector.

    A precision holds at its own threshold: that of a class that was reported from another one on is not known.

    Args:
        thresholds: the content of a ``thresholds.json``; None: the one that `facts` kept, if any.
        facts: the content of the ``detect.json`` that detect left in `folder`.
    """
    facts = facts or {}
    thresholds = thresholds or facts.get("calibration") or {"classes": {}}
    marks, used = thresholds["classes"], facts.get("thresholds")
    at = {name: mark.get("threshold") for name, mark in marks.items()} if used is None else used
    silent = [name for name, mark in marks.items() if mark.get("threshold", 0.0) is None and at.get(name) is None]
    judged = {
        name: mark
        for name, mark in marks.items()
        if mark.get("precision") is not None and (used is None or used.get(name) == mark.get("threshold"))
    }
    told = None if "background" not in thresholds else bool(thresholds["background"])
    return Evidence(
        precision={name: precision_of(mark) for name, mark in judged.items()},
        looked_for=[name for name in at if name not in silent],
        not_looked_for=dict.fromkeys(facts.get("without_threshold", silent), NO_THRESHOLD),
        background=True if "events" in thresholds else told,  # a detector of moments is judged on whole recordings
        window_s=facts.get("window_s"),
        folder=folder,
    )


def precision_of(mark: Mapping[str, Any]) -> Precision:
    """That of a class in a ``thresholds.json``; older files do not tell the rows that were reported, but what they follow
    from: ``recall * positives / precision``."""
    value, positives, reported = float(mark["precision"]), mark.get("positives"), mark.get("reported")
    if reported is None and positives and value > 0 and mark.get("recall") is not None:
        reported = round(round(float(mark["recall"]) * positives) / value)
    return Precision(value, positives, reported)
