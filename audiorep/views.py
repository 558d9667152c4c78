"""From one batch of waves to named, augmented views: the whole way from samples to what an encoder sees.

wave augments -> front-end -> power augments (mixing) -> compress -> spectrogram augments
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from audiorep import types
from audiorep.augment.base import Augment, apply_all
from audiorep.compress import Compress
from audiorep.errors import AudiorepError
from audiorep.frontend import FrontEnd
from audiorep.types import Spec, Wave


class Branch(nn.Module):
    """One kind of view: how many, and the augmentations in order on samples, on power, on the compressed spectrogram.

    A branch may have a front-end and a compression of its own instead of the model's.
    """

    def __init__(
        self,
        count: int = 1,
        wave: Sequence[Augment] = (),
        power: Sequence[Augment] = (),
        spec: Sequence[Augment] = (),
        frontend: FrontEnd | None = None,
        compress: Compress | None = None,
    ) -> None:
        super().__init__()
        if count < 1:
            raise AudiorepError(f"views: a branch with count={count} makes no views")
        if (frontend is None) != (compress is None):
            raise AudiorepError("views: a branch with a front-end of its own needs a compression of its own too")
        self.count, self.frontend, self.compress = count, frontend, compress
        self.wave, self.power, self.spec = (nn.ModuleList(augments) for augments in (wave, power, spec))


class Views(nn.Module):
    """Make all views of a batch. The front-end runs once for all views that do not augment samples.

    Args:
        branches: name of the view ("global", "local", "weak", "strong") -> `Branch`.
        frontend, compress: those of the model; views and model share them.

    Raises:
        AudiorepError: augmentations of spectrograms on a branch that gives samples.
    """

    def __init__(self, branches: Mapping[str, Branch], frontend: FrontEnd, compress: Compress) -> None:
        super().__init__()
        for name, branch in branches.items():
            own = branch.frontend or frontend
            if own.gives_samples and (len(branch.power) or len(branch.spec)):
                raise AudiorepError(
                    f"the views of the kind '{name}' are samples, and their augmentations are for spectrograms: choose "
                    "views=wave, and an objective that needs no other views"
                )
        self.frontend, self.compress = frontend, compress
        self.branches = nn.ModuleDict(dict(branches.items()))

    @property
    def augments(self) -> list[Augment]:
        """All augmentations of all branches."""
        return [module for module in self.branches.modules() if isinstance(module, Augment)]

    @property
    def counts(self) -> dict[str, int]:
        """How many views of each kind are made."""
        branches: Any = self.branches.items()
        return {name: branch.count for name, branch in branches}

    def clean(self, wave: Wave) -> Spec:
        """The spectrogram without any augmentation, as in evaluation."""
        return self.compress(self.frontend(wave))

    def own(self) -> list[tuple[FrontEnd, Compress]]:
        """The front-ends and compressions that belong to branches and not to the model."""
        branches: Any = self.branches.values()
        return [(branch.frontend, branch.compress) for branch in branches if branch.frontend is not None]

    def forward(self, wave: Wave, rng: torch.Generator) -> types.Views:
        shared: Spec | None = None
        views: types.Views = {}
        branches: Any = self.branches.items()
        for name, branch in branches:
            views[name] = []
            for _ in range(branch.count):
                frontend, compress = branch.frontend or self.frontend, branch.compress or self.compress
                if len(branch.wave) or branch.frontend is not None:
                    power = frontend(apply_all(branch.wave, wave, rng))
                else:
                    shared = self.frontend(wave) if shared is None else shared
                    power = shared
                power = apply_all(branch.power, power, rng)
                spec = compress(power)
                views[name].append(apply_all(branch.spec, spec, rng, owned=spec.data_ptr() != power.data_ptr()))
        return views
