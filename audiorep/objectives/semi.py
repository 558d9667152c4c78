"""Semi-supervised training: labels where there are any, agreement with a teacher everywhere. Pi-model, mean teacher,
temporal ensembling, pseudo-labels and FixMatch are configs of this class."""

import logging
from collections.abc import Callable
from itertools import permutations, product
from typing import cast

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from audiorep.classifier import Classifier
from audiorep.distributed import gather
from audiorep.encoders.base import Encoder
from audiorep.losses.agreement import Distance, Mask, Ramp
from audiorep.losses.answers import Answers, LabelLoss, LogAnswers, log_answers, truth_of
from audiorep.objectives.base import Embed, HeldOut, Objective, Setting
from audiorep.objectives.classifying import accuracy_of
from audiorep.teachers import Teacher
from audiorep.types import Batch, Spec, Views

log = logging.getLogger(__name__)


class Answering(nn.Module):
    """A classifier that says probabilities: spectrogram -> answers [b q k]."""

    def __init__(self, classifier: Classifier, several: bool) -> None:
        super().__init__()
        self.classifier, self.several = classifier, several

    def log(self, spec: Spec, rng: torch.Generator | None = None) -> LogAnswers:
        """Their logarithms, of the joined batch of all processes."""
        return log_answers(gather(self.classifier(spec, rng)), self.several)

    def forward(self, spec: Spec) -> Answers:
        return log_answers(self.classifier(spec), self.several).exp()


