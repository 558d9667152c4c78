"""Supervised training: name the label of a call."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.distributed import gather
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.losses.precision import wide
from audiorep.objectives.base import HeldOut, Objective, Setting
from audiorep.types import Batch, Views


class Supervised(Objective):
    """``mean over labelled windows of -log softmax(head(pooled))_label``; several labels: binary cross-entropy.

    With several labels a window each known one counts alike, present or absent; what is unknown (NaN) does not count.
    Unlabelled windows do not either. Every view of a window is asked.

    Args:
        encoder: the encoder to train.
        head: built on the encoder's width and told `outputs`, the number of classes.
        view: the kind of view that is used.

    Raises:
        AudiorepError: fewer than two labels on the training side.
    """

    def __init__(self, encoder: Encoder, head: Callable[..., nn.Module], view: str = "global") -> None:
        super().__init__(encoder)
        self.make_head, self.view = head, view
        self.head: nn.Module = nn.Identity()

    @property
    def uses_labels(self) -> bool:
        return True

    def prepare(self, setting: Setting) -> None:
        setting.wants_views(self.view, 1)
        if setting.labelled < 2 or setting.classes < 2:
            raise AudiorepError(
                f"objective=supervised needs two labels or more, and the training side has {setting.classes} on "
                f"{setting.labelled} row(s): label some, or choose an objective without labels, such as simclr"
            )
        if not setting.absences:
            raise AudiorepError(
                "objective=supervised needs rows of which it is known that a label does not apply to them, and there are "
                "none: to call everything present would be no error. Where rows name all that is heard, set "
                'labels.complete=true; else name what is absent ("a|-b")'
            )
        self.head = self.make_head(self.encoder.dim, outputs=setting.outputs)

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        label = gather(batch["label"])
        logits = [gather(self.head(self.encoder(spec).pooled)) for spec in views[self.view]]
        return {"labels": torch.stack([label_loss(wide(logit), label) for logit in logits]).mean()}

    def measure(self, held_out: HeldOut, rng: torch.Generator) -> dict[str, float]:
        """`accuracy` of the head on labelled windows, augmented as in training; not for several labels."""
        hits: list[Tensor] = []
        for views, batch in held_out:
            if batch["label"].ndim == 1:
                known = batch["label"] >= 0
                named = self.head(self.encoder(views[self.view][0]).pooled).argmax(1)
                hits.append((named == batch["label"])[known].float())
        every = torch.cat(hits) if hits else torch.empty(0)
        return {"accuracy": float(every.mean())} if len(every) else {}


def label_loss(logit: Float[Tensor, "b c"], label: Tensor) -> Tensor:
    """Cross-entropy over what is known of `label`: [b] numbers with -1, or [b c] of 1, 0 and NaN. 0 if nothing is."""
    if label.ndim == 1:
        losses, known = F.cross_entropy(logit, label.clamp_min(0), reduction="none"), label >= 0
    else:
        known = ~label.isnan()
        losses = F.binary_cross_entropy_with_logits(logit, label.nan_to_num().to(logit.dtype), reduction="none")
    return torch.where(known, losses, torch.zeros_like(losses)).sum() / known.sum().clamp_min(1)
