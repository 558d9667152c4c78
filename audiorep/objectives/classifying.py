"""What objectives have in common that train a classifier by labels."""

import torch
from torch import Tensor

from audiorep.classifier import Classifier
from audiorep.encoders.base import Encoder
from audiorep.losses.answers import LabelLoss
from audiorep.objectives.base import HeldOut, Objective, Setting


class Naming(Objective):
    """Trains a classifier on the encoder, `student`, by labels. `prepare` makes it."""

    student: Classifier

    @property
    def uses_labels(self) -> bool:
        return True

    @property
    def classifier(self) -> Classifier:
        return self.student


class Classifying(Naming):
    """Has a classifier on the encoder, `student`, and a loss of labels that is told how often each answer is given.

    Args:
        encoder: the encoder to train.
        loss: of labels.
        dropout: part of the embedding that is dropped before the linear layer.
        view: the kind of view that the classifier sees.

    Raises:
        AudiorepError: in `prepare`: fewer than two labels, or fewer than `least_views` views.
    """

    least_views = 1

    def __init__(self, encoder: Encoder, loss: LabelLoss, dropout: float, view: str) -> None:
        super().__init__(encoder)
        self.loss, self.dropout, self.view = loss, dropout, view

    def prepare(self, setting: Setting) -> None:
        setting.wants_views(self.view, self.least_views)
        setting.wants_classes()
        self.student = Classifier(self.encoder, setting.outputs, self.dropout)
        self.several = setting.several
        self.loss.fit(setting.answers)

    def measure(self, held_out: HeldOut, rng: torch.Generator) -> dict[str, float]:
        return accuracy_of(self.student, held_out, self.view)


def accuracy_of(student: Classifier, held_out: HeldOut, view: str) -> dict[str, float]:
    """`accuracy` of a classifier on labelled windows, augmented as in training; not for several labels."""
    hits: list[Tensor] = []
    for views, batch in held_out:
        if batch["label"].ndim == 1:
            known = batch["label"] >= 0
            named = student(views[view][0]).argmax(1)
            hits.append((named == batch["label"])[known].float())
    every = torch.cat(hits) if hits else torch.empty(0)
    return {"accuracy": float(every.mean())} if len(every) else {}
