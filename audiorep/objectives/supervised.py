"""Supervised training: name the label of a call."""

import torch
from torch import Tensor

from audiorep.augment.labels import Mix
from audiorep.distributed import gather
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.losses.answers import LabelLoss, log_answers, truth_of
from audiorep.objectives.base import Setting
from audiorep.objectives.classifying import Classifying
from audiorep.pooling import Pooling, bags_of, mean
from audiorep.types import Batch, Views


class Supervised(Classifying):
    """``mean over labelled windows of -log softmax(classifier(view))_label``, or another `loss` of labels.

    With several labels a window each known one counts alike, present or absent; what is unknown (NaN) does not count.
    Unlabelled windows do not either. Every view of a window is asked. Weak labels, which say that a call is somewhere
    in a long row: with `pool` the logits of all windows of a row in the batch are pooled before they are asked
    (draw several of each: data.sampler=bags).

    Args:
        encoder: the encoder to train.
        loss: of answers.
        mix: mixes views and their labels.
        dropout: part of the embedding that is dropped before the linear layer.
        pool: from logits of windows to logits of a row; None: every window is asked for the label of its row.
        view: the kind of view that is used.

    Raises:
        AudiorepError: fewer than two labels on the training side; `mix` together with `pool`.

    Source: weak labels as in multiple-instance learning, Maron and Lozano-Perez 1998, NeurIPS.
    """

    def __init__(
        self,
        encoder: Encoder,
        loss: LabelLoss,
        mix: Mix,
        dropout: float = 0.0,
        pool: Pooling | None = None,
        view: str = "global",
    ) -> None:
        super().__init__(encoder, loss, dropout, view)
        if mix.mixes and pool is not None:
            raise AudiorepError("mix= and pool=: a mixture of windows belongs to no row; choose mix=none")
        self.mix, self.pool = mix, pool

    def prepare(self, setting: Setting) -> None:
        super().prepare(setting)
        self.mix.prepare(setting.compress)

    @property
    def pooling(self) -> Pooling:
        return self.pool or mean

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        terms = []
        for spec in views[self.view]:
            target, known = truth_of(batch["label"], self.student.head.out_features)
            spec, target, known = self.mix(spec, target, known, rng)
            logits, target, known = gather(self.student(spec, rng)), gather(target), gather(known.float()) > 0
            if self.pool is not None:  # of the joined batch: a row's windows may lie with several processes
                bag, first = bags_of(gather(batch["index"]))
                logits, target, known = self.pool(logits, bag), target[first], known[first]
            log_p = log_answers(logits, self.several)
            terms.append(self.loss(log_p, target.to(log_p.dtype), known))
        return {"labels": torch.stack(terms).mean()}
