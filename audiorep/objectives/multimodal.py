"""Masked multimodal modelling: spectrogram patches and annotation words look at each other; both are hidden in part."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from audiorep.data.words import FIRST, MASK
from audiorep.distributed import gather, mine, rand
from audiorep.encoders.base import Encoder
from audiorep.encoders.text import CrossBlock, even, visible, with_whole, word_sets
from audiorep.encoders.vit import Block, grid, positions, take
from audiorep.errors import AudiorepError
from audiorep.losses.precision import wide
from audiorep.masks import Masking, Parts, patches_of
from audiorep.objectives.align import MakeWords, WithWords, first_rows, retrieval
from audiorep.objectives.base import HeldOut, Setting
from audiorep.objectives.masked import patchify
from audiorep.types import Batch, Spec, Views

Sound = Float[Tensor, "b l d"]
Text = Float[Tensor, "b k d"]
PerRow = Float[Tensor, " b"]

MOST_SOUNDS, MOST_TEXTS = 256, 32
"""Windows and sets of words that `measure` compares at most, every one with every other."""


class CoBlock(nn.Module):
    """Each stream attends to the other, then to itself.

    Source: Lu et al. 2019 (ViLBERT), arXiv:1908.02265, section 2.2 and figure 2.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.sound_from_text, self.text_from_sound = CrossBlock(dim, heads), CrossBlock(dim, heads)
        self.within_sound, self.within_text = Block(dim, heads), CrossBlock(dim, heads)

    def forward(self, sound: Sound, text: Text, seen: Bool[Tensor, "b k"]) -> tuple[Sound, Text]:
        heard, read = self.sound_from_text(sound, text, seen), self.text_from_sound(text, sound)
        return self.within_sound(heard), self.within_text(read, read, seen)


