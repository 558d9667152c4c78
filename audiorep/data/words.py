"""Annotation words: from columns of the manifest to numbers, for objectives that pair sounds with text."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int

from audiorep.data.labels import split_label
from audiorep.errors import AudiorepError

USUAL = ("label", "species", "call_type", "call", "type", "context", "behaviour", "behavior", "description", "text")
PADDING, MASK, UNKNOWN, FIRST = 0, 1, 2, 3
"""Numbers with a meaning; words begin at `FIRST`."""

LONGEST = 32
"""Words of a row that count, the first ones."""


@dataclass(frozen=True)
class Vocabulary:
    """Words in alphabetical order; word i has the number ``FIRST + i``."""

    words: tuple[str, ...]

    @property
    def size(self) -> int:
        """Numbers in use, those with a meaning included; 0 where there is no word."""
        return FIRST + len(self.words) if self.words else 0

    def encode(self, texts: Sequence[str]) -> Int[np.ndarray, "n w"]:
        """The words of each text as numbers, padded with 0; a word that is not known is `UNKNOWN`."""
        number = {word: FIRST + i for i, word in enumerate(self.words)}
        rows = [[number.get(word, UNKNOWN) for word in words_of(text)] for text in texts]
        out = np.zeros((len(rows), max([1, *map(len, rows)])), np.int64)
        for row, numbers in enumerate(rows):
            out[row, : len(numbers)] = numbers
        return out


def words_of(text: str) -> list[str]:
    """The first `LONGEST` different words of a text: runs of letters and digits, in lower case, accents composed."""
    plain = unicodedata.normalize("NFC", text).lower()
    return list(dict.fromkeys(re.findall(r"[^\W_]+", plain)))[:LONGEST]


def learn_vocabulary(texts: Sequence[str]) -> Vocabulary:
    """All words of the texts."""
    return Vocabulary(tuple(sorted({word for text in texts for word in words_of(text)})))


def count_texts(tokens: Int[np.ndarray, "n w"]) -> int:
    """How many different sets of known words the rows have."""
    known = np.sort(np.where(tokens >= FIRST, tokens, PADDING), axis=1)
    return len(np.unique(known[known.any(1)], axis=0))


def annotation_texts(
    frame: pd.DataFrame, columns: str | Sequence[str] | None = "auto", multilabel: bool = False
) -> list[str]:
    """What a manifest says of each row, its `columns` joined; "auto": those of `USUAL` that are there.

    Where labels are `multilabel`, a label "-a" says that a is absent: it says no word.

    Raises:
        AudiorepError: a column that is not there.
    """
    chosen = word_columns(frame, columns)
    if not chosen:
        return [""] * len(frame)
    parts = [frame[column].map(lambda value: "" if pd.isna(value) else str(value)) for column in chosen]
    if multilabel and "label" in chosen:
        place = chosen.index("label")
        parts[place] = parts[place].map(present)
    return [" ".join(row) for row in zip(*parts, strict=True)]


def word_columns(frame: pd.DataFrame, columns: str | Sequence[str] | None = "auto") -> list[str]:
    """The columns of a manifest that hold annotation words; "auto": those of `USUAL` that are there.

    Raises:
        AudiorepError: a column that is not there.
    """
    if columns == "auto":
        return [column for column in USUAL if column in frame]
    chosen = [columns] if isinstance(columns, str) else list(columns or [])
    for name in chosen:
        if name not in frame:
            raise AudiorepError(
                f"data.words={name}: the corpus has no such column; there are: {', '.join(map(str, frame.columns))}"
            )
    return chosen


def present(label: str) -> str:
    """The names in one cell of the label column, without those that are known to be absent."""
    return " ".join(name for name in split_label(label) if not name.startswith("-"))
