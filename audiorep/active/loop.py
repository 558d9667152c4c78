"""Active learning simulated: the labels are known and play the person who is asked."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from audiorep.active.heads import Answers, Ask, Learn, Rows, one_hot
from audiorep.errors import AudiorepError
from audiorep.evaluate.metrics import Metric, Predictions
from audiorep.evaluate.protocol import Sides
from audiorep.select.pool import Pool, Selector
from audiorep.select.scores import ambiguous
from audiorep.types import generator


@dataclass(frozen=True)
class Scene:
    """What is simulated on.

    x: embeddings of all rows, standardised. sides: rows that may be asked (`train`) and rows to judge by (`test`), with
    the truth of both. minutes: what it costs to ask about each row.
    """

    x: Float[Tensor, "n d"]
    sides: Sides
    minutes: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Point:
    """One round: labels and minutes spent, score on the test side, clips left that the model finds ambiguous (both
    entropies high), seconds that choosing took and training took."""

    labels: int
    minutes: float
    score: float
    ambiguous: int
    choosing_s: float
    training_s: float


def simulate(
    scene: Scene,
    selector: Selector,
    first: Selector,
    learn: Learn,
    metric: Metric,
    batch: int,
    budget: int,
    seed: int,
) -> Iterator[Point]:
    """Ask `batch` clips, learn, ask again, until `budget` labels are known; a point after each round.

    Args:
        selector: chooses what is asked.
        first: chooses as long as too little is known to train on.
        metric: of class scores on the test side.

    Raises:
        AudiorepError: a batch or a budget that is none, more labels asked for than there are.
    """
    pool, test, several = scene.sides.train, scene.sides.test, scene.sides.multilabel
    check_batches(batch, budget, len(pool))
    answers = oracle(scene.sides)
    asked = np.empty(0, np.int64)
    model: Ask | None = None
    while len(asked) < budget:
        rng = generator(seed, len(asked))
        left = np.setdiff1d(pool, asked)
        began = time.perf_counter()
        log_p = None if model is None else model(left)
        given = Pool(
            scene.x[torch.from_numpy(left)],
            log_p,
            scene.x[torch.from_numpy(asked)],
            answers[asked] if several else answers[asked].argmax(1),
            several,
            torch.from_numpy(scene.minutes[left]).float(),
            len(asked) / budget,
        )
        asks = first if model is None else selector
        chosen = asks.select(given, min(batch, budget - len(asked)), rng)
        asked = np.concatenate([asked, left[chosen.rows.numpy()]])
        choosing, began = time.perf_counter() - began, time.perf_counter()
        model = learn(asked, answers[asked], rng, f"{len(asked)}") if enough(answers[asked], several) else None
        training = time.perf_counter() - began
        score, unclear = np.nan, 0
        if model is not None:
            score = judged(model, scene.sides, test, metric)
            left = np.setdiff1d(pool, asked)
            unclear = int(ambiguous(model(left), several).sum()) if len(left) else 0
        yield Point(len(asked), float(scene.minutes[asked].sum()), score, unclear, choosing, training)


def check_batches(batch: int, budget: int, available: int) -> None:
    """Refuse numbers that make no round."""
    if not 1 <= batch <= budget <= available:
        raise AudiorepError(
            f"batch={batch}, budget={budget}: at least one clip is asked at a time, and {available} rows can be asked"
        )


def full_score(scene: Scene, learn: Learn, metric: Metric, seed: int) -> float:
    """The score with every label of the pool."""
    answers, rows = oracle(scene.sides), scene.sides.train
    return judged(learn(rows, answers[rows], generator(seed), "full"), scene.sides, scene.sides.test, metric)


def oracle(sides: Sides) -> Float[Tensor, "n c"]:
    """What the person answers to each row."""
    truth = torch.from_numpy(sides.truth)
    return truth.float() if sides.multilabel else one_hot(truth.clamp(min=0), len(sides.classes))


def enough(answers: Answers, several: bool) -> bool:
    """Whether a model can be trained: two classes are there, or with `several` one that is there and not there."""
    there = (answers == 1).any(0)
    return bool((there & (answers == 0).any(0)).any()) if several else int(there.sum()) > 1


def judged(model: Ask, sides: Sides, rows: Rows, metric: Metric) -> float:
    """The score of the mean of all passes."""
    p = model(rows).exp().mean(0).double().numpy()
    said = Predictions(sides.truth[rows], p, sides.group[rows])
    return float(metric(said, np.ones((1, len(rows))))[0])
