"""From a code back to a spectrogram of any size."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.types import Spec


class ConvDecoder(nn.Module):
    """Code [b d] -> small map -> enlarged twofold with a convolution, again and again -> spectrogram [b 1 f n].

    The map begins with `rows` times `columns` places whatever is asked for; the first enlargement makes of it what, with
    a factor of two each, ends at the bands and frames that are asked for. About 40 MFLOP for [64, 96].

    Args:
        inputs: width d of the code.
        channels: of each map; one enlargement each.
        rows, columns: places of the first map.
    """

    def __init__(
        self, inputs: int, channels: Sequence[int] = (128, 64, 32, 16), rows: int = 4, columns: int = 6
    ) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        self.enter = nn.Linear(inputs, channels[0] * rows * columns)
        outputs = [*channels[1:], 1]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(channels, outputs, strict=True))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in channels)

    def forward(self, code: Float[Tensor, "b d"], bands: int, frames: int) -> Spec:
        x = self.enter(code).unflatten(1, (-1, self.rows, self.columns))
        for i, (norm, layer) in enumerate(zip(self.norms, self.layers, strict=True)):
            part = 2 ** (len(self.layers) - 1 - i)
            x = F.relu(norm(x))
            x = layer(F.interpolate(x, (-(-bands // part), -(-frames // part)), mode="nearest"))
        return x
