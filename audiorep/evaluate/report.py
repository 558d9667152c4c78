"""One HTML file that tells what was trained on what, whether it is any good, and what to do next.

The file needs nothing else: no script, font, picture or address outside it. Every string in a report may come
from a stranger's annotation table, so the template escapes all of them and the page forbids scripts altogether.
"""

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from audiorep import __version__
from audiorep.evaluate import figures, pictures
from audiorep.evaluate.results import Results

PROTOCOLS = {
    "knn": "kNN",
    "linear": "linear probe",
    "attentive": "attentive probe",
    "prototypical": "prototypical probe",
    "fewshot": "few-shot",
}
SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "cmap": "cmAP",
    "auroc": "AUROC",
}
"""Measures between 0 and 1 of which more is better; of any other the report does not say which is best."""

HEALTH = {"rankme": "RankMe", "embedding_std": "embedding std"}
CURVES = {
    "loss": "Loss",
    "rankme": "RankMe",
    "std": "Spread (std)",
    "mean_cosine": "Mean cosine",
    "uniformity": "Uniformity",
    "marginal_entropy": "Marginal entropy",
    "conditional_entropy": "Conditional entropy",
    "teacher_entropy": "Teacher entropy",
    "lr": "Learning rate",
}
"""The curves drawn first, in this order; others follow while there is room."""

RIVALS = {"mel": "mel baseline", "random": "random encoder"}
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
class Picture:
    """A spectrogram to show."""

    image: np.ndarray  # [f n] decibel-like values, row 0 the lowest band
    title: str  # e.g. its label, or "view 1"
    seconds: float  # duration shown
    low_hz: float  # lower edge of row 0
    high_hz: float  # upper edge of the last row


@dataclass(frozen=True)
class Report:
    """All that a report says; an empty part is left out of the page. Raises ValueError where lengths differ."""

    title: str  # "simclr on fsdd"
    facts: Mapping[str, str]  # what was trained on what: corpus, rows, encoder, seed, command ...
    warnings: Sequence[str]  # leaks, files set aside ...
    windows: Sequence[Picture]
    views: Sequence[Sequence[Picture]]  # each: the original, then its augmented views
    curves: pd.DataFrame | None  # "step" and any of loss, backbone/rankme, backbone/std, lr ...; NaN where not logged
    embedding: np.ndarray | None  # [m d]
    label: Sequence[str]  # [m] "" = unlabelled
    group: Sequence[str]  # [m] recording, site or individual
    metrics: Mapping[str, float]  # "knn/accuracy", "knn/accuracy/low", "mel/knn/accuracy", "random/rankme" ...
    next_steps: Sequence[tuple[str, str]]  # (sentence, command line)
    shortcut_notes: Sequence[str] = ()  # how "shortcut/..." among the metrics was measured
    classifier: Results | None = None  # what a trained call classifier reaches

    def __post_init__(self) -> None:
        if self.embedding is not None and not len(self.embedding) == len(self.label) == len(self.group):
            sizes = f"{len(self.embedding)} embeddings, {len(self.label)} labels, {len(self.group)} groups"
            raise ValueError(f"a report needs one label and one group for each embedding, not {sizes}")
        if self.curves is not None and "step" not in self.curves:
            raise ValueError("training curves need a column 'step'")


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


@dataclass(frozen=True)
class Verdict:
    """The line under the title; `tone` is a key of `BADGES`."""

    tone: str
    badge: str
    sentence: str


@dataclass(frozen=True)
class Cell:
    """A picture and its spectrogram as a data URI."""

    picture: Picture
    src: str


def sentence_case(text: str) -> str:
    """The first letter raised, except in a name that has its own case ("kNN", "cmAP")."""
    own_case = any(letter.isupper() for letter in text.partition(" ")[0][1:])
    return text if own_case else text[:1].upper() + text[1:]


def number(value: float | int) -> str:
    """Four significant digits, thousands set apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def share(value: float) -> str:
    """A number between 0 and 1 with three decimals: ".961"; "" where it is not finite."""
    return f"{value:.3f}".removeprefix("0") if math.isfinite(value) else ""


def frequency(hz: float) -> str:
    """Hz below 1 kHz, kHz from there on: "50 Hz", "8 kHz"."""
    return f"{hz / 1000:.3g} kHz" if hz >= 1000 else f"{hz:.0f} Hz"


def duration(seconds: float) -> str:
    """Seconds with their unit: "1.5 s"."""
    return f"{number(seconds)} s"


def metric_name(key: str) -> str:
    """The words for a metric: "linear@5/macro_f1" is "linear probe (5 per class) macro F1"."""
    *protocols, measure = key.split("/")
    words = []
    for protocol in protocols:
        name, _, labels = protocol.partition("@")
        words.append(PROTOCOLS.get(name, name.replace("_", " ")))
        if labels:
            words.append(f"({labels} per class)" if labels.isdigit() else f"({labels})")
    return " ".join([*words, (SCORES | HEALTH).get(measure, measure.replace("_", " "))])


def curve_name(column: str) -> str:
    """The words for a logged quantity: "backbone/rankme" is "RankMe, backbone"."""
    where, _, quantity = column.rpartition("/")
    name = CURVES.get(quantity, sentence_case(quantity.replace("_per_s", " per second").replace("_", " ")))
    return f"{name}, {where.replace('/', ' ')}" if where else name


def is_rated(key: str) -> bool:
    """Whether the metric lies between 0 and 1 and more of it is better."""
    return key.rpartition("/")[2] in SCORES


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


def cells(pictures: Sequence[Picture], *, shared: bool) -> list[Cell]:
    """Spectrograms coloured on one scale if `shared` (views, where loudness tells), else each on its own."""
    images = [picture.image for picture in pictures]
    spans = [figures.colour_range(images if shared else [image]) for image in images]
    drawn = [figures.spectrogram(image, *span) for image, span in zip(images, spans, strict=True)]
    return [Cell(picture, src) for picture, src in zip(pictures, drawn, strict=True)]


def classifier_scores(metrics: Mapping[str, float]) -> list[tuple[str, Score]]:
    """The words for each measure of `SCORES` under "test/", and what it is."""
    found = ((name, read_score(metrics, f"test/{measure}")) for measure, name in SCORES.items())
    return [(name, score) for name, score in found if score is not None]


def render(report: Report) -> str:
    """The page as a string."""
    page = Environment(
        loader=PackageLoader("audiorep.evaluate"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {
        "sentence_case": sentence_case,
        "number": number,
        "share": share,
        "frequency": frequency,
        "duration": duration,
        "curve_name": curve_name,
    }
    curves, embedding, classifier = report.curves, report.embedding, report.classifier
    return page.get_template("report.html").render(
        report=report,
        verdict=verdict(report.metrics),
        table=score_table(report.metrics),
        nuisances=shortcut_table(report.metrics),
        windows=cells(report.windows, shared=False),
        views=[cells(row, shared=True) for row in report.views],
        curves=figures.training_curves(curves, tuple(CURVES)) if curves is not None else [],
        maps=figures.embedding_maps(embedding, report.label, report.group) if embedding is not None else None,
        classifier=pictures.show_results(classifier) if classifier is not None else None,
        classifier_scores=classifier_scores(classifier.metrics) if classifier is not None else [],
        version=__version__,
    )


def write_report(report: Report, path: Path) -> None:
    """Write the page to `path` whole or not at all: to a temporary file beside it, which then takes its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        unfinished.write_text(render(report), encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