class SemiSupervised(Objective):
    """``L = L_labels + alpha(t) mean over windows of [t counts] distance(student(view), sharpen(t))``,
    ``t = teacher(target_view)``.

    Every window of the batch is asked to agree with its target, labelled or not; `L_labels` is over those with a label.
    Where `view` and `target_view` are one kind with several views, every view is compared with every other; where it has
    a single one, that is passed twice, and only dropout makes a difference.

    Args:
        encoder: the encoder to train.
        loss: of labels.
        teacher: built on the student, whose outputs are probabilities.
        sharpen: from the logarithm of a target to the target.
        mask: which targets count.
        distance: of a prediction from its target.
        alpha: weight by progress.
        dropout: part of the embedding that is dropped before the linear layer; the target has none where the teacher is
            another network.
        view, target_view, label_view: the kinds that the student, the teacher and the labels see.

    Raises:
        AudiorepError: fewer than two labels, or views that are not made.
    """

    def __init__(
        self,
        encoder: Encoder,
        loss: LabelLoss,
        teacher: Callable[[nn.Module], Teacher],
        sharpen: nn.Module,
        mask: Mask,
        distance: Distance,
        alpha: Ramp,
        dropout: float = 0.0,
        view: str = "strong",
        target_view: str = "weak",
        label_view: str = "weak",
    ) -> None:
        super().__init__(encoder)
        self.loss, self.make_teacher, self.sharpen = loss, teacher, sharpen
        self.mask, self.distance, self.alpha, self.dropout = mask, distance, alpha, dropout
        self.view, self.target_view, self.label_view = view, target_view, label_view
        self.register_buffer("progress", torch.zeros(()))
        self.register_buffer("counted", torch.zeros(2))  # unlabelled targets since the epoch began: sure ones, and all
        self.latest = torch.zeros(())
        self.in_vain = 0  # passes in a row in which no target counted

    @property
    def uses_labels(self) -> bool:
        return True

    def prepare(self, setting: Setting) -> None:
        for kind in {self.view, self.target_view, self.label_view}:
            setting.wants_views(kind, 1)
        setting.wants_classes()
        self.student = Answering(Classifier(self.encoder, setting.outputs, self.dropout), setting.several)
        self.loss.fit(setting.answers)
        self.teacher = self.make_teacher(self.student)
        slots = setting.slots or setting.rows
        self.teacher.prepare(slots, setting.answers.shape)
        self.mask.prepare(slots, *setting.answers.shape)

    @property
    def classifier(self) -> Classifier:
        return cast(Answering, self.teacher.trained or self.student).classifier

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        slot = gather(batch["slot"])
        said: dict[str, list[LogAnswers]] = {}
        for kind in dict.fromkeys((self.label_view, self.view)):
            said[kind] = [self.student.log(spec, rng) for spec in views[kind]]
        targets = self.targets(views, said, slot, rng)
        label = gather(batch["label"])
        target, known = truth_of(label, self.student.classifier.head.out_features)
        named = [self.loss(log_p, target.to(log_p.dtype), known) for log_p in said[self.label_view]]
        return {"labels": torch.stack(named).mean(), "agreement": self.agreement(said[self.view], targets, slot, known)}

    def targets(
        self, views: Views, said: dict[str, list[LogAnswers]], slot: Tensor, rng: torch.Generator
    ) -> list[Answers]:
        """The teacher's answers to each view of `target_view`, of the joined batch."""
        specs = views[self.target_view]
        if not self.teacher.echoes:
            return [gather(answers) for answers in self.teacher(specs, [], slot)]
        again = self.target_view not in said or (self.target_view == self.view and len(specs) == 1)
        heard = [self.student.log(spec, rng) for spec in specs] if again else said[self.target_view]
        return self.teacher(specs, [log_p.exp() for log_p in heard], slot)

    def agreement(
        self, said: list[LogAnswers], targets: list[Answers], slot: Tensor, known: Bool[Tensor, "b q"]
    ) -> Tensor:
        """The weighted mean distance over all pairs of a prediction and a target, 0 where a target does not count.

        How many count is noted of what is unlabelled alone: what is `known` is soon learned by heart.
        """
        crossed = self.view == self.target_view and len(said) > 1
        pairs = (
            list(permutations(range(len(said)), 2)) if crossed else list(product(range(len(said)), range(len(targets))))
        )
        terms: list[Tensor] = []
        counts: dict[int, Bool[Tensor, "b q"]] = {
            j: self.mask(targets[j].detach(), slot) for j in sorted({j for _, j in pairs})
        }
        for i, j in pairs:
            goal = self.sharpen(targets[j].clamp_min(1e-30).log())
            terms.append((self.distance(said[i], goal) * counts[j]).mean())
        sure = torch.stack([(counted & ~known).sum() for counted in counts.values()]).sum()
        asked = (~known).sum() * len(counts)
        self.latest = sure / asked.clamp_min(1)
        cast(Tensor, self.counted).add_(torch.stack([sure, asked]))
        return self.alpha(float(cast(Tensor, self.progress))) * torch.stack(terms).mean()

    def watched(self) -> dict[str, float]:
        return {"counted": float(self.latest), "alpha": self.alpha(float(cast(Tensor, self.progress)))}

    def after_step(self, progress: float) -> None:
        self.teacher.update(self.student, progress)
        cast(Tensor, self.progress).fill_(progress)
        if progress >= 1.0:
            self.warn("in the last pass over the corpus")

    def before_epoch(self, epoch: int, embed: Embed, rng: torch.Generator) -> None:
        self.warn(f"in pass {epoch - 1} over the corpus")
        cast(Tensor, self.counted).zero_()

    def warn(self, when: str) -> None:
        """Say so where no target has counted since the pass began: at the first such pass in a row, the second, fourth ..."""
        counted, asked = cast(Tensor, self.counted).tolist()
        self.in_vain = self.in_vain + 1 if asked and not counted else 0
        if self.in_vain.bit_count() == 1:
            log.warning(
                "no target was confident enough %s: the unlabelled windows taught nothing. If this goes on, lower "
                "objective.mask.threshold, or train longer (trainer.max_steps)",
                when,
            )

    def measure(self, held_out: HeldOut, rng: torch.Generator) -> dict[str, float]:
        return accuracy_of(self.classifier, held_out, self.label_view)
