"""Residual networks for one channel."""

from collections.abc import Sequence

from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.encoders.base import Encoder, map_to_tokens, refuse_patches
from audiorep.types import Features, Spec


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution and batch norm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """``relu(f(x) + shortcut(x))``; the shortcut is a 1x1 convolution where shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        same = stride == 1 and inputs == outputs
        self.shortcut: nn.Module = nn.Identity() if same else conv(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.branch(x) + self.shortcut(x))


def basic(inputs: int, width: int, stride: int) -> Residual:
    """Two 3x3 convolutions."""
    branch = nn.Sequential(conv(inputs, width, 3, stride), nn.ReLU(inplace=True), conv(width, width, 3))
    return Residual(inputs, width, stride, branch)


def bottleneck(inputs: int, width: int, stride: int) -> Residual:
    """1x1, 3x3 (with the stride), 1x1 to four times the width."""
    branch = nn.Sequential(
        conv(inputs, width, 1),
        nn.ReLU(inplace=True),
        conv(width, width, 3, stride),
        nn.ReLU(inplace=True),
        conv(width, 4 * width, 1),
    )
    return Residual(inputs, 4 * width, stride, branch)


class ResNet(Encoder):
    """ResNet-18 (basic, 2-2-2-2), -34 (basic, 3-4-6-3) or -50 (bottleneck, 3-4-6-3) with one input channel.

    Pooled: mean over the last map. Tokens: the positions of the last map, 1/32 of the input either way.

    Source: He et al. 2016, arXiv:1512.03385, table 1; stride in the 3x3 convolution as is usual since.
    """

    def __init__(self, depths: Sequence[int] = (2, 2, 2, 2), width: int = 64, deep: bool = False) -> None:
        super().__init__()
        make, expansion = (bottleneck, 4) if deep else (basic, 1)
        self.stem = nn.Sequential(conv(1, width, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
        inputs, stages = width, []
        self.stages = {"stem": width}
        for stage, depth in enumerate(depths):
            for layer in range(depth):
                stride = 2 if stage > 0 and layer == 0 else 1
                stages.append(make(inputs, width * 2**stage, stride))
                inputs = width * 2**stage * expansion
                self.stages[f"body.{len(stages) - 1}"] = inputs
        self.body = nn.Sequential(*stages)
        self.dim = inputs
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(
        self, spec: Spec, *, keep: Int[Tensor, "b k"] | None = None, mask: Bool[Tensor, "b l"] | None = None
    ) -> Features:
        refuse_patches(self, keep, mask)
        x = self.body(self.stem(spec))
        return Features(x.mean((2, 3)), map_to_tokens(x))
