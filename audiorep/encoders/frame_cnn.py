"""An encoder that keeps every frame: for naming each moment of a recording instead of a window as a whole."""

from collections.abc import Sequence

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.encoders.base import Encoder, refuse_patches
from audiorep.encoders.cnn import block, pool_rows
from audiorep.types import Features, Spec


class Dilated(nn.Module):
    """A residual step along time: normalise, look at the neighbours at a distance, mix the channels. [b d n] -> [b d n]"""

    def __init__(self, dim: int, dilation: int, kernel: int = 5) -> None:
        super().__init__()
        self.look = nn.Conv1d(
            dim, dim, kernel, padding=dilation * (kernel // 2), dilation=dilation, groups=dim, bias=False
        )
        self.norm = nn.BatchNorm1d(dim)
        self.mix = nn.Conv1d(dim, dim, 1)

    def forward(self, x: Float[Tensor, "b d n"]) -> Float[Tensor, "b d n"]:
        return x + self.mix(F.relu(self.norm(self.look(x))))


class FrameCnn(Encoder):
    """Convolutions that stride over bands only, one linear layer over what is left of them, dilated convolutions in time.

    Tokens are the frames of the spectrogram, each of which sees ``4 sum(dilations) + 6`` neighbours; the embedding of a
    window is their mean + maximum.

    Source: bands are pooled and frames kept as in TweetyNet (Cohen et al. 2022, doi:10.7554/eLife.63853); dilated
    residual convolutions stand for its recurrent layer (Bai et al. 2018, arXiv:1803.01271).
    """

    def __init__(self, width: int = 24, dim: int = 192, rows: int = 4, dilations: Sequence[int] = (1, 2, 4, 8)) -> None:
        super().__init__()
        self.dim, self.rows, self.frames_per_token = dim, rows, 1
        self.stem = block(1, width, (2, 1))
        self.body = nn.Sequential(block(width, 2 * width, (2, 1)), block(2 * width, 2 * width, (2, 1)))
        self.mix = nn.Sequential(nn.Linear(2 * width * rows, dim), nn.ReLU(inplace=True))
        self.context = nn.Sequential(*(Dilated(dim, dilation) for dilation in dilations))
        self.stages = {"stem": width, "body.0": 2 * width, "body.1": 2 * width, "mix": dim}
        self.tail = ("context",)

    def forward(
        self, spec: Spec, *, keep: Int[Tensor, "b k"] | None = None, mask: Bool[Tensor, "b l"] | None = None
    ) -> Features:
        refuse_patches(self, keep, mask)
        x = pool_rows(self.body(self.stem(spec)), self.rows)
        frames = self.mix(x.permute(0, 3, 2, 1).flatten(2))
        tokens = self.context(frames.transpose(1, 2)).transpose(1, 2)
        return Features(tokens.mean(1) + tokens.amax(1), tokens)
