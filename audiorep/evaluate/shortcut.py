"""The shortcut alarm: does an embedding tell the recorder or the site? It should tell the animal.

A linear probe is asked for the nuisance on recordings that it was not trained on, alike for the encoder and its two
yardsticks. What mel statistics tell is plain to hear; what the encoder tells beyond them, it has kept or amplified.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from audiorep.errors import AudiorepError
from audiorep.evaluate.confounding import contingency, cramers_v
from audiorep.evaluate.metrics import Predictions, balanced_accuracy, bounds, group_weights, paired_difference
from audiorep.evaluate.probe import linear_scores

USUAL = ("recorder", "device", "microphone", "site", "location", "station", "deployment")
MAX_VALUES = 50  # of a column that is probed unasked
MAX_ROWS, MIN_ROWS = 3000, 5  # rows of a probe, so that it costs seconds; rows of a value, fewer are left out
FOLDS, RESAMPLES = 5, 1000
MARGIN, CONFOUNDED = 0.05, 0.5


@dataclass(frozen=True)
class Folds:
    """Rows that are probed, [m] each: row number, value of the nuisance 0 ... values - 1, unit, fold.

    kind: what a unit is, e.g. "group"; no unit stands in two folds. values: how many. left_out: values that are not
    probed. second_choice: whether the corpus does not allow to keep its groups apart.
    """

    rows: Int[np.ndarray, " m"]
    value: Int[np.ndarray, " m"]
    unit: np.ndarray
    fold: Int[np.ndarray, " m"]
    kind: str
    values: int
    left_out: int
    second_choice: bool


@dataclass(frozen=True)
class Findings:
    """Flat metrics, warnings, and notes on how they were measured."""

    metrics: dict[str, float]
    warnings: list[str]
    notes: list[str]


def nuisance_columns(
    frame: pd.DataFrame, wanted: str | Sequence[str] | None = "auto", key: str = "evaluation.shortcut"
) -> list[str]:
    """The columns to probe: those wanted, or with "auto" the `USUAL` ones that have 2 to `MAX_VALUES` values.

    Raises:
        AudiorepError: the corpus lacks a column, or it is the label.
    """
    if wanted == "auto":
        usual = [column for column in frame.columns if str(column).strip().lower() in USUAL]
        return [column for column in usual if 2 <= len(set(encode(frame[column])) - {-1}) <= MAX_VALUES]
    names = [wanted] if isinstance(wanted, str) else list(wanted or [])
    for name in names:
        if name not in frame:
            raise AudiorepError(
                f"{key}={name}: the corpus has no such column; there are: {', '.join(map(str, frame.columns))}"
            )
        if name == "label":
            raise AudiorepError(f"{key}=label: that is what an embedding should tell; name what it should not")
    return names


def encode(column: pd.Series) -> Int[np.ndarray, " n"]:
    """Values as 0, 1 ... in the order of their names, -1 where the column is empty."""
    text = column.map(lambda value: "" if pd.isna(value) else str(value).strip()).to_numpy(dtype=str)
    _, code = np.unique(text, return_inverse=True)
    return code - 1 if (text == "").any() else code


def find_shortcuts(
    embeddings: Mapping[str, np.ndarray],
    known: Bool[np.ndarray, " n"],
    frame: pd.DataFrame,
    columns: Sequence[str],
    truth: np.ndarray,
    seed: int,
) -> Findings:
    """Probe every column: `shortcut/COLUMN/...` for the encoder, the same behind `mel/` and `random/`.

    Metrics: `balanced_accuracy` with `/low` and `/high` (95 % bootstrap over what the folds keep apart), `chance`,
    and once, without prefix, `confounding`: `cramers_v` of label and column.

    Args:
        embeddings: {"": [rows d], "mel": ..., "random": ...}; rows with values that are not finite are left out. There is
            an alarm only where all three are there.
        known: rows that have an embedding.
        frame: the manifest; its columns group and path say which rows belong together.
        truth: as `audiorep.data.labels.encode`; need not hold any label.
    """
    metrics: dict[str, float] = {}
    warnings: list[str] = []
    notes: list[str] = []
    usable = known & np.logical_and.reduce([np.isfinite(embedding).all(1) for embedding in embeddings.values()])
    for column in columns:
        code = encode(frame[column])
        found = probe(column, embeddings, np.where(usable, code, -1), frame, seed)
        metrics |= found.metrics
        warnings += found.warnings
        notes += found.notes
        together = cramers_v(contingency(truth, code))
        if np.isfinite(together):
            metrics[f"shortcut/{column}/confounding"] = together
        if together > CONFOUNDED:
            warnings.append(
                f"label and {column} go together (Cramer's V {short(together)}): scores may measure the {column}"
            )
    return Findings(metrics, warnings, notes)


def probe(
    column: str,
    embeddings: Mapping[str, np.ndarray],
    code: Int[np.ndarray, " n"],
    frame: pd.DataFrame,
    seed: int,
) -> Findings:
    """What the probes of one column say, and whether the encoder is clearly better at it than mel statistics."""
    units = {"group": frame["group"].to_numpy(dtype=str), "recording": frame["path"].to_numpy(dtype=str)}
    folds = make_folds(code, units | {"row": np.arange(len(frame))}, seed)
    if folds is None:
        return Findings({}, [], [f"{column}: not probed, fewer than two of its values have {MIN_ROWS} rows or more"])
    metrics: dict[str, float] = {}
    weight, ones = group_weights(folds.unit, RESAMPLES, seed), np.ones((1, len(folds.rows)))
    said: dict[str, Predictions] = {}
    for name, embedding in embeddings.items():
        said[name] = Predictions(folds.value, held_out_scores(embedding[folds.rows], folds), folds.unit)
        low, high = bounds(balanced_accuracy(said[name], weight), folds.unit)
        key = f"{name}/shortcut/{column}".removeprefix("/")
        metrics |= {
            f"{key}/balanced_accuracy": float(balanced_accuracy(said[name], ones)[0]),
            f"{key}/balanced_accuracy/low": float(low),
            f"{key}/balanced_accuracy/high": float(high),
            f"{key}/chance": 1.0 / folds.values,
        }
    if not {"mel", "random"} <= said.keys():
        unjudged = f"{column}: no alarm without the yardsticks, evaluation.beside=[mel,random]"
        return Findings(metrics, [], [unjudged, *remarks(column, folds)])
    alarmed = is_clearly_better(said[""], said["mel"], folds.values, seed)
    return Findings(metrics, [alarm(column, metrics, folds.values)] if alarmed else [], remarks(column, folds))


def remarks(column: str, folds: Folds) -> list[str]:
    """How the folds fall short of what one would want."""
    out = []
    if folds.second_choice:
        out.append(
            f"{column}: its values have too few groups to keep these apart, so no {folds.kind} is on both sides instead; "
            "all its accuracies may be too high, and are best compared with each other"
        )
    if folds.left_out:
        out.append(
            f"{column}: {folds.left_out} of its values left out, with fewer than {MIN_ROWS} rows or a single {folds.kind}"
        )
    return out


def make_folds(code: Int[np.ndarray, " n"], units: Mapping[str, np.ndarray], seed: int) -> Folds | None:
    """Up to `FOLDS` folds over at most `MAX_ROWS` rows that keep whole units together and hold every value twice or more.

    A value needs `MIN_ROWS` rows in two units. The first kind of unit for which half of the values (and two) are so is
    taken: where a site is a group, a group cannot be held out and its site still be known.

    Args:
        code: value of each row, -1 unknown.
        units: {"group": [rows], ...}, the best first.

    Returns:
        None where fewer than two values have `MIN_ROWS` rows.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes most of a second

    rows = np.sort(np.random.default_rng([seed, 6]).permutation(np.flatnonzero(code >= 0))[:MAX_ROWS])
    values = np.unique(code[rows])
    big = [v for v in values if (code[rows] == v).sum() >= MIN_ROWS]
    for place, (kind, unit) in enumerate(units.items()):
        spread = {v: len(np.unique(unit[rows[code[rows] == v]])) for v in big}
        kept = [v for v in big if spread[v] > 1]
        if len(kept) < max(2, len(big) / 2):
            continue
        chosen = rows[np.isin(code[rows], kept)]
        value = np.searchsorted(kept, code[chosen])
        splitter = StratifiedGroupKFold(min(FOLDS, *(spread[v] for v in kept)), shuffle=True, random_state=seed)
        fold = np.empty(len(chosen), np.int64)
        for number, (_, test) in enumerate(splitter.split(chosen, value, unit[chosen])):
            fold[test] = number
        if all(len(np.unique(fold[value == v])) > 1 for v in range(len(kept))):
            return Folds(chosen, value, unit[chosen], fold, kind, len(kept), len(values) - len(kept), place > 0)
    return None


