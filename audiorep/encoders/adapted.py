"""A frozen encoder with small trained layers behind its stages."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.types import Features, Spec


class Adapter(nn.Module):
    """``x + up(relu(down(x)))`` at every position, behind a stage: of a map [b d f n] or of tokens [b l d].

    `up` is zero at the start, so that the encoder begins as it was.

    Source: Houlsby et al. 2019, arXiv:1902.00751, section 2.1; for maps as Rebuffi et al. 2018, arXiv:1803.10082.
    """

    def __init__(self, stage: nn.Module, dim: int, width: int) -> None:
        super().__init__()
        self.stage = stage
        self.down, self.up = nn.Linear(dim, width), nn.Linear(width, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        out = self.stage(*inputs, **named)
        return (self.adapt(out[0]), *out[1:]) if isinstance(out, tuple) else self.adapt(out)

    def adapt(self, x: Tensor) -> Tensor:
        """The residual layer."""
        tokens = x.movedim(1, 3) if x.ndim == 4 else x
        added = self.up(torch.relu(self.down(tokens)))
        return x + (added.movedim(3, 1) if x.ndim == 4 else added)


class Adapted(Encoder):
    """An encoder with an `Adapter` of `width` behind each of its stages; its own batch norms stay as they are.

    Raises:
        AudiorepError: a width below 1.
    """

    def __init__(self, encoder: Encoder, width: int = 32) -> None:
        super().__init__()
        if width < 1:
            raise AudiorepError(f"transfer.width={width} must be 1 or more")
        self.dim, self.patch, self.takes_samples = encoder.dim, encoder.patch, encoder.takes_samples
        self.exportable = encoder.exportable
        self.stages = {f"encoder.{name}": dim for name, dim in encoder.stages.items()}
        self.tail = tuple(f"encoder.{name}" for name in encoder.tail)
        for name, dim in encoder.stages.items():
            encoder.set_submodule(name, Adapter(encoder.get_submodule(name), dim, width))
        encoder.resting = ("",)
        self.encoder = encoder

    def forward(
        self, spec: Spec, *, keep: Int[Tensor, "b k"] | None = None, mask: Bool[Tensor, "b l"] | None = None
    ) -> Features:
        return self.encoder(spec, keep=keep, mask=mask)

    def standalone(self, part: Mapping[str, Any]) -> dict[str, Any]:
        return {**part, "encoder": self.encoder.standalone(part["encoder"])}
