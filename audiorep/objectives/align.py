"""Sounds and their annotation words in one space: a sound near its own words, far from those of other sounds."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.distributed import gather
from audiorep.encoders.base import Encoder
from audiorep.encoders.text import WordEncoder, word_sets
from audiorep.errors import AudiorepError
from audiorep.losses.precision import wide
from audiorep.objectives.base import HeldOut, Objective, Setting
from audiorep.objectives.joint import Head, Projected
from audiorep.types import Batch, Spec, Views

MakeWords = Callable[[int], WordEncoder]
"""Built on the number of a vocabulary's words."""

LARGEST_SCALE = 100.0
"""Cosines are multiplied by at most so much: ``tau >= 0.01``."""


class WithWords(Objective):
    """Pairs sounds with their annotation words, among which the labels may be.

    Args:
        encoder: the encoder to train.
        view: the kind of view that is used.

    Raises:
        AudiorepError: in `prepare`: a training side without words to tell apart.
    """

    def __init__(self, encoder: Encoder, view: str) -> None:
        super().__init__(encoder)
        self.view, self.words_hold_labels = view, True

    @property
    def uses_labels(self) -> bool:
        return self.words_hold_labels

    def prepare(self, setting: Setting) -> None:
        setting.wants_views(self.view, 1)
        setting.wants_words()
        self.words_hold_labels = setting.words_hold_labels


class AudioText(WithWords):
    """``(H(same, softmax_j s_ij) + H(same, softmax_i s_ij)) / 2`` with ``s_ij = cos(sound_i, words_j) / tau``.

    Rows with the same set of words are no negatives of each other: they share the target's mass evenly. i and j run over
    the rows of the joined batch that have words, the others are left out. tau is learned. Words are annotations, and by
    default the labels are among them: this objective trains with the labels of the training side.

    Args:
        encoder: the encoder to train.
        projector, text_projector: heads of equal width, on the encoder and on the words.
        text: makes the encoder of the words, told the size of the vocabulary.
        tau: temperature at the start.
        view: the kind of view that is used.

    Raises:
        AudiorepError: projections of different width, a temperature out of range, or a training side without words to
            tell apart.

    Source: Radford et al. 2021 (CLIP), arXiv:2103.00020, section 2 and figure 3; for sounds Elizalde et al. 2022 (CLAP),
    arXiv:2206.04769; shared mass: Yang et al. 2022 (UniCL), arXiv:2204.03610.
    """

    def __init__(
        self,
        encoder: Encoder,
        projector: Head,
        text: MakeWords,
        text_projector: Head,
        tau: float = 0.07,
        view: str = "global",
    ) -> None:
        super().__init__(encoder, view)
        if not 1.0 / LARGEST_SCALE <= tau <= 1.0:
            raise AudiorepError(f"objective.tau={tau} must lie between {1.0 / LARGEST_SCALE:g} and 1")
        self.student = Projected(encoder, projector(encoder.dim))
        self.make_text, self.make_text_projector = text, text_projector
        self.words: nn.Module = nn.Identity()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(tau)))

    def prepare(self, setting: Setting) -> None:
        super().prepare(setting)
        text = self.make_text(setting.vocabulary)
        head = self.make_text_projector(text.dim)
        if head.dim != self.student.projector.dim:
            raise AudiorepError(
                f"objective.text_projector.outputs={head.dim} must equal objective.projector.outputs="
                f"{self.student.projector.dim}: sounds are compared with words"
            )
        self.words = ProjectedWords(text, head)

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        text = gather(batch["tokens"])
        words, text_of = gather(self.words(batch["tokens"])), word_sets(text)
        sounds = [gather(self.student(spec)) for spec in views[self.view]]
        losses = [symmetric_info_nce(sound, words, text_of, self.log_scale.exp()) for sound in sounds]
        return {"alignment": torch.stack(losses).mean()}

    def embeddings(self, spec: Spec) -> dict[str, Float[Tensor, "b d"]]:
        pooled = self.encoder(spec).pooled
        return {"backbone": pooled, "projection": self.student.projector(pooled)}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        self.log_scale.clamp_(0.0, math.log(LARGEST_SCALE))

    def measure(self, held_out: HeldOut, rng: torch.Generator) -> dict[str, float]:
        """Retrieval both ways, see `retrieval`: every window of the held-out side that has words, all their word sets."""
        heard = [(self.student(views[self.view][0]), batch["tokens"]) for views, batch in held_out]
        if not heard:
            return {}
        sounds, tokens = (torch.cat(part) for part in zip(*heard, strict=True))
        text_of = word_sets(tokens)
        annotated = text_of >= 0
        words = self.words(tokens[first_rows(text_of)])
        score = F.normalize(wide(sounds)[annotated]) @ F.normalize(wide(words)).T
        return retrieval(score, text_of[annotated])


class ProjectedWords(nn.Module):
    """Encoder of the words and projector: words [b w] -> projection [b d]."""

    def __init__(self, encoder: WordEncoder, projector: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector

    def forward(self, words: Int[Tensor, "b w"]) -> Float[Tensor, "b d"]:
        return self.projector(self.encoder(words).pooled)


def symmetric_info_nce(
    sound: Float[Tensor, "b d"], words: Float[Tensor, "b d"], text_of: Int[Tensor, " b"], scale: Float[Tensor, ""]
) -> Tensor:
    """Cross-entropy both ways between sounds and words, over the rows whose `text_of` is not -1; 0 if there is none.

    ``-1/2b sum_ij y_ij [log softmax_j(s)_ij + log softmax_i(s)_ij]``, ``s_ij = scale cos(sound_i, words_j)``, y_ij one
    over the number of rows with the text of i where j is one of them, else 0.
    """
    annotated = text_of >= 0
    text_of = text_of[annotated]
    with torch.autocast(sound.device.type, enabled=False):
        a, b = F.normalize(wide(sound)[annotated]), F.normalize(wide(words)[annotated])
        logits = scale * a @ b.T
        same = (text_of[:, None] == text_of).to(logits)
        target = same / same.sum(1, keepdim=True).clamp_min(1.0)  # symmetric: the rows of a text are equally many
        both = logits.log_softmax(1) + logits.log_softmax(0)
        return -(target * both).sum() / (2 * max(1, len(text_of)))


def first_rows(text_of: Int[Tensor, " b"]) -> Int[Tensor, " k"]:
    """The first row of each text, in order of the texts' numbers."""
    number, row = text_of.sort(stable=True)
    begins = number != number.roll(1)
    begins[:1] = True
    return row[begins & (number >= 0)]


def retrieval(score: Float[Tensor, "m k"], text_of: Int[Tensor, " m"]) -> dict[str, float]:
    """How often the best scored text is a sound's own, and the best scored sound one of a text's own.

    ``audio_to_text_recall@1 = 1/m sum_i [argmax_k s_ik = text of i]``; ``text_to_audio_recall@1 = 1/k sum_j [text of
    argmax_i s_ij = j]``. The chances are those of a guess without listening: always the commonest text, and a sound
    drawn at random. Nothing where there are fewer than two texts.
    """
    texts = score.shape[1]
    if texts < 2:
        return {}
    share = torch.bincount(text_of, minlength=texts) / len(text_of)
    named, found = score.argmax(1), text_of[score.argmax(0)]
    return {
        "audio_to_text_recall@1": float((named == text_of).float().mean()),
        "audio_to_text_chance": float(share.max()),
        "text_to_audio_recall@1": float((found == torch.arange(texts, device=found.device)).float().mean()),
        "text_to_audio_chance": float(share.mean()),
    }