def held_out_scores(embedding: Float[np.ndarray, "m d"], folds: Folds) -> Float[np.ndarray, "m v"]:
    """`linear_scores` of every row by a probe that was trained on the other folds."""
    out = np.zeros((len(embedding), folds.values))
    for number in np.unique(folds.fold):
        test = folds.fold == number
        out[test] = linear_scores(embedding[~test], folds.value[~test], embedding[test], folds.values)
    return out


def is_clearly_better(ours: Predictions, mel: Predictions, values: int, seed: int) -> bool:
    """Whether balanced accuracy is more than `MARGIN` above mel statistics and above chance, and the difference to mel
    above 0 with its whole 95 % interval (paired bootstrap over units).

    The interval rules out luck with the recordings; the margin, differences too small to matter.
    """
    difference, low, _ = paired_difference([ours], [mel], balanced_accuracy, RESAMPLES, seed)
    told = float(balanced_accuracy(ours, np.ones((1, len(ours.truth))))[0])
    return difference > MARGIN and low > 0 and told > 1 / values + MARGIN


def alarm(column: str, metrics: Mapping[str, float], values: int) -> str:
    """The warning; where training did not add to what the untrained encoder tells, it says so."""
    key = f"shortcut/{column}/balanced_accuracy"
    ours, mel, untrained = metrics[key], metrics[f"mel/{key}"], metrics[f"random/{key}"]
    learnt = f"it may have learnt the {column}"
    kept = f"it hears the {column} as the untrained encoder does, and training has not removed that"
    folds = f" split.folds={values}" if values < FOLDS else ""
    return (
        f"the embedding tells {column} with {short(ours)} balanced accuracy (mel {short(mel)}, "
        f"untrained {short(untrained)}, chance {short(1 / values)}): {learnt if ours > untrained + MARGIN else kept}; "
        f"compare views=background, split by {column}: split.by={column}{folds}"
    )


def short(value: float) -> str:
    """Two decimals without the zero in front: ".93"."""
    return f"{value:.2f}".removeprefix("0")
