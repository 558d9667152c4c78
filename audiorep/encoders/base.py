"""What every encoder keeps to: spectrogram in, `Features` out, at any length."""

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from audiorep.errors import AudiorepError
from audiorep.types import Features, Spec


class Encoder(nn.Module):
    """Spectrogram [b 1 f n] to `Features`.

    dim: width d of the embedding.
    patch: (bands, frames) of a token where the encoder cuts the input into patches, else None.
    """

    dim: int
    patch: tuple[int, int] | None = None

    def forward(
        self, spec: Spec, *, keep: Int[Tensor, "b k"] | None = None, mask: Bool[Tensor, "b l"] | None = None
    ) -> Features:
        """Encode; `keep` drops all other tokens, `mask` replaces tokens. Encoders without patches refuse both."""
        raise NotImplementedError


def refuse_patches(encoder: Encoder, keep: Tensor | None, mask: Tensor | None) -> None:
    """What encoders without patches do first."""
    if keep is not None or mask is not None:
        raise AudiorepError(
            f"{type(encoder).__name__} has no patches to keep or mask: choose a ViT, such as encoder=vit_mini"
        )


def map_to_tokens(x: Float[Tensor, "b d f n"]) -> Float[Tensor, "b l d"]:
    """A feature map as a sequence of tokens, band by band."""
    return x.flatten(2).transpose(1, 2)
