"""Knowledge distillation: a finished model teaches another one what it hears, what it would say, or both."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audiorep.classifier import Classifier
from audiorep.distributed import gather
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.frozen import FrozenTeacher, Network
from audiorep.losses.agreement import Distance
from audiorep.losses.answers import LabelLoss, log_answers, truth_of
from audiorep.objectives.base import HeldOut, Objective, Setting
from audiorep.objectives.classifying import accuracy_of
from audiorep.types import Batch, Views


class Distill(Objective):
    """``L = labels L_labels(p) + soft distance(p, t) + features mean |A z - standardise(e)|^2``

    with p the student's answers to its augmented view, z its embedding; t the answers and e the embedding of the teacher,
    which hears the window as it is. A is a linear layer; e is standardised by dimension over the batch. A term with weight
    0, or for which there is nothing (no labels, a teacher without classes), is not there; at least one must be.

    Args:
        encoder: the student's.
        teacher: the finished model.
        loss: of labels.
        distance: of the student's answers from the teacher's; `Divergence` has the temperature and its square.
        labels, soft, features: weights of the terms.
        dropout: part of the student's embedding that is dropped before its linear layer.
        view: the kind of view that the student sees.

    Raises:
        AudiorepError: nothing to learn from; a teacher of other classes, or of several labels a window for one of a
            single label or the reverse.

    Source: Hinton et al. 2015, arXiv:1503.02531, section 2; features as in Romero et al. 2015, arXiv:1412.6550, eq. 3.
    """

    def __init__(
        self,
        encoder: Encoder,
        teacher: FrozenTeacher,
        loss: LabelLoss,
        distance: Distance,
        labels: float = 1.0,
        soft: float = 1.0,
        features: float = 1.0,
        dropout: float = 0.0,
        view: str = "global",
    ) -> None:
        super().__init__(encoder)
        self.teacher, self.loss, self.distance = teacher, loss, distance
        self.weights = {"labels": labels, "soft": soft, "features": features}
        self.dropout, self.view = dropout, view
        self.student: Classifier | None = None

    @property
    def uses_labels(self) -> bool:
        return self.weights["labels"] > 0.0

    @property
    def classifier(self) -> Classifier | None:
        return self.student

    @property
    def facts(self) -> dict[str, str]:
        licence = self.teacher.network.licence
        return {"teacher": self.teacher.name} | ({"teacher_licence": licence} if licence else {})

    def prepare(self, setting: Setting) -> None:
        setting.wants_views(self.view, 1)
        network, weights = self.teacher.network, self.weights
        self.rate_hz, self.several = setting.rate_hz, setting.several
        if not network.classes or not setting.names:
            weights["soft"] = 0.0
        if setting.labelled < 2 or (setting.classes < 2 and not setting.several) or not setting.absences:
            weights["labels"] = 0.0
        if network.dim is None:
            weights["features"] = 0.0
        if not any(weights.values()):
            raise AudiorepError(
                f"teacher.model={self.teacher.name} gives no embedding and no classes of this corpus, and there are no "
                "labels: there is nothing to learn; label some rows, or name another teacher"
            )
        if weights["soft"]:
            self.columns = columns_of(network, setting.names, setting.several, self.teacher.name)
        if weights["labels"] or weights["soft"]:
            self.student = Classifier(self.encoder, setting.outputs, self.dropout)
            self.loss.fit(setting.answers)
        if weights["features"]:
            self.project = nn.Linear(self.encoder.dim, int(network.dim or 0))
            self.standardise = nn.BatchNorm1d(int(network.dim or 0), affine=False)

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        told = self.teacher(batch, self.rate_hz)
        sums: dict[str, Tensor] = {}
        for spec in views[self.view]:
            pooled = self.encoder(spec).pooled
            terms: dict[str, Tensor] = {}
            if self.student is not None:
                log_p = log_answers(gather(self.student.head(self.student.drop(pooled, rng))), self.several)
                if self.weights["labels"]:
                    target, known = truth_of(gather(batch["label"]), self.student.head.out_features)
                    terms["labels"] = self.loss(log_p, target.to(log_p.dtype), known)
                if self.weights["soft"] and told.logits is not None:
                    answers = log_answers(gather(told.logits[:, self.columns]), self.several).exp()
                    terms["soft"] = self.distance(log_p, answers).mean()
            if self.weights["features"] and told.embedding is not None:
                wanted = self.standardise(gather(told.embedding))
                terms["features"] = (gather(self.project(pooled)).float() - wanted).square().mean()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + self.weights[name] * value / len(views[self.view])
        return sums

    def measure(self, held_out: HeldOut, rng: torch.Generator) -> dict[str, float]:
        return {} if self.student is None else accuracy_of(self.student, held_out, self.view)


def columns_of(network: Network, names: Sequence[str], several: bool, teacher: str) -> list[int]:
    """Where the teacher's logits of the student's classes stand.

    Raises:
        AudiorepError: several labels a window against one, or a class that the teacher does not know.
    """
    if network.multilabel != several:
        theirs, ours = ("several labels", "one label") if network.multilabel else ("one label", "several labels")
        raise AudiorepError(
            f"teacher.model={teacher} gives a window {theirs}, and this corpus {ours}: probabilities that sum to 1 and "
            "probabilities class by class are not the same thing. Set objective.soft=0 to learn from its embedding only, or "
            f"set labels.multilabel={str(network.multilabel).lower()}"
        )
    missing = [name for name in names if name not in network.classes]
    if missing:
        raise AudiorepError(
            f"teacher.model={teacher} does not know the class '{missing[0]}' ({len(missing)} such); it knows: "
            f"{', '.join(list(network.classes)[:12])}. Set objective.soft=0 to learn from its embedding only"
        )
    return [list(network.classes).index(name) for name in names]
