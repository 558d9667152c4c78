"""Which windows of a batch belong together: the same clip, the same label, near in time, or the same cluster."""

from typing import cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.assign import clusters_of
from audiorep.distributed import gather
from audiorep.errors import AudiorepError
from audiorep.objectives.base import Embed, Setting
from audiorep.types import Batch

Same = Bool[Tensor, "b b"]


class Positives(nn.Module):
    """Says of every two windows of the joined batch whether they belong together; a window always does with itself."""

    views_needed = 1
    """Views of each window without which there would be no positives."""

    uses_labels = False
    """Whether labels say what belongs together."""

    def prepare(self, setting: Setting) -> None:
        """Refuse a corpus that has no such positives."""

    def forward(self, batch: Batch) -> Same:
        raise NotImplementedError

    def apart(self, batch: Batch, same: Same) -> Same:
        """Which windows are pushed away from each other: all that do not belong together."""
        return ~same

    def before_epoch(self, epoch: int, embed: Embed, rng: torch.Generator) -> None:
        """Before every pass over the corpus."""

    def partition(self) -> Int[Tensor, " m"] | None:
        """The cluster of each row, for samplers that draw by cluster."""
        return None


class ByAugmentation(Positives):
    """Only the views of one and the same window belong together."""

    views_needed = 2

    def forward(self, batch: Batch) -> Same:
        count = len(gather(batch["index"]))
        return torch.eye(count, dtype=torch.bool, device=batch["index"].device)


class ByLabel(Positives):
    """Windows with the same label; several labels: with one in common. Unlabelled windows belong to nobody."""

    uses_labels = True

    def prepare(self, setting: Setting) -> None:
        if setting.labelled < 2 or setting.classes < 2:
            raise AudiorepError(
                f"positives=labels needs two labels or more, and the training side has {setting.classes} on "
                f"{setting.labelled} row(s): label some, or choose positives=augmentation"
            )

    def forward(self, batch: Batch) -> Same:
        label = gather(batch["label"])
        if label.ndim == 1:
            same = (label[:, None] == label) & (label >= 0)[:, None]
        else:
            present = (label == 1).float()
            same = present @ present.T > 0
        return same | torch.eye(len(label), dtype=torch.bool, device=label.device)


class NearInTime(Positives):
    """Windows of the same recording whose starts are at most `within_s` apart: the same bout, the same animal.

    Source: Jansen et al. 2018, arXiv:1711.02209, section 3.1 (temporal proximity); the pairs are drawn by
    `audiorep.data.sampler.NearInTime`.
    """

    def __init__(self, within_s: float, sample_rate_hz: int) -> None:
        super().__init__()
        self.within = within_s * sample_rate_hz + 1.0  # starts are rounded to samples

    def forward(self, batch: Batch) -> Same:
        recording, start = gather(batch["recording"]), gather(batch["start"])
        near = (start[:, None] - start).abs() <= self.within
        return near & (recording[:, None] == recording)


class ByCluster(Positives):
    """Windows whose rows fell into the same k-means cluster of normalised embeddings, found anew before every epoch.

    Before the first epoch of training the encoder knows nothing: until `from_epoch` only a window itself belongs to it.
    """

    def __init__(self, clusters: int = 32, from_epoch: int = 1) -> None:
        super().__init__()
        self.clusters, self.from_epoch = clusters, from_epoch
        self.register_buffer("cluster", torch.full((0,), -1))

    def prepare(self, setting: Setting) -> None:
        if setting.rows < 2 * self.clusters:
            raise AudiorepError(
                f"positives.clusters={self.clusters} of {setting.rows} rows: fewer than two rows a cluster; "
                f"lower it to {max(2, setting.rows // 2)} or less"
            )
        if self.from_epoch >= setting.epochs:
            raise AudiorepError(
                f"positives.from_epoch={self.from_epoch}: training ends after {setting.epochs:.2g} passes over the corpus, "
                "before clusters would be used; lower it, or raise trainer.max_steps"
            )
        self.register_buffer("cluster", torch.full((setting.rows,), -1, device=cast(Tensor, self.cluster).device))

    def forward(self, batch: Batch) -> Same:
        index = gather(batch["index"])
        cluster = cast(Tensor, self.cluster)[index]
        same = (cluster[:, None] == cluster) & (cluster >= 0)[:, None]
        return same | (index[:, None] == index)

    def before_epoch(self, epoch: int, embed: Embed, rng: torch.Generator) -> None:
        if epoch >= self.from_epoch:
            cast(Tensor, self.cluster).copy_(clusters_of(F.normalize(embed().float()), self.clusters, rng))

    def partition(self) -> Int[Tensor, " m"] | None:
        cluster = cast(Tensor, self.cluster)
        return cluster if bool((cluster >= 0).any()) else None
