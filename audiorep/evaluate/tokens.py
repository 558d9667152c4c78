"""The tokens of all rows of a corpus: kept in float16 while it is embedded, handed to the probes batch by batch."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Int
from torch import Tensor

from audiorep.types import Spec


@dataclass(frozen=True)
class Tokens:
    """Tokens of rows. Those of a row's windows follow one another: an average would blur the token that tells the class.

    values: tokens of every window, in order of rows; NaN where a token is not there.
    first: the windows of row i are first[i] ... first[i + 1] - 1; none where it could not be decoded.
    """

    values: Float16[np.ndarray, "windows l d"]
    first: Int[np.ndarray, " rows_and_one"]

    @property
    def dim(self) -> int:
        return self.values.shape[2]

    @property
    def longest(self) -> int:
        """Tokens of the row that has most."""
        return int(np.diff(self.first).max(initial=1)) * self.values.shape[1]

    def batch(self, rows: Int[np.ndarray, " b"]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """Tokens of some rows, zero where there is none, and which are there."""
        begin, end = self.first[rows, None], self.first[rows + 1, None]
        place = begin + np.arange(int((end - begin).max(initial=1)))
        found = self.values[np.minimum(place, len(self.values) - 1)]
        there = (place < end)[:, :, None] & ~np.isnan(found[:, :, :, 0])
        values = torch.from_numpy(found).float().flatten(1, 2)
        mask = torch.from_numpy(there).flatten(1, 2)
        return values.masked_fill(~mask[:, :, None], 0.0), mask


class Keeping:
    """Keeps tokens of windows that come in order of rows.

    Args:
        windows: how many there are.
        limit_bytes: most memory for the tokens of all names together; above it nothing is kept and `too_large` says so.
    """

    def __init__(self, windows: int, limit_bytes: float) -> None:
        self.windows, self.limit_bytes, self.too_large = windows, limit_bytes, ""
        self.store: dict[str, np.ndarray] = {}
        self.row: list[np.ndarray] = []

    def add(self, index: Int[np.ndarray, " b"], found: Mapping[str, Float[Tensor, "b l d"]]) -> None:
        """Keep the tokens of windows of the rows `index`."""
        if not self.row:
            sizes = [2 * self.windows * tokens[0].numel() for tokens in found.values()]
            if sum(sizes) > self.limit_bytes:
                self.too_large = (
                    f"the tokens of {self.windows} windows take {sum(sizes) / 2**30:.1f} GB, more than "
                    f"evaluation.tokens.memory_gb={self.limit_bytes / 2**30:g}: raise it, or lower "
                    "evaluation.tokens.per_row or window.per_row"
                )
            else:
                self.store = {name: np.empty((self.windows, *t.shape[1:]), np.float16) for name, t in found.items()}
        done = sum(map(len, self.row))
        self.row.append(index)
        for name, store in self.store.items():
            store[done : done + len(index)] = found[name].float().clamp(-65504, 65504).half().cpu().numpy()

    def tokens(self, rows: int) -> dict[str, Tokens]:
        """What was kept, by name; nothing where it was too large."""
        row = np.concatenate(self.row) if self.row else np.empty(0, np.int64)
        first = np.searchsorted(row, np.arange(rows + 1))
        return {name: Tokens(store[: len(row)], first) for name, store in self.store.items()}


def frames_as_tokens(spec: Spec, valid: Bool[Tensor, "b n"]) -> Float[Tensor, "b n f"]:
    """The frames of a spectrogram as tokens, NaN where they are not valid."""
    return spec[:, 0].transpose(1, 2).masked_fill(~valid[:, :, None], torch.nan)


def pool_time(tokens: Float[Tensor, "b l d"], bands: int, most: int | None) -> Float[Tensor, "b l_pooled d"]:
    """At most `most` tokens (but one a band at least), by averaging as many neighbours in time as that takes.

    Args:
        tokens: band by band, every band from early to late; those that are NaN are left out of the mean.
        bands: how many bands. With 1, tokens that follow one another count as neighbours.
    """
    frames = tokens.shape[1] // bands
    size = 1 if most is None else -(-frames // max(1, most // bands))
    if size == 1:
        return tokens
    rows = tokens.unflatten(1, (bands, frames))
    missing = -frames % size
    rows = torch.cat([rows, rows.new_full((*rows.shape[:2], missing, rows.shape[3]), torch.nan)], 2)
    return rows.unflatten(2, (-1, size)).nanmean(3).flatten(1, 2)
