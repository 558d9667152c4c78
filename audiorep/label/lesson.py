"""A lesson: what the head may learn from the record, and what the selector wants to know next."""

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from audiorep.active.heads import Answers
from audiorep.label.record import Record
from audiorep.label.told import Settings, Told
from audiorep.select.pool import Chosen, Pool


def taught(record: Record, usable: Bool[np.ndarray, " n"]) -> tuple[np.ndarray, Answers, tuple[str, ...]]:
    """Rows that the head learns from, what was answered, and the classes."""
    classes = tuple(record.classes)
    number = {name: c for c, name in enumerate(classes)}
    several = record.several
    rows, answers = [], []
    for row, settled in record.settled.items():
        if not usable[row] or settled.kind not in (("label", "noise") if several else ("label",)):
            continue
        if not several and list(settled.labels.values()) != [True]:  # said where clips could have several labels
            continue
        line = np.full(len(classes), np.nan if several and settled.kind == "label" else 0.0)
        for name, there in settled.labels.items():
            line[number[name]] = float(there)
        rows.append(row)
        answers.append(line)
    table = np.array(answers, np.float32).reshape(len(rows), len(classes))
    return np.array(rows, np.int64), torch.from_numpy(table), classes


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
