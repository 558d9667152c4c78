"""MixMatch: guess the labels of the unlabelled, then mix everything with everything."""

from typing import cast

import torch
from torch import Tensor, nn

from audiorep.augment.labels import Mixup
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.losses.agreement import Distance, Ramp
from audiorep.losses.answers import LabelLoss, log_answers, truth_of
from audiorep.objectives.base import Setting
from audiorep.objectives.classifying import Classifying
from audiorep.types import Batch, Views


class MixMatch(Classifying):
    """``L = L_labels(X') + alpha(t) mean over U' of distance(p, q')``: X' and U' are windows of X and U mixed with others.

    The guess for an unlabelled window is the mean of the classifier's answers to its K views, sharpened. X are the labelled
    windows with their labels (the guess for those of several that are not known), U all views of the unlabelled ones with
    their guesses; W holds both in random order, and the i-th of X and U is mixed with the i-th of W, nearer to itself (lam
    at least one half).

    Args:
        encoder: the encoder to train.
        loss: of labels.
        sharpen: of the guesses.
        mix: the mixture; its `first` must be true.
        distance: of a prediction from a guess; squared error in the paper.
        alpha: weight by progress.
        dropout: part of the embedding that is dropped before the linear layer.
        view: the kind of the K views.

    Raises:
        AudiorepError: fewer than two labels, a single view, or a mixture that is not nearer to its first part.

    Source: Berthelot et al. 2019, arXiv:1905.02249, algorithm 1 and eq. 2-5; mixed in linear power.
    """

    least_views = 2

    def __init__(
        self,
        encoder: Encoder,
        loss: LabelLoss,
        sharpen: nn.Module,
        mix: Mixup,
        distance: Distance,
        alpha: Ramp,
        dropout: float = 0.0,
        view: str = "weak",
    ) -> None:
        super().__init__(encoder, loss, dropout, view)
        if not mix.first:
            raise AudiorepError("objective.mix.first=false: a mixture must be nearer to its own window; set it to true")
        self.sharpen, self.mix, self.distance, self.alpha = sharpen, mix, distance, alpha
        self.register_buffer("progress", torch.zeros(()))

    def prepare(self, setting: Setting) -> None:
        super().prepare(setting)
        self.mix.prepare(setting.compress)

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        specs = views[self.view]
        truth, known = truth_of(batch["label"], self.student.head.out_features)
        labelled = known.any(1)
        guess = self.guess(specs)
        ours, theirs = specs[0][labelled], [spec[~labelled] for spec in specs]
        spec = torch.cat([ours, *theirs])
        told = torch.where(known[:, :, None], truth.to(guess.dtype), guess)
        target = torch.cat([told[labelled], guess[~labelled].repeat(len(specs), 1, 1)])
        order = torch.randperm(len(spec), generator=rng, device=spec.device)
        mixed, soft = self.mix.apply(spec, target, spec[order], target[order], self.mix.sample(spec, rng))
        log_p = log_answers(self.student(mixed, rng), self.several)
        first = len(ours)
        terms = {"labels": self.loss(log_p[:first], soft[:first], known[labelled])}
        apart = self.distance(log_p[first:], soft[first:]).sum() / max(1, (len(spec) - first) * known.shape[1])
        return terms | {"agreement": self.alpha(float(cast(Tensor, self.progress))) * apart}

    def guess(self, specs: list[Tensor]) -> Tensor:
        """The sharpened mean answer to all views of each window; no gradient but for what sharpens."""
        with torch.no_grad():
            answers = [log_answers(self.student(spec), self.several).exp() for spec in specs]
        return self.sharpen(torch.stack(answers).mean(0).clamp_min(1e-30).log())

    def after_step(self, progress: float) -> None:
        cast(Tensor, self.progress).fill_(progress)
