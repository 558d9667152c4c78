"""Self-distillation: what the deepest layer says teaches the shallow ones."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiorep.distributed import gather
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.losses.agreement import Distance
from audiorep.losses.answers import LabelLoss, log_answers, truth_of
from audiorep.objectives.base import Setting
from audiorep.objectives.classifying import Classifying
from audiorep.types import Batch, Spec, Views


class SelfDistill(Classifying):
    """``L = L_labels(p) + shallow mean_s L_labels(p_s) + weight mean_s distance(p_s, sg(p))`` over the stages s of the
    encoder but the last, each with a linear layer on the mean over its positions.

    Only the deepest classifier is kept. All windows take part in the agreement, labelled ones in the rest.

    Args:
        encoder: the encoder to train.
        loss: of labels.
        distance: of a shallow prediction from the deepest.
        shallow, weight: of the second and the third term.
        dropout: part of the embedding that is dropped before the deepest linear layer.
        view: the kind of view.

    Raises:
        AudiorepError: fewer than two labels, or an encoder with a single stage.

    Source: Zhang et al. 2019, arXiv:1905.08094, eq. 5-7 (be your own teacher), without its hint on features.
    """

    def __init__(
        self,
        encoder: Encoder,
        loss: LabelLoss,
        distance: Distance,
        shallow: float = 0.5,
        weight: float = 0.3,
        dropout: float = 0.0,
        view: str = "global",
    ) -> None:
        super().__init__(encoder, loss, dropout, view)
        self.distance, self.shallow, self.weight = distance, shallow, weight

    def prepare(self, setting: Setting) -> None:
        super().prepare(setting)
        stages = list(self.encoder.stages.items())[:-1]
        if not stages:
            raise AudiorepError(
                f"{type(self.encoder).__name__} has no layers before its last that could be taught: choose an encoder that "
                "is trained, such as encoder=small_cnn, or objective=self_distill_predictions"
            )
        self.names = [name for name, _ in stages]
        self.heads = nn.ModuleList(nn.Linear(width, setting.outputs) for _, width in stages)

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        target, known = truth_of(gather(batch["label"]), self.student.head.out_features)
        sums: dict[str, Tensor] = {}
        specs = views[self.view]
        for spec in specs:
            deep, *shallow = [log_answers(gather(logits), self.several) for logits in self.all_logits(spec, rng)]
            target = target.to(deep.dtype)
            terms = {"labels": self.loss(deep, target, known)}
            asked = [self.loss(log_p, target, known) for log_p in shallow]
            apart = [self.distance(log_p, deep.detach().exp()).mean() for log_p in shallow]
            terms["shallow"] = self.shallow * torch.stack(asked).mean()
            terms["agreement"] = self.weight * torch.stack(apart).mean()
            sums = {name: sums.get(name, 0.0) + value / len(specs) for name, value in terms.items()}
        return sums

    def all_logits(self, spec: Spec, rng: torch.Generator | None) -> list[Float[Tensor, "b c"]]:
        """Logits of the deepest classifier and of one a stage."""
        found: dict[str, list[Tensor]] = {name: [] for name in self.names}  # pieces, see `Encoder`

        def keep(name: str) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                found[name].append(over_positions(output))

            return hook

        hooks = [self.encoder.get_submodule(name).register_forward_hook(keep(name)) for name in self.names]
        try:
            deep = self.student(spec, rng)
        finally:
            for hook in hooks:
                hook.remove()
        return [deep, *(head(torch.cat(found[name])) for name, head in zip(self.names, self.heads, strict=True))]


def over_positions(output: Any) -> Float[Tensor, "b d"]:
    """The mean over positions of what a stage gives: a map [b d f n] or tokens [b l d], or a tuple that begins with one."""
    x = output[0] if isinstance(output, tuple) else output
    return x.mean((2, 3)) if x.ndim == 4 else x.mean(1)
