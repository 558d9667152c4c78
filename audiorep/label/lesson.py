"""A lesson: what the head may learn from the record, and what the selector wants to know next."""

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from audiorep.active.heads import Answers
from audiorep.label.answer import Answer
from audiorep.label.record import Record
from audiorep.label.told import Settings, Told
from audiorep.select.pool import Chosen, Pool

NOISE = "noise"
"""What the head calls clips without a call, where a clip has but one class; a class of that name is the same."""


def taught(record: Record, usable: Bool[np.ndarray, " n"]) -> tuple[np.ndarray, Answers, tuple[str, ...]]:
    """Rows that the head learns from, what was answered, and the classes.

    Noise denies all classes. Where a clip has but one, it is the class `NOISE`, the last, as soon as anything is noise.
    """
    known = {row: one for row, one in record.settled.items() if usable[row] and one.kind in ("label", "noise")}
    several, classes = record.several, tuple(record.classes)
    if not several and NOISE not in classes and any(one.kind == "noise" for one in known.values()):
        classes += (NOISE,)
    number = {name: c for c, name in enumerate(classes)}
    rows, answers = [], []
    for row, settled in known.items():
        labels = settled.labels if several or settled.kind == "label" else {NOISE: True}
        if not several and list(labels.values()) != [True]:  # said where clips could have several labels
            continue
        line = np.full(len(classes), np.nan if several and settled.kind == "label" else 0.0)
        for name, there in labels.items():
            line[number[name]] = float(there)
        rows.append(row)
        answers.append(line)
    table = np.array(answers, np.float32).reshape(len(rows), len(classes))
    return np.array(rows, np.int64), torch.from_numpy(table), classes


def heard(answer: Answer, several: bool) -> list[str] | None:
    """What the head should have guessed, says an answer; None: it judges no guess."""
    if answer.kind == "noise" and not several:
        return [NOISE]
    return [name for name, present in answer.labels.items() if present] if answer.kind == "label" else None


def choose(
    told: Told,
    settings: Settings,
    free: np.ndarray,
    said: Tensor | None,
    rows: np.ndarray,
    answers: Answers,
    rng: torch.Generator,
) -> Chosen:
    """What to ask of the rows `free`, given what a model says of all rows (None: there is none) and what is known."""
    pool = Pool(
        told.x[torch.from_numpy(free)],
        None if said is None else said[:, torch.from_numpy(free)],
        told.x[torch.from_numpy(rows)],
        answers if settings.several or not len(rows) else answers.argmax(1),
        settings.several,
        None,
        min(1.0, len(rows) / settings.budget),
    )
    selector = settings.first if said is None else settings.selector
    return selector.select(pool, min(settings.batch + settings.batch // 2, len(free)), rng)
