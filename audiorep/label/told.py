"""What a desk is given: a corpus as it sees it, and how is chosen and learned."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from torch import Tensor

from audiorep.active.heads import Head
from audiorep.label.clips import Clip
from audiorep.select.pool import Selector


@dataclass(frozen=True)
class Told:
    """A corpus as the desk sees it.

    clips: one a row. length_s: of the recording of each. x: embeddings, standardised. usable: rows that could be decoded.
    held_out: rows that only judge.
    detected: {row: (class, score)}, what a detector said, for the review; may be empty.
    about: what else the corpus says of the clips, a row each, for the export.
    """

    clips: Sequence[Clip]
    length_s: Float[np.ndarray, " n"]
    x: Float[Tensor, "n d"]
    usable: Bool[np.ndarray, " n"]
    held_out: Bool[np.ndarray, " n"]
    detected: dict[int, tuple[str, float]] = field(default_factory=dict)
    about: pd.DataFrame | None = None


@dataclass(frozen=True)
class Settings:
    """selector, head: how is chosen and learned. batch: questions a query. overlap: annotators asked about each clip.
    several: whether a clip may have several labels. budget: answers at which a selector is through with its diversity."""

    selector: Selector
    selector_name: str
    first: Selector
    head: Head
    batch: int = 20
    overlap: int = 1
    several: bool = False
    budget: int = 500
    seed: int = 0
