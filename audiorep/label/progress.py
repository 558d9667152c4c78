"""How far it has come: learning curve as answers arrive, and when there is little left to learn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from audiorep.active.heads import Answers, Head, Predict
from audiorep.active.loop import enough
from audiorep.evaluate.metrics import Predictions, balanced_accuracy, cmap
from audiorep.label.agreement import cohen_kappa

STABLE, ROUNDS = 0.99, 3
"""Successive models that agree to this kappa in so many rounds running have little left to learn."""

RECENT = 40
"""Questions over which it is counted how often the model's guess was right."""


@dataclass(frozen=True)
class Figures:
    """After a round: labels, answers that are learned from; part of the recent guesses that turned out right; kappa between
    this model and the one before; score on rows that only judge. None: not known."""

    labels: int
    guessed: float | None
    kappa: float | None
    held_out: float | None


def train(
    head: Head, x: Float[Tensor, "n d"], rows: np.ndarray, answers: Answers, several: bool, rng: torch.Generator
) -> Predict | None:
    """A model, where enough is known for one."""
    if not len(rows) or not enough(answers, several):
        return None
    return head(x[torch.from_numpy(rows)], answers, several, rng)


def figures(
    labels: int,
    p: Float[np.ndarray, "n c"] | None,
    before: Float[np.ndarray, "n b"] | None,
    stop_set: np.ndarray,
    judges: np.ndarray,
    truth: Answers,
    guesses: Sequence[tuple[str, int]],
    several: bool,
) -> Figures:
    """What is known after a round.

    Args:
        p, before: probabilities of all rows by this model and the one before, of the same classes.
        stop_set: rows on which these are compared.
        judges, truth: rows that only judge, and their answers.
        guesses: (class, whether it was right) for every answered question, in order.
    """
    recent = [right for _, right in guesses[-RECENT:]]
    guessed = sum(recent) / len(recent) if recent else None
    kappa = None
    if p is not None and before is not None and len(stop_set):
        kappa = stability(*(decisions(q[stop_set], several) for q in (p, before)))
    held_out = None
    if p is not None and len(judges):
        metric = cmap if several else balanced_accuracy
        said = truth.double().numpy() if several else truth.argmax(1).numpy()
        groups = np.array([str(row) for row in judges])
        value = float(metric(Predictions(said, p[judges].astype(float), groups), np.ones((1, len(judges))))[0])
        held_out = value if np.isfinite(value) else None
    return Figures(labels, guessed, kappa, held_out)


def decisions(p: Float[np.ndarray, "n c"], several: bool) -> np.ndarray:
    """What a model decides: the likeliest class, or of each class whether it is there."""
    return (p > 0.5).astype(int).ravel() if several else p.argmax(1)


def stability(now: np.ndarray, before: np.ndarray) -> float | None:
    """Cohen's kappa of two models' decisions; None where they cannot be compared, or both decide for one class throughout:
    then they agree by having learned nothing yet."""
    if len(now) != len(before):
        return None
    kinds, place = np.unique(np.concatenate([now, before]), return_inverse=True)
    counts = np.zeros((len(kinds), len(kinds)), np.int64)
    np.add.at(counts, (place[: len(now)], place[len(now) :]), 1)
    kappa = cohen_kappa(counts)
    return None if np.isnan(kappa) else kappa


def hint(history: Sequence[Figures]) -> str:
    """What to tell those who answer.

    Source: Bloodgood and Vijay-Shanker 2009, arXiv:1409.5165 (stop when predictions are stable).
    """
    kappas = [one.kappa for one in history[-ROUNDS:]]
    if len(kappas) == ROUNDS and all(k is not None and k >= STABLE for k in kappas):
        return f"The last {ROUNDS} models decide alike (kappa of {STABLE} and more): more answers will change little."
    return ""
