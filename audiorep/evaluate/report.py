"""One HTML file that tells what was trained on what, whether it is any good, and what to do next.

The file needs nothing else: no script, font, picture or address outside it. Every string in a report may come
from a stranger's annotation table, so the template escapes all of them and the page forbids scripts altogether.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from audiorep import html
from audiorep.evaluate import figures, pictures
from audiorep.evaluate.results import Results
from audiorep.evaluate.score_table import classifier_scores, score_table, shortcut_table
from audiorep.evaluate.standing import verdict
from audiorep.evaluate.words import CURVES, curve_name, duration, frequency, number, sentence_case, share
from audiorep.files import write_text


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
class Cell:
    """A picture and its spectrogram as a data URI."""

    picture: Picture
    src: str


def cells(pictures: Sequence[Picture], *, shared: bool) -> list[Cell]:
    """Spectrograms coloured on one scale if `shared` (views, where loudness tells), else each on its own."""
    images = [picture.image for picture in pictures]
    spans = [figures.colour_range(images if shared else [image]) for image in images]
    drawn = [figures.spectrogram(image, *span) for image, span in zip(images, spans, strict=True)]
    return [Cell(picture, src) for picture, src in zip(pictures, drawn, strict=True)]


def render(report: Report) -> str:
    """The page as a string."""
    filters: dict[str, Callable[..., str]] = {
        "sentence_case": sentence_case,
        "number": number,
        "share": share,
        "frequency": frequency,
        "duration": duration,
        "curve_name": curve_name,
    }
    curves, embedding, classifier = report.curves, report.embedding, report.classifier
    return html.render(
        "audiorep.evaluate",
        "report.html",
        filters,
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
    )


def write_report(report: Report, path: Path) -> None:
    """Write the page to `path`, whole or not at all."""
    write_text(path, render(report))
