"""Naming every frame: which calls sound at this moment?"""

import torch
from torch import Tensor
from torch.nn import functional as F

from audiorep.classifier import Classifier
from audiorep.data.annotated import Annotated
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.objectives.base import Setting
from audiorep.objectives.classifying import Naming
from audiorep.types import Batch, Views


class Frames(Naming):
    """``mean over frames and classes of -log sigmoid(+-logit)``: + where the annotated call covers the frame's middle.

    Several calls may sound at once; where none does, all classes are absent. The head's offsets begin at the logarithm of
    the odds that a frame of the training side belongs to the class, so that training does not begin by unlearning.

    Args:
        encoder: one whose tokens are frames in order of time (encoder=frame_cnn, or small_cnn, which is coarser).
        dropout: part of each frame's embedding that is dropped before the linear layer.
        view: the kind of view that is used; it must leave time as it is.

    Raises:
        AudiorepError: an encoder without frames, or windows that are not of recordings annotated throughout.

    Source: Cakir et al. 2017, arXiv:1702.06286 (polyphonic sound event detection); Cohen et al. 2022,
    doi:10.7554/eLife.63853 (songs).
    """

    def __init__(self, encoder: Encoder, dropout: float = 0.1, view: str = "global") -> None:
        super().__init__(encoder)
        if encoder.frames_per_token is None:
            raise AudiorepError(
                f"objective=frames names every frame, and {type(encoder).__name__} does not keep them: choose "
                "encoder=frame_cnn, or small_cnn, which is coarser"
            )
        self.dropout, self.view, self.stride = dropout, view, encoder.frames_per_token

    def prepare(self, setting: Setting) -> None:
        setting.wants_views(self.view, 1)
        if setting.annotated is None:
            raise AudiorepError(
                "objective=frames learns from recordings that are annotated throughout: use audiorep train "
                "objective=frames, not audiorep pretrain"
            )
        self.annotated: Annotated = setting.annotated
        self.step = self.stride * setting.hop_samples
        self.student = Classifier(self.encoder, self.annotated.classes, self.dropout, framewise=True)
        share = torch.from_numpy(self.annotated.shares() / max(1, setting.samples)).clamp(1e-4, 0.5)
        with torch.no_grad():
            self.student.head.bias.copy_(share.logit())

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        terms = []
        for spec in views[self.view]:
            logits = self.student(spec, rng)
            target = self.targets(batch, logits.shape[1]).to(logits.device)
            terms.append(F.binary_cross_entropy_with_logits(logits.float(), target))
        return {"frames": torch.stack(terms).mean()}

    def targets(self, batch: Batch, count: int) -> Tensor:
        """[b n c] of 1 and 0."""
        places = zip(batch["index"].tolist(), batch["start"].tolist(), strict=True)
        return torch.stack(
            [torch.from_numpy(self.annotated.frames(row, start, count, self.step)) for row, start in places]
        )
