"""Positives and negatives chosen by site or recorder (`Batch.domain`), so that telling the sites apart gains nothing."""

import torch
from jaxtyping import Int
from torch import Tensor

from audiorep.distributed import gather
from audiorep.errors import AudiorepError
from audiorep.objectives.base import Embed, Setting
from audiorep.objectives.positives import Positives, Same
from audiorep.types import Batch

ENOUGH = 4  # windows of a domain in a batch that is not drawn by domain


class ByDomain(Positives):
    """What belongs together by `of`, as labels, drawn together across domains only, or pushed apart within one only.

    With `across`, windows that belong together by `of` within one domain, or where a domain is unknown, are neither
    positives nor negatives: what they share may be the site. With `within`, windows of two domains are never negatives:
    what they differ in may be the site; windows of unknown domains count as one domain. A window's own views always
    belong together, a row that is drawn twice is never its own negative.

    Args:
        of: what belongs together were it not for the domains.
        across, within: which of the two; both will do.

    Raises:
        AudiorepError: fewer than two domains on the training side; with `across`, no label that occurs in two; with
            both, batches that hold few windows of a domain.

    Source: negatives within a domain are the in-domain instance discrimination of Kim et al. 2020 (CDS),
    arXiv:2003.08264, here without its memory; positives of one label across domains are those of Khosla et al. 2020,
    arXiv:2004.11362, without the ones within.
    """

    def __init__(self, of: Positives, across: bool = False, within: bool = False) -> None:
        super().__init__()
        self.of, self.across, self.within = of, across, within
        self.views_needed, self.uses_labels = of.views_needed, of.uses_labels

    def prepare(self, setting: Setting) -> None:
        setting.wants_domains()
        if self.across and self.uses_labels and not setting.shared:
            raise AudiorepError(
                f"positives=across_domains: none of the {setting.classes} label(s) on {setting.labelled} row(s) of the "
                "training side occurs at two values of data.domain, so no pair could be made; label the same call at a "
                "second site or recorder, or choose objective=domain_negatives, which needs no labels"
            )
        if self.across and self.within and setting.batch_size < ENOUGH * setting.domains:
            raise AudiorepError(
                f"positives.within=true: {setting.domains} sites or recorders leave each fewer than {ENOUGH} of the "
                f"{setting.batch_size} windows of a batch, and so too few negatives; raise data.batch_size to "
                f"{ENOUGH * setting.domains}, or set positives.within=false"
            )
        self.of.prepare(setting)

    def forward(self, batch: Batch) -> Same:
        same = self.of(batch)
        if not self.across:
            return same
        domain = gather(batch["domain"])
        known = domain >= 0
        others = (domain[:, None] != domain) & known[:, None] & known
        return same & (others | torch.eye(len(same), dtype=torch.bool, device=same.device))

    def apart(self, batch: Batch, same: Same) -> Same:
        apart = self.of.apart(batch, self.of(batch))
        if self.within:
            domain = gather(batch["domain"])
            apart = apart & (domain[:, None] == domain)
        index = gather(batch["index"])
        return apart & (index[:, None] != index)

    def before_epoch(self, epoch: int, embed: Embed, rng: torch.Generator) -> None:
        self.of.before_epoch(epoch, embed, rng)

    def partition(self) -> Int[Tensor, " m"] | None:
        return self.of.partition()
