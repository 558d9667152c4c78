"""What every objective keeps to: views in, named and weighted loss terms out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from audiorep.classifier import Classifier
from audiorep.compress import Compress
from audiorep.data.annotated import Annotated
from audiorep.encoders.base import Encoder
from audiorep.errors import AudiorepError
from audiorep.pooling import Pooling, mean
from audiorep.types import Batch, Spec, Views

Embed = Callable[[], Float[Tensor, "m d"]]
"""Embeddings of the whole training side, in order of rows; NaN where a row could not be decoded."""

HeldOut = Iterable[tuple[Views, Batch]]
"""Augmented views and batches of the held-out side, each fixed window once."""


@dataclass(frozen=True)
class Setting:
    """What an objective is told before training.

    rows: rows of the training side; slots: windows that fit side by side into them, numbered by `Batch.slot` (0: one
    a row). batch_size: windows of the joined batch of all processes. views: how many of each kind are made. labelled,
    classes: rows with a label, and how many labels there are. epochs: passes over the corpus. domains: values of
    `data.domain` on the training side. shared: labels that occur at two of these. vocabulary: numbers that
    `Batch.tokens` may hold, 0 where no row has annotation words. words: columns of `Batch.tokens`. outputs: classes
    that `Batch.label` numbers. texts: how many different sets of annotation words there are. words_hold_labels:
    whether the label is among these words. absences: whether it is known of any row that a label does not apply to
    it, as is always so where every row has one label. counts: how many rows of the training side give each answer to
    each question (see `audiorep.losses.answers`). compress: how the spectrograms of the views were compressed.
    pretrained: whether the encoder has been trained before. names: of the classes, where the verb knows them.
    rate_hz: sample rate of the windows. annotated: what sounds when in each row, where rows are recordings annotated
    throughout; samples: of all rows together; hop_samples: from one frame to the next.
    """

    rows: int
    batch_size: int
    views: Mapping[str, int]
    labelled: int = 0
    classes: int = 0
    epochs: float = 1.0
    domains: int = 0
    shared: int = 0
    vocabulary: int = 0
    words: int = 1
    outputs: int = 0
    texts: int = 0
    words_hold_labels: bool = True
    absences: bool = True
    counts: Sequence[Sequence[int]] = ()
    compress: Compress | None = None
    pretrained: bool = False
    names: Sequence[str] = ()
    rate_hz: int = 0
    annotated: Annotated | None = None
    samples: int = 0
    hop_samples: int = 0
    slots: int = 0

    @property
    def answers(self) -> Float[Tensor, "q k"]:
        """`counts` as a tensor; where nothing was counted, as if all answers were alike."""
        return torch.tensor(self.counts or [[1] * max(1, self.outputs)], dtype=torch.float32)

    @property
    def several(self) -> bool:
        """Whether a row may have several labels: then there is a question a class."""
        return self.answers.shape == (self.outputs, 2)

    def wants_views(self, kind: str, least: int) -> None:
        """Refuse fewer views of a kind than an objective compares."""
        if self.views.get(kind, 0) < least:
            made = ", ".join(f"{count} {name}" for name, count in self.views.items())
            raise AudiorepError(
                f"this objective needs {least} view(s) of the kind '{kind}', and views= makes {made}: choose another views= "
                "(byol_a makes two global ones, multicrop local ones too, noisy a noisy and a clean one)"
            )

    def wants_classes(self) -> None:
        """Refuse a training side that cannot teach a classifier: fewer than two labels, or nothing known to be absent.

        Where a row may have several labels, one will do: it is present or absent.
        """
        if self.labelled < 2 or (self.classes < 2 and not self.several):
            raise AudiorepError(
                f"a classifier needs two labels or more, and the training side has {self.classes} on {self.labelled} row(s): "
                "label some, or choose an objective without labels, such as simclr"
            )
        if not self.absences:
            raise AudiorepError(
                "a classifier needs rows of which it is known that a label does not apply to them, and there are none: to "
                "call everything present would be no error. Where rows name all that is heard, set labels.complete=true; "
                'else name what is absent ("a|-b")'
            )

    def limits_prototypes(self, key: str, count: int, samples: int | None) -> None:
        """Refuse more prototypes than windows, or than the `samples` of a step that are dealt out evenly to them."""
        if samples is not None and count > samples:
            raise AudiorepError(
                f"objective.{key}={count}: more than the {samples} samples that are dealt out evenly to them at each step; "
                f"lower it to {samples} or less, or raise data.batch_size"
            )
        windows = max(self.rows, self.slots)
        if count > windows:
            raise AudiorepError(
                f"objective.{key}={count}: more than the {windows} windows of the training side; lower it to {windows} or "
                "less"
            )

    def wants_domains(self) -> None:
        """Refuse a training side of fewer than two sites or recorders."""
        if self.domains < 2:
            raise AudiorepError(
                f"this objective compares sites or recorders, and data.domain knows {self.domains} on the training side: "
                "name the column that tells them (data.domain=COLUMN; auto finds recorder, device, site ...), and split by "
                "another one (split.by=COLUMN) if a split by site leaves a single site to train on"
            )

    def wants_words(self) -> None:
        """Refuse a training side whose annotation words cannot be told apart by sound: there are none, or one set."""
        if not self.vocabulary or self.texts < 2:
            found = "all rows that have words have the same" if self.vocabulary else "no row has any"
            raise AudiorepError(
                f"this objective pairs sounds with their annotation words, and on the training side {found}: label more "
                "rows, name the columns that hold words (data.words=[label, context]), or choose an objective without "
                "words, such as simclr"
            )


class Objective(nn.Module):
    """Built on the encoder it trains; owns heads, teacher, queue, prototypes.

    Terms whose name is ``group/term`` belong to the parameter group `group`, all others to "main".
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def uses_labels(self) -> bool:
        """Whether labels of the training side train the encoder."""
        return False

    @property
    def classifier(self) -> Classifier | None:
        """What it leaves for naming calls, if it trains a classifier; built by `prepare`."""
        return None

    @property
    def beside(self) -> dict[str, Classifier]:
        """Other classifiers that were trained along with it, which are judged and not kept."""
        return {}

    @property
    def pooling(self) -> Pooling:
        """How the logits of the windows of a row become those of the row."""
        return mean

    def prepare(self, setting: Setting) -> None:
        """Before training, before a state is loaded: refuse what cannot work, make what depends on the corpus.

        Weights made here are drawn from the run's seed.

        Raises:
            AudiorepError: this objective cannot be trained in this setting; the message says what to change.
        """

    def forward(self, views: Views, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """Named, already weighted loss terms; their sum is minimised."""
        raise NotImplementedError

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the optimiser that updates them, in the order of updates. An adversary is a second group."""
        return {"main": [parameter for parameter in self.parameters() if parameter.requires_grad]}

    def embeddings(self, spec: Spec) -> dict[str, Float[Tensor, "b d"]]:
        """Embeddings whose health is watched during training."""
        return {"backbone": self.encoder(spec).pooled}

    def distributions(self, spec: Spec) -> dict[str, Float[Tensor, "b k"]]:
        """Distributions over prototypes or clusters whose entropies are watched during training."""
        return {}

    def after_step(self, progress: float) -> None:
        """After every optimiser step: averages, centres, queues. `progress` runs from 0 to 1."""

    def before_epoch(self, epoch: int, embed: Embed, rng: torch.Generator) -> None:
        """Before every pass over the corpus, the first of which is 0: clusters, pseudo-labels."""

    def measure(self, held_out: HeldOut, rng: torch.Generator) -> dict[str, float]:
        """After training: how well the task itself is done on recordings that were not trained on; named figures."""
        return {}

    @property
    def facts(self) -> dict[str, str]:
        """What the model card must say of a model that was trained so, such as the licence of its teacher."""
        return {}

    def watched(self) -> dict[str, float]:
        """Other figures worth a curve, such as the part of the windows that counted at the last step."""
        return {}

    def partition(self) -> Int[Tensor, " m"] | None:
        """The cluster of each row, -1 for none, for samplers that draw by cluster."""
        return None
