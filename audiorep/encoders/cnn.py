"""The default encoder where there is no GPU: a small strided CNN in the manner of BYOL-A."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from audiorep.encoders.base import Encoder, refuse_patches
from audiorep.types import Features, Spec


def block(inputs: int, outputs: int, stride: int | tuple[int, int], kernel: int = 3) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class SmallCnn(Encoder):
    """Four strided convolutions, then per frame one linear layer over all bands, then mean + maximum over time.

    About 49 MFLOP for a view of [64, 96] at width 32. The bands are pooled to `rows` before the linear layer, so that
    any number of bands and any length will do. Tokens are the frames after the linear layer.

    Source: the pooling and the layer over bands follow Niizumi et al. 2022 (BYOL-A v2), arXiv:2204.07402, section
    IV-B1; the strided stem is ours, for speed.
    """

    def __init__(self, width: int = 32, dim: int = 512, rows: int = 4) -> None:
        super().__init__()
        self.dim, self.frames_per_token = dim, 8
        self.stem = block(1, width, 2)
        self.body = nn.Sequential(
            block(width, 2 * width, 2), block(2 * width, 4 * width, 2), block(4 * width, 4 * width, (2, 1))
        )
        self.rows = rows
        self.mix = nn.Sequential(nn.Linear(4 * width * rows, dim), nn.ReLU(inplace=True))
        self.stages = {"stem": width, "body.0": 2 * width, "body.1": 4 * width, "body.2": 4 * width, "mix": dim}

    def forward(
        self, spec: Spec, *, keep: Int[Tensor, "b k"] | None = None, mask: Bool[Tensor, "b l"] | None = None
    ) -> Features:
        refuse_patches(self, keep, mask)
        x = self.body(self.stem(spec))
        x = pool_rows(x, self.rows)
        tokens = self.mix(x.permute(0, 3, 2, 1).flatten(2))
        return Features(tokens.mean(1) + tokens.amax(1), tokens)


def pool_rows(x: Tensor, rows: int) -> Tensor:
    """Average the bands of [b d f n] into `rows` rows (repeating bands where there are fewer)."""
    if x.shape[2] == rows:
        return x
    if x.shape[2] % rows == 0:
        return x.unflatten(2, (rows, -1)).mean(3)
    edges = [(row * x.shape[2] // rows, (row + 1) * x.shape[2] // rows) for row in range(rows)]
    return torch.stack([x[:, :, low : max(low + 1, high)].mean(2) for low, high in edges], 2)
