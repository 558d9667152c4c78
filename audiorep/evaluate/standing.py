"""Whether an encoder is ahead of its baselines, in the one line under the report's title."""

from collections.abc import Mapping
from dataclasses import dataclass

from audiorep.evaluate.score_table import RIVALS, Score, read_score
from audiorep.evaluate.words import metric_name

HEADLINES = (
    "knn/accuracy",
    "knn/balanced_accuracy",
    "knn/cmap",
    "linear/balanced_accuracy",
    "linear/cmap",
    "test/balanced_accuracy",
    "test/cmap",
)
STANDINGS = ("behind", "level", "ahead")
BADGES = {
    "ahead": "Ahead",
    "level": "Too close to call",
    "behind": "Not ahead",
    "unknown": "Not judged yet",
}


@dataclass(frozen=True)
class Verdict:
    """The line under the title; `tone` is a key of `BADGES`."""

    tone: str
    badge: str
    sentence: str


def standing(ours: Score, theirs: Score) -> str:
    """Whether we are "ahead", "behind", or "level": equal as printed, or with 95 % intervals that overlap.

    Overlap is the cautious rule: it may hide a difference that a paired test would find.
    """
    overlap = ours.span and theirs.span and ours.low <= theirs.high and theirs.low <= ours.high
    if overlap or ours.text == theirs.text:
        return "level"
    return "ahead" if ours.value > theirs.value else "behind"


def verdict(metrics: Mapping[str, float]) -> Verdict:
    """Judge the first of `HEADLINES` that was measured against the mel baseline and the random encoder.

    The tone is that of the worse comparison: an encoder that only matches its untrained self learnt nothing.
    """
    key = next((key for key in HEADLINES if read_score(metrics, key)), None)
    ours = read_score(metrics, key) if key else None
    subject = "classifier" if key is not None and key.startswith("test/") else "encoder"
    if key is None or ours is None:
        sentence = "No score was computed on labelled calls, so it is open whether the encoder is of use."
        return Verdict("unknown", BADGES["unknown"], sentence)
    rivals = {name: found for rival, name in RIVALS.items() if (found := read_score(metrics, f"{rival}/{key}"))}
    if not rivals:
        sentence = f"The {subject} reaches {metric_name(key)} {ours.text}; without a baseline that says little."
        return Verdict("unknown", BADGES["unknown"], sentence)
    standings = {name: standing(ours, found) for name, found in rivals.items()}
    (first, rival), *others = rivals.items()
    aside = "".join(f" ({name} {found.text})" for name, found in others)
    sentence = compare(standings[first], ours, first, rival, metric_name(key), aside, subject)
    sentence += "".join(doubt(standings[name], name) for name, _ in others)
    tone = min(standings.values(), key=STANDINGS.index)
    return Verdict(tone, BADGES[tone], sentence)


def compare(how: str, ours: Score, name: str, rival: Score, metric: str, aside: str, subject: str) -> str:
    """The sentence that sets our score beside the first rival's."""
    numbers = f"{ours.text} against {rival.text}{aside}"
    measured = ours.span and rival.span
    if how == "ahead":
        caution = "" if measured else " No 95 % intervals were computed, so chance is not ruled out."
        return f"The {subject} beats the {name} on {metric}: {numbers}.{caution}"
    if how == "behind":
        return f"The {subject} does not beat the {name} on {metric}: {numbers}."
    if not measured:
        return f"The {subject} equals the {name} on {metric}: {numbers}."
    verb, link = ("scores higher than", "but") if ours.value > rival.value else ("does not beat", "and")
    return f"The {subject} {verb} the {name} on {metric}, {numbers}, {link} their 95 % intervals overlap."


def doubt(how: str, name: str) -> str:
    """What must be added when a later rival is not clearly behind."""
    return {
        "ahead": "",
        "level": f" It cannot be told apart from the {name}: training has not clearly helped.",
        "behind": f" The {name} scores higher: training has not helped here.",
    }[how]
