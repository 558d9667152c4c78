"""What a selector sees, what it answers, and what all of them keep to."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audiorep.errors import AudiorepError

LogProbabilities = Float[Tensor, "m n c"]
"""Of m dropout passes or members (1: a single model), n clips and c classes."""


@dataclass(frozen=True)
class Pool:
    """The clips that may be asked, and those that were answered; on one device, and never written to.

    Args:
        embedding: of the clips that may be asked.
        log_p: ``log softmax`` of m dropout passes or members of an ensemble, or of one model (m = 1); with `several`
            the logarithms of the probabilities that each class is there. -inf is allowed. None: there is no model yet.
        labelled: embeddings of the clips that were answered; none: [0 d].
        label: their answers: class numbers, or with `several` 1, 0 and NaN (unknown).
        several: whether a clip may have several labels.
        minutes: what it costs to ask about each clip; None: all alike.
        spent: the part of the budget that is spent, from 0 to 1.

    Raises:
        AudiorepError: embeddings or probabilities that are not finite, positive logarithms, one class alone, minutes
            that are not positive, or a part outside [0, 1].
    """

    embedding: Float[Tensor, "n d"]
    log_p: Float[Tensor, "m n c"] | None
    labelled: Float[Tensor, "l d"]
    label: Int[Tensor, " l"] | Float[Tensor, "l c"]
    several: bool = False
    minutes: Float[Tensor, " n"] | None = None
    spent: float = 0.0

    def __post_init__(self) -> None:
        for name, x in (("embedding", self.embedding), ("labelled", self.labelled)):
            # a sum tells without a mask as large as x; only a sum that is not finite is looked at row by row
            if not x.sum().isfinite() and not (finite := x.isfinite().all(1)).all():
                row = int((~finite).int().argmax())
                raise AudiorepError(f"pool.{name}: row {row} is not finite: leave out clips that cannot be decoded")
        if self.log_p is not None:
            check_probabilities(self.log_p, self.several)
        if self.minutes is not None and not bool(((self.minutes > 0.0) & self.minutes.isfinite()).all()):
            raise AudiorepError("pool.minutes: every clip must cost more than 0 minutes, and not endlessly many")
        if not 0.0 <= self.spent <= 1.0:
            raise AudiorepError(f"pool.spent={self.spent}: a part of the budget, between 0 and 1")

    def __len__(self) -> int:
        return len(self.embedding)


def check_probabilities(log_p: LogProbabilities, several: bool) -> None:
    """Refuse what are no logarithms of probabilities."""
    if not log_p.numel():
        return
    if log_p.shape[2] < 2 and not several:
        raise AudiorepError(
            "pool.log_p: of one class a model is always sure: name two classes at least, or several=True"
        )
    # both are single passes without a temporary; the sum is NaN if any of them is
    if bool(log_p.sum().isnan()) or float(log_p.max()) > 1e-3:
        raise AudiorepError(
            "pool.log_p: logarithms of probabilities are needed, at most 0 and not NaN: log softmax of the logits, or"
            " log sigmoid with several=True"
        )


@dataclass(frozen=True)
class Needs:
    """What a selector cannot do without, for callers that plan the training before it.

    Args:
        probabilities: `Pool.log_p` is looked at: to be given from the first trained model on.
        trained: without probabilities nothing can be chosen, so the first batch has to come from another selector.
        passes: several passes are compared: dropout or an ensemble. One pass is taken, but tells nothing.
        answered: at least one answered clip.
    """

    probabilities: bool = False
    trained: bool = False
    passes: bool = False
    answered: bool = False


@dataclass(frozen=True)
class Chosen:
    """Rows of the pool, the most wanted first, and why: the score that each was taken for, in the selector's own unit."""

    rows: Int[Tensor, " k"]
    score: Float[Tensor, " k"]


class Selector:
    """Chooses clips to ask about. The same pool and generator give the same choice."""

    needs = Needs()

    @torch.no_grad()
    def select(self, pool: Pool, k: int, rng: torch.Generator) -> Chosen:
        """k different rows of the pool.

        Args:
            rng: a generator on the pool's device.

        Raises:
            AudiorepError: more clips than there are, or a pool without what is needed.
        """
        check_request(pool, k, self.needs)
        if k == 0:
            none = pool.embedding.new_zeros(0, dtype=torch.float32)
            return Chosen(none.long(), none)
        return self.pick(pool, k, rng)

    def pick(self, pool: Pool, k: int, rng: torch.Generator) -> Chosen:
        """As `select`, with at least one clip to choose and with what is needed."""
        raise NotImplementedError


def check_request(pool: Pool, k: int, needs: Needs) -> None:
    """Refuse what cannot be chosen."""
    if not 0 <= k <= len(pool):
        raise AudiorepError(f"batch={k}: {len(pool)} clips are left to ask about: ask for 0 to {len(pool)} of them")
    first = "begin with selector=diversity_first, typiclust, k_medoids, farthest_first or random"
    if needs.trained and pool.log_p is None:
        raise AudiorepError(
            f"this selector needs the probabilities of a trained model, and there are none yet: {first}"
        )
    if needs.answered and not len(pool.labelled):
        raise AudiorepError(f"this selector compares with clips that were answered, and there are none yet: {first}")
