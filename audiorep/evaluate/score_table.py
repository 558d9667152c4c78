"""The metrics as the report's tables show them: one column an encoder, one row a measure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from audiorep.evaluate.words import SCORES, is_rated, metric_name, number, share

RIVALS = {"mel": "mel baseline", "random": "random encoder"}


@dataclass(frozen=True)
class Score:
    """A metric of one encoder with its 95 % interval, which is NaN where none was computed."""

    value: float
    low: float
    high: float
    text: str
    span: str  # "low to high", "" without an interval


@dataclass(frozen=True)
class Row:
    """A metric of each encoder in the table's columns, None where it was not measured."""

    name: str
    scores: tuple[Score | None, ...]
    rated: bool  # between 0 and 1, more is better

    @property
    def best(self) -> str:
        """The best score as printed, so that what reads as a tie is one; "" if there is nothing to compare."""
        found = [score for score in self.scores if score is not None]
        return max(found, key=lambda score: score.value).text if self.rated and len(found) > 1 else ""


@dataclass(frozen=True)
class Table:
    """The score table: the names of the encoders, and a row for each metric."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Nuisance:
    """What each encoder tells of a column that it should not tell, in balanced accuracy."""

    column: str
    scores: tuple[Score | None, ...]  # encoder, mel, random
    chance: str  # "" where it was not probed
    confounding: str  # "" where nothing is labelled


def read_score(metrics: Mapping[str, float], key: str) -> Score | None:
    """The metric `key` with its interval, or None where it is missing or not finite."""
    value, low, high = (float(metrics.get(name, math.nan)) for name in (key, f"{key}/low", f"{key}/high"))
    if not math.isfinite(value):
        return None
    text, *ends = (share(x) if is_rated(key) else number(x) for x in (value, low, high))
    return Score(value, low, high, text, " to ".join(ends) if math.isfinite(low + high) else "")


def score_table(metrics: Mapping[str, float]) -> Table:
    """The metrics as rows, scores before health, otherwise in the order given; empty columns are left out."""
    names = {"": "this encoder"} | {f"{rival}/": name for rival, name in RIVALS.items()}
    bare = (key.removeprefix("mel/").removeprefix("random/") for key in metrics if not key.endswith(("/low", "/high")))
    told = (key for key in bare if not key.startswith("shortcut/"))  # has a table of its own
    keys = sorted(dict.fromkeys(told), key=lambda key: not is_rated(key))
    scores = {key: {prefix: read_score(metrics, prefix + key) for prefix in names} for key in keys}
    prefixes = [prefix for prefix in names if any(found[prefix] for found in scores.values())]
    rows = (Row(metric_name(key), tuple(scores[key][p] for p in prefixes), is_rated(key)) for key in keys)
    return Table(tuple(names[p] for p in prefixes), tuple(row for row in rows if any(row.scores)))


def shortcut_table(metrics: Mapping[str, float]) -> list[Nuisance]:
    """A row for each column of "shortcut/COLUMN/...", in the order given."""
    ends = ("/balanced_accuracy", "/confounding")
    keys = [key for key in metrics if key.startswith("shortcut/") and key.endswith(ends)]
    columns = dict.fromkeys(key.removeprefix("shortcut/").rpartition("/")[0] for key in keys)
    prefixes = ("", *(f"{rival}/" for rival in RIVALS))
    return [
        Nuisance(
            column,
            tuple(read_score(metrics, f"{prefix}shortcut/{column}/balanced_accuracy") for prefix in prefixes),
            share(metrics.get(f"shortcut/{column}/chance", math.nan)),
            share(metrics.get(f"shortcut/{column}/confounding", math.nan)),
        )
        for column in columns
    ]


def classifier_scores(metrics: Mapping[str, float]) -> list[tuple[str, Score]]:
    """The words for each measure of `SCORES` under "test/", and what it is."""
    found = ((name, read_score(metrics, f"test/{measure}")) for measure, name in SCORES.items())
    return [(name, score) for name, score in found if score is not None]