class MaskedMultimodal(WithWords):
    """``a patches + b words + c alignment``: three questions to two streams of tokens that attend to each other.

    patches: mean squared error on hidden patches, each with its mean removed and divided by its standard deviation; the
    encoder sees the other patches only. words: ``-log p(word)`` over the vocabulary for each hidden word; several hidden
    words of a row are told alike, as words have no positions. alignment: are these words this sound's? Binary
    cross-entropy on whole sounds and words, where a row has with probability 1/2 the words of another row of the joined
    batch whose set of words differs. Words and alignment are means over the joined batch; rows without words have no part
    in them. What is kept after training is the encoder, which hears sounds alone. Words are annotations, and by default
    the labels are among them: then this objective trains with the labels of the training side.

    Args:
        encoder: one with patches (a ViT).
        mask: draws visible and hidden patches.
        text: makes the encoder of the words, told the size of the vocabulary; its width is that of the streams.
        depth, heads: blocks in which the streams meet, and their attention heads.
        word_ratio: probability that a word is hidden.
        weight: a, b and c.
        view: the kind of view that is used.

    Raises:
        AudiorepError: an encoder without patches, words that are never or always hidden, a width that has no
            positions, or a training side without words to tell apart.

    Source: Lu et al. 2019 (ViLBERT), arXiv:1908.02265, section 2.2; the patches follow He et al. 2021 (MAE),
    arXiv:2111.06377. ViLBERT hides 15 % of either stream and asks for classes of regions instead of patches.
    """

    def __init__(
        self,
        encoder: Encoder,
        mask: Masking,
        text: MakeWords,
        depth: int = 2,
        heads: int = 4,
        word_ratio: float = 0.5,
        weight: Mapping[str, float] | None = None,
        view: str = "global",
    ) -> None:
        super().__init__(encoder, view)
        if not 0.0 < word_ratio < 1.0:
            raise AudiorepError(f"objective.word_ratio={word_ratio} must lie between 0 and 1")
        self.patch = patches_of(encoder)
        self.mask, self.word_ratio = mask, word_ratio
        self.weight = {"patches": 1.0, "words": 1.0, "alignment": 1.0} | dict(weight or {})
        self.make_text, self.depth, self.heads = text, depth, heads

    def prepare(self, setting: Setting) -> None:
        super().prepare(setting)
        self.text = self.make_text(setting.vocabulary)
        dim = self.text.dim
        if dim % 4:
            raise AudiorepError(f"objective.text.dim={dim} must be a multiple of 4, for the positions of the patches")
        self.enter = even(self.encoder.dim, dim)
        self.hidden_token = nn.Parameter(nn.init.trunc_normal_(torch.zeros(dim), std=0.02))
        self.blocks = nn.ModuleList(CoBlock(dim, self.heads) for _ in range(self.depth))
        self.sound_norm, self.text_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.name_patch = nn.Linear(dim, self.patch[0] * self.patch[1])
        self.name_word = nn.Linear(dim, setting.vocabulary)
        self.match = nn.Linear(dim, 1)

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        words, terms = batch["tokens"], []
        for spec in views[self.view]:
            patches, named = self.fill_in(spec, words, rng)
            terms.append({"patches": patches, "words": named, "alignment": self.alignment(spec, words, rng)})
        return {name: factor * torch.stack([t[name] for t in terms]).mean() for name, factor in self.weight.items()}

    # ---------------------------------------------------------- the streams

    def meet(self, sound: Sound, words: Int[Tensor, "b w"]) -> tuple[Sound, Text]:
        """Both streams after the blocks: of the whole sound and its patches, of all words together and every one."""
        text, seen = self.text(words).tokens, with_whole(visible(words))
        for block in self.blocks:
            sound, text = block(sound, text, seen)
        return self.sound_norm(sound), self.text_norm(text)

    def listen(self, spec: Spec, parts: Parts | None = None) -> Sound:
        """As the blocks take a sound: its pooled embedding for the whole, then its tokens; of `parts` the visible ones,
        then blanks for the hidden ones."""
        rows, columns = grid(spec, self.patch)
        place = positions(rows, columns, self.text.dim, spec.device)
        features = self.encoder(spec, keep=None if parts is None else parts.visible)
        x, whole = self.enter(features.tokens), self.enter(features.pooled)[:, None]
        place = place.to(x.dtype)
        if parts is None:
            return torch.cat([whole, x + place], 1)
        blank = self.hidden_token.to(x.dtype) + place[parts.hidden.flatten(1)]
        return torch.cat([whole, x + place[parts.visible], blank], 1)

    # ------------------------------------------------------------ the terms

    def fill_in(self, spec: Spec, words: Int[Tensor, "b w"], rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The errors on hidden patches and on hidden words."""
        parts = self.mask(len(spec), *grid(spec, self.patch), rng, spec.device)
        hidden = (rand(*words.shape, rng=rng, device=words.device) < self.word_ratio) & (words >= FIRST)
        sound, text = self.meet(self.listen(spec, parts), words.masked_fill(hidden, MASK))
        wanted = take(patchify(spec, self.patch).float().detach(), parts.hidden.flatten(1))
        wanted = (wanted - wanted.mean(2, keepdim=True)) / (wanted.var(2, keepdim=True) + 1e-6).sqrt()
        predicted = wide(self.name_patch(sound[:, 1 + parts.visible.shape[1] :]))
        patches = (predicted - wanted).square().mean()
        logits = wide(self.name_word(text[:, 1:])).transpose(1, 2)
        missed = F.cross_entropy(logits, words, reduction="none") * hidden
        return patches, joint_mean(missed.sum(1), hidden.sum(1))

    def alignment(self, spec: Spec, words: Int[Tensor, "b w"], rng: torch.Generator) -> Tensor:
        """The error in telling a sound's own words from those of another row."""
        given, own = swap_words(words, rng)
        annotated = visible(words).any(1)
        error = F.binary_cross_entropy_with_logits(
            wide(self.score(self.listen(spec), given)), own.float(), reduction="none"
        )
        return joint_mean(error * annotated, annotated)

    def score(self, sound: Sound, words: Int[Tensor, "b w"]) -> PerRow:
        """The logit that these are the sound's words."""
        sound, text = self.meet(sound, words)
        return self.match(sound[:, 0] * text[:, 0])[:, 0]

    # ---------------------------------------------------------- held out

    def measure(self, held_out: HeldOut, rng: torch.Generator) -> dict[str, float]:
        """Retrieval both ways, see `audiorep.objectives.align.retrieval`, scored by the alignment's logit.

        Of the windows that have words, at most `MOST_TEXTS` sets of words and `MOST_SOUNDS` windows are drawn.
        """
        drawn = draw_annotated(((views[self.view][0], batch["tokens"]) for views, batch in held_out), rng)
        if drawn is None:
            return {}
        specs, tokens = drawn
        text_of = word_sets(tokens)
        texts = tokens[first_rows(text_of)]
        score = torch.cat([self.score_all(self.listen(part), texts) for part in specs.split(64)])
        return retrieval(score, text_of)

    def score_all(self, sound: Sound, texts: Int[Tensor, "m w"]) -> Float[Tensor, "b m"]:
        """The logit of every sound with every set of words."""
        return torch.stack([self.score(sound, words.expand(len(sound), -1)) for words in texts], 1)


def joint_mean(total: PerRow, count: Tensor) -> Tensor:
    """The sum of all rows' totals over that of their counts, over the joined batch; 0 where nothing counts."""
    return gather(total).sum() / gather(count).sum().clamp_min(1)


def swap_words(words: Int[Tensor, "b w"], rng: torch.Generator) -> tuple[Int[Tensor, "b w"], Bool[Tensor, " b"]]:
    """With probability 1/2 the words of another row of the joined batch, of another set; and which rows keep their own.

    Rows without words keep that, as does every row where the batch has no other set of words.
    """
    joined = gather(words)
    text_of = word_sets(joined)
    own = mine(text_of)[:, None]
    other = (text_of != own) & (text_of >= 0) & (own >= 0)
    draw = rand(len(words), 1 + len(joined), rng=rng, device=words.device)
    swapped = (draw[:, 0] < 0.5) & other.any(1)
    partner = draw[:, 1:].masked_fill(~other, -1.0).argmax(1)
    return torch.where(swapped[:, None], joined[partner], words), ~swapped


def draw_annotated(
    heard: Iterable[tuple[Spec, Int[Tensor, "b w"]]], rng: torch.Generator
) -> tuple[Spec, Int[Tensor, "b w"]] | None:
    """At most `MOST_SOUNDS` windows that have words, drawn at random, of at most `MOST_TEXTS` sets; None: there is none."""
    kept: tuple[Tensor, Tensor, Tensor] | None = None
    for spec, words in heard:
        annotated = word_sets(words) >= 0
        draw = torch.rand(len(words), generator=rng, device=words.device)[annotated]
        fresh = (draw, spec[annotated], words[annotated])
        joined = fresh if kept is None else tuple(torch.cat(pair) for pair in zip(kept, fresh, strict=True))
        first = joined[0].argsort()[:MOST_SOUNDS]
        kept = (joined[0][first], joined[1][first], joined[2][first])
    if kept is None or not len(kept[0]):
        return None
    text_of = word_sets(kept[2])
    drawn = torch.isin(text_of, text_of[first_rows(text_of).sort().values][:MOST_TEXTS])
    return kept[1][drawn], kept[2][drawn]
