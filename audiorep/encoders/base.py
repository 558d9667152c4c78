"""What every encoder keeps to: spectrogram in, `Features` out, at any length, a large batch in pieces if need be."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from audiorep.errors import AudiorepError
from audiorep.types import Features, Spec


class Encoder(nn.Module):
    """Spectrogram [b 1 f n] to `Features`.

    dim: width d of the embedding.
    patch: (bands, frames) of a token where the encoder cuts the input into patches, else None.
    frames_per_token: frames of the spectrogram from one token to the next where tokens are frames in order of time, the
        first of them the first; else None.
    frames_per_answer: the same from one of its own logits to the next, where it names moments itself.
    takes_samples: whether it wants samples [b 1 1 t] instead of a spectrogram.
    exportable: whether it can become ONNX.
    pieces: parts in which a training batch is encoded; `split_batches` sets it.
    stages: names of its submodules from input to output, each with the width of what it gives, a map [b d f n] or tokens
        [b l d]: what transfer freezes, slows down or adds to.
    tail: names of submodules behind the last stage; they are trained or kept with it.
    resting: names of submodules that stay in evaluation mode in training, because they are frozen; "" is the encoder.

    With pieces > 1, training keeps nothing but the outputs: the backward pass encodes one piece after the other again.
    Losses over the whole batch and their gradients stay what they were, as long as no sample sees its neighbours.

    Source: Gao et al. 2021, arXiv:2101.06983, section 3 (gradient caching).
    """

    dim: int
    patch: tuple[int, int] | None = None
    frames_per_token: int | None = None
    frames_per_answer: int | None = None
    takes_samples: bool = False
    exportable: bool = True
    pieces: int = 1
    stages: Mapping[str, int] = {}
    tail: tuple[str, ...] = ()
    resting: tuple[str, ...] = ()

    def train(self, mode: bool = True) -> "Encoder":
        super().train(mode)
        for name in self.resting:
            nn.Module.train(self.get_submodule(name), False)
        return self

    def __call__(
        self, spec: Spec, *, keep: Int[Tensor, "b k"] | None = None, mask: Bool[Tensor, "b l"] | None = None
    ) -> Features:
        encode = super().__call__
        if self.pieces == 1 or not self.training:
            return encode(spec, keep=keep, mask=mask)
        size = -(-len(spec) // self.pieces)
        parts = []
        for first in range(0, len(spec), size):
            here = slice(first, first + size)
            kept, masked = None if keep is None else keep[here], None if mask is None else mask[here]
            if torch.is_grad_enabled():
                parts.append(checkpoint(encode, spec[here], keep=kept, mask=masked, use_reentrant=False))
            else:
                parts.append(encode(spec[here], keep=kept, mask=masked))
        return join(parts)

    def forward(
        self, spec: Spec, *, keep: Int[Tensor, "b k"] | None = None, mask: Bool[Tensor, "b l"] | None = None
    ) -> Features:
        """Encode; `keep` drops all other tokens, `mask` replaces tokens. Encoders without patches refuse both."""
        raise NotImplementedError

    def standalone(self, part: Mapping[str, Any]) -> dict[str, Any]:
        """The config `part` of this encoder without files that it was made from: what a saved model says of it."""
        return dict(part)


def join(parts: Sequence[Features]) -> Features:
    """Features of pieces of a batch as those of the whole."""
    layers = [torch.cat(layer) for layer in zip(*(part.layers for part in parts), strict=True)]
    return Features(torch.cat([part.pooled for part in parts]), torch.cat([part.tokens for part in parts]), layers)


def split_batches(module: nn.Module, pieces: int) -> None:
    """Let all encoders within a module encode training batches in `pieces` parts.

    Raises:
        AudiorepError: less than one piece, or an encoder with batch norm: its samples see the rest of the batch.
    """
    if pieces < 1:
        raise AudiorepError(f"trainer.accumulate={pieces} must be 1 or more")
    encoders = [part for part in module.modules() if isinstance(part, Encoder)]
    for encoder in encoders:
        if pieces > 1 and any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in encoder.modules()):
            raise AudiorepError(
                f"trainer.accumulate={pieces} would change what batch norm sees in {type(encoder).__name__}: "
                "choose encoder=convnext_mini or a ViT, or lower data.batch_size"
            )
    for encoder in encoders:
        encoder.pieces = pieces


def refuse_patches(encoder: Encoder, keep: Tensor | None, mask: Tensor | None) -> None:
    """What encoders without patches do first."""
    if keep is not None or mask is not None:
        raise AudiorepError(
            f"{type(encoder).__name__} has no patches to keep or mask: choose a ViT, such as encoder=vit_mini"
        )


def refuse_spectrograms(encoder: Encoder, spec: Spec) -> None:
    """What encoders of samples do first."""
    if spec.shape[2] != 1:
        raise AudiorepError(
            f"{type(encoder).__name__} takes samples, not a spectrogram of {spec.shape[2]} bands: choose frontend=waveform"
        )


def refuse_training(encoder: Encoder, spec: Spec, name: str) -> None:
    """What encoders of a network that runs elsewhere do first; `name` is the network's."""
    if torch.is_grad_enabled() and (encoder.training or spec.requires_grad):
        raise AudiorepError(
            f"{name} cannot be trained, and no gradient passes through it: evaluate it, embed with it, keep it frozen under "
            "a classifier (transfer=frozen views=wave, or audiorep run label_propagation), or let another encoder learn from "
            "it (objective=distill teacher.model=)"
        )


def map_to_tokens(x: Float[Tensor, "b d f n"]) -> Float[Tensor, "b l d"]:
    """A feature map as a sequence of tokens, band by band."""
    return x.flatten(2).transpose(1, 2)
