"""From one batch of waves to named, augmented views: the whole way from samples to what an encoder sees.

wave augments -> front-end -> power augments (mixing) -> compress -> spectrogram augments
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from audiorep import types
from audiorep.augment.base import Augment
from audiorep.frontend import Compress, FrontEnd
from audiorep.types import Spec, Wave


@dataclass
class Branch:
    """One kind of view.

    count: how many views of this kind.
    wave, power, spec: augmentations in order, on samples, on power, and on the compressed spectrogram.
    """

    count: int = 1
    wave: Sequence[Augment] = field(default_factory=list)
    power: Sequence[Augment] = field(default_factory=list)
    spec: Sequence[Augment] = field(default_factory=list)


class Views(nn.Module):
    """Make all views of a batch. The front-end runs once for all views that do not augment samples.

    Args:
        branches: name of the view ("global", "local", "weak", "strong") -> `Branch`.
        frontend, compress: those of the model; views and model share them.
    """

    def __init__(self, branches: Mapping[str, Branch], frontend: FrontEnd, compress: Compress) -> None:
        super().__init__()
        self.frontend, self.compress = frontend, compress
        self.counts = {name: branch.count for name, branch in branches.items()}
        self.wave = nn.ModuleDict({name: nn.ModuleList(branch.wave) for name, branch in branches.items()})
        self.power = nn.ModuleDict({name: nn.ModuleList(branch.power) for name, branch in branches.items()})
        self.spec = nn.ModuleDict({name: nn.ModuleList(branch.spec) for name, branch in branches.items()})

    def clean(self, wave: Wave) -> Spec:
        """The spectrogram without any augmentation, as in evaluation."""
        return self.compress(self.frontend(wave))

    def forward(self, wave: Wave, rng: torch.Generator) -> types.Views:
        shared: Spec | None = None
        views: types.Views = {}
        for name, count in self.counts.items():
            views[name] = []
            for _ in range(count):
                if len(self.wave[name]):  # type: ignore[arg-type]
                    power = self.frontend(apply_all(self.wave[name], wave, rng))
                else:
                    shared = self.frontend(wave) if shared is None else shared
                    power = shared
                spec = self.compress(apply_all(self.power[name], power, rng))
                views[name].append(apply_all(self.spec[name], spec, rng))
        return views


def apply_all(augments: nn.Module, x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Apply augmentations one after the other."""
    for augment in augments.children():
        x = augment(x, rng)
    return x
