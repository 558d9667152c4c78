"""Recordings that are annotated throughout: which call is where, and, as targets, which call each frame belongs to."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Annotated:
    """Calls of some recordings, in order of recordings; what no call covers is background.

    recording, label: [calls] numbers. first, last: [calls] first sample and the one after the last. recordings, classes:
    how many there are.
    """

    recording: Int[np.ndarray, " k"]
    label: Int[np.ndarray, " k"]
    first: Int[np.ndarray, " k"]
    last: Int[np.ndarray, " k"]
    recordings: int
    classes: int

    @cached_property
    def begins(self) -> Int[np.ndarray, " m"]:
        """Where the calls of each recording begin, and where the last ones end."""
        return np.searchsorted(self.recording, np.arange(self.recordings + 1))

    def frames(self, recording: int, start: int, count: int, step: float) -> Float[np.ndarray, "n c"]:
        """1 where the middle of a frame lies in a call of the class, else 0; frame j is centred at ``start + j step``.

        Where a call follows another of its class by less than two frames, both frames at its onset are 0: else the two
        would be one.
        """
        out = np.zeros((count, self.classes), np.float32)
        here = slice(self.begins[recording], self.begins[recording + 1])
        low = np.ceil((self.first[here] - start) / step).astype(np.int64)
        high = np.ceil((self.last[here] - start) / step).astype(np.int64)
        label = self.label[here]
        for c, i, j in zip(label, low.clip(0, count), high.clip(0, count), strict=True):
            out[i:j, c] = 1.0
        before = np.full(self.classes, -(10**9))
        for c, i, j in zip(label, low, high, strict=True):
            if i - before[c] < 2:
                out[max(0, i - 1) : max(0, i + 1), c] = 0.0
            before[c] = max(before[c], j)
        return out

    def shares(self) -> Float[np.ndarray, " c"]:
        """Samples in calls of each class."""
        return np.bincount(self.label, self.last - self.first, self.classes)

    @cached_property
    def overlap(self) -> bool:
        """Whether calls of different classes ever overlap."""
        order = np.lexsort((self.first, self.recording))
        recording, first, last, label = (x[order] for x in (self.recording, self.first, self.last, self.label))
        apart = (recording[1:] != recording[:-1]) | (first[1:] >= last[:-1]) | (label[1:] == label[:-1])
        return not bool(apart.all())
