"""Two classifiers that teach each other: mutual learning, and co-teaching against wrong labels."""

import copy
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from audiorep.classifier import Classifier
from audiorep.distributed import gather
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.losses.agreement import Distance, Ramp
from audiorep.losses.answers import Answers, LabelLoss, LogAnswers, log_answers, truth_of
from audiorep.objectives.base import HeldOut, Setting
from audiorep.objectives.classifying import Classifying, accuracy_of
from audiorep.types import Batch, Views

Known = Bool[Tensor, "b q"]


@runtime_checkable
class Exchange(Protocol):
    """What one of two peers learns beside the other."""

    def __call__(
        self, mine: LogAnswers, theirs: LogAnswers, target: Answers, known: Known, loss: LabelLoss, progress: float
    ) -> dict[str, Tensor]: ...


class Mutual:
    """The labels, and what the other says: ``L_labels + alpha(t) distance(p, sg(p of the other))`` over all windows.

    Source: Zhang et al. 2018, arXiv:1706.00384, eq. 1-6 (deep mutual learning).
    """

    def __init__(self, distance: Distance, alpha: Ramp) -> None:
        self.distance, self.alpha = distance, alpha

    def __call__(
        self, mine: LogAnswers, theirs: LogAnswers, target: Answers, known: Known, loss: LabelLoss, progress: float
    ) -> dict[str, Tensor]:
        apart = self.distance(mine, theirs.detach().exp()).mean()
        return {"labels": loss(mine, target, known), "agreement": self.alpha(progress) * apart}


class SmallLoss:
    """The labels that the other finds easiest: the part ``1 - forget min(1, progress / length)`` of smallest loss.

    Wrong labels have a large loss as long as they are not learned by heart, and the two forget different ones.

    Args:
        forget: part of the labels that is left out in the end; as many as are thought to be wrong.
        length: part of training over which it rises to that.
        each_class: leave out that part of each class's labels, as far as whole windows allow: in the beginning all losses of
            a class that is learned late are large. False: of all labels, as published.

    Raises:
        AudiorepError: nothing would be left, or no part of training.

    Source: Han et al. 2018, arXiv:1804.06872, algorithm 1 (co-teaching).
    """

    def __init__(self, forget: float = 0.2, length: float = 0.1, each_class: bool = True) -> None:
        if not 0.0 <= forget < 1.0 or not 0.0 <= length <= 1.0:
            raise AudiorepError(
                f"objective.exchange: forget={forget} must lie in [0, 1), length={length} is a part of training, in [0, 1]"
            )
        self.forget, self.length, self.each_class = forget, length, each_class

    def kept(self, progress: float) -> float:
        """The part of the labels that is kept."""
        return 1.0 - self.forget * (1.0 if progress >= self.length else progress / self.length)

    def __call__(
        self, mine: LogAnswers, theirs: LogAnswers, target: Answers, known: Known, loss: LabelLoss, progress: float
    ) -> dict[str, Tensor]:
        surprise = -(target * theirs.detach()).sum(2)  # without the loss's weights: a rare class is not a wrong label
        kind = answer_of(target) if self.each_class else torch.zeros_like(surprise, dtype=torch.long)
        chosen = torch.zeros_like(known)
        chosen[known] = smallest(surprise[known], kind[known], self.kept(progress))
        return {"labels": loss(mine, target, chosen)}


def smallest(value: Float[Tensor, " n"], kind: Int[Tensor, " n"], part: float) -> Bool[Tensor, " n"]:
    """The `part` with the smallest values: of each kind that part, rounded up. What then is too much are the largest of
    all, at most one of a kind, so that kinds of few values give theirs, too; one value at least is left."""
    order = value.argsort(stable=True)
    order = order[kind[order].argsort(stable=True)]  # kind after kind, in each the smallest first
    _, kind, count = kind.unique(return_inverse=True, return_counts=True)
    above = count.cumsum(0)[kind[order]] - 1 - torch.arange(len(value), device=value.device)  # how many are larger
    dropped = ((1.0 - part) * count + 1e-6).floor().long()
    chosen = torch.zeros_like(value, dtype=torch.bool)
    chosen[order] = above >= dropped[kind[order]]
    largest = order[above == dropped[kind[order]]]  # of those that are left, of each kind
    many = len(value) - max(1, round(part * len(value))) - int(dropped.sum())
    chosen[largest[value[largest].argsort(descending=True, stable=True)[: max(0, many)]]] = False
    return chosen


def answer_of(target: Answers) -> Int[Tensor, "b q"]:
    """A number for each question's answer."""
    _, questions, answers = target.shape
    return target.argmax(2) + answers * torch.arange(questions, device=target.device)


class Peers(Classifying):
    """``L = L(first | second) + L(second | first)``, each by `exchange`; the two see views of their own where there are two.

    The first is kept. Where the encoder was pretrained, the second starts from the same weights and differs in its linear
    layer only, and in what it draws.

    Args:
        encoder: of the first.
        peer: encoder of the second, with weights of its own.
        loss: of labels.
        exchange: what one learns beside the other.
        dropout: part of the embedding that is dropped before the linear layers.
        view: the kind of view.

    Raises:
        AudiorepError: fewer than two labels.
    """

    def __init__(
        self,
        encoder: Encoder,
        peer: Encoder,
        loss: LabelLoss,
        exchange: Exchange,
        dropout: float = 0.0,
        view: str = "global",
    ) -> None:
        super().__init__(encoder, loss, dropout, view)
        self.second_encoder, self.exchange = peer, exchange
        self.register_buffer("progress", torch.zeros(()))

    def prepare(self, setting: Setting) -> None:
        super().prepare(setting)
        if setting.pretrained:
            self.second_encoder = copy.deepcopy(self.encoder)
        self.second = Classifier(self.second_encoder, setting.outputs, self.dropout)

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        specs = views[self.view]
        said = [
            log_answers(gather(classifier(specs[place % len(specs)], rng)), self.several)
            for place, classifier in enumerate((self.student, self.second))
        ]
        target, known = truth_of(gather(batch["label"]), self.student.head.out_features)
        progress = float(cast(Tensor, self.progress))
        terms: dict[str, Tensor] = {}
        for mine, theirs in (said, said[::-1]):
            found = self.exchange(mine, theirs, target.to(mine.dtype), known, self.loss, progress)
            terms = {name: terms.get(name, 0.0) + value for name, value in found.items()}
        return terms

    def after_step(self, progress: float) -> None:
        cast(Tensor, self.progress).fill_(progress)

    @property
    def beside(self) -> dict[str, Classifier]:
        return {"peer": self.second}

    def measure(self, held_out: HeldOut, rng: torch.Generator) -> dict[str, float]:
        """`accuracy` of the first, `peer_accuracy` of the second."""
        held = list(held_out)
        second = accuracy_of(self.second, iter(held), self.view)
        return accuracy_of(self.student, iter(held), self.view) | {
            f"peer_{name}": value for name, value in second.items()
        }
