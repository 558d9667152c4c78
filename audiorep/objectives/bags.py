"""OBoW: from one view, say which visual words the teacher sees in another; the vocabulary grows out of the teacher."""

from collections.abc import Callable
from itertools import permutations
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.distributed import gather, rand
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.losses.consistency import soft_cross_entropy
from audiorep.objectives.base import Objective, Setting
from audiorep.queues import Queue
from audiorep.teachers import Teacher
from audiorep.types import Batch, Spec, Views

Tokens = Float[Tensor, "b l d"]
Bag = Float[Tensor, "b k"]


class Local(nn.Module):
    """The encoder's tokens, normalised: spectrogram [b 1 f n] -> [b l d]."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, spec: Spec) -> Tokens:
        return F.normalize(self.encoder(spec).tokens.float(), dim=2)


class BagOfWords(Objective):
    """``mean over views s != t of H( bag_t, softmax( cos(pooled_s, G(word)) / tau ) )``.

    ``bag = max over tokens u of softmax_k(-|u - word_k|^2 / delta)``, divided by its sum; ``delta = sharpness`` times the
    running mean of the squared distance of a token to its nearest word. The vocabulary is a queue: every step one
    token of each teacher view replaces an oldest word, so no word stays dead. G turns words into classifier weights.

    Args:
        encoder: the encoder to train.
        words: size of the vocabulary.
        weights: G, built on the encoder's width and told `outputs`, the same.
        teacher: built on the encoder.
        tau: the student's temperature.
        sharpness: of the teacher's words.
        view: the kind of view that is used.

    Raises:
        AudiorepError: a vocabulary smaller than a batch.

    Source: Gidaris et al. 2021 (OBoW), arXiv:2012.11552, section 3, eq. 2-5.
    """

    def __init__(
        self,
        encoder: Encoder,
        words: int,
        weights: Callable[..., nn.Module],
        teacher: Callable[[nn.Module], Teacher],
        tau: float = 0.125,
        sharpness: float = 0.1,
        view: str = "global",
    ) -> None:
        super().__init__(encoder)
        self.local = Local(encoder)
        self.teacher = teacher(self.local)
        if self.teacher.echoes:
            raise AudiorepError("objective=obow needs a teacher with a network of its own: audiorep.teachers.Ema")
        self.weights = weights(encoder.dim, outputs=encoder.dim)
        self.vocabulary = Queue(encoder.dim, words)
        self.register_buffer("spacing", torch.ones(()))
        self.tau, self.sharpness, self.view = tau, sharpness, view
        self.latest: list[tuple[Tensor, Tensor]] = []

    def prepare(self, setting: Setting) -> None:
        setting.wants_views(self.view, 2)
        if self.vocabulary.size < setting.batch_size:
            raise AudiorepError(
                f"objective.words={self.vocabulary.size} is smaller than a batch of {setting.batch_size}: the vocabulary "
                f"would change altogether at each step; raise it, or lower data.batch_size to {self.vocabulary.size}"
            )

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        specs = views[self.view]
        words = self.vocabulary.content()
        self.latest, bags = [], []
        with torch.no_grad():
            for tokens in self.teacher(specs, []):
                bag, spacing = self.bag(tokens, words)
                picked = (rand(len(tokens), rng=rng, device=tokens.device) * tokens.shape[1]).long()
                self.latest.append((gather(tokens[torch.arange(len(tokens)), picked]), gather(spacing[None]).mean()))
                bags.append(gather(bag))
        logits = [gather(self.logits(spec, words)) for spec in specs]
        losses = [soft_cross_entropy(bags[t], logits[s]) for t, s in permutations(range(len(specs)), 2)]
        return {"words": torch.stack(losses).mean()}

    def bag(self, tokens: Tokens, words: Float[Tensor, "k d"]) -> tuple[Bag, Tensor]:
        """The bag of each sample, and the mean squared distance of a token to its nearest word."""
        with torch.autocast(tokens.device.type, enabled=False):  # divided by a small delta: 8 bits will not do
            squared = 2.0 - 2.0 * tokens.float() @ words.T
        delta = self.sharpness * cast(Tensor, self.spacing).clamp_min(1e-6)
        bag = (-squared / delta).softmax(2).amax(1)
        return bag / bag.sum(1, keepdim=True), squared.amin(2).mean()

    def logits(self, spec: Spec, words: Float[Tensor, "k d"]) -> Bag:
        """What the student says of a view."""
        weight, pooled = self.weights(words), self.encoder(spec).pooled
        with torch.autocast(weight.device.type, enabled=False):
            return F.normalize(pooled.float()) @ F.normalize(weight.float()).T / self.tau

    def distributions(self, spec: Spec) -> dict[str, Bag]:
        """The student's bags and the teacher's."""
        words = self.vocabulary.content()
        return {
            "words": self.logits(spec, words).softmax(1),
            "teacher": self.bag(self.teacher([spec], [])[0], words)[0],
        }

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        self.teacher.update(self.local, progress)
        for tokens, spacing in self.latest:
            self.vocabulary.push(tokens)
            cast(Tensor, self.spacing).lerp_(spacing, 0.1)
        self.latest = []
