"""Manifest rows to windows of samples: where a window lies, and the dataset that decodes it by seeking."""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from audiorep.data.audio import read_resampled
from audiorep.data.manifest import Manifest
from audiorep.errors import AudioError, AudiorepError

Outside = Literal["context", "zero"]
SAMPLE_BYTES = 2
"""Of a sample in memory: int16, as most recordings are."""

Item = tuple[int, int, int, int]
"""(row, window of the row, number of windows of the row, seed of the draw; negative: fixed)"""


@dataclass(frozen=True)
class WindowSpec:
    """How windows are cut.

    length_s: length of a window, in s.
    outside: what surrounds a call shorter than the window: the recording's "context", or "zero": silence, marked invalid.
    channel: counted from 1; "mix": the mean. A column `channel` in the corpus overrules it.
    per_row: at most so many fixed windows of one long row in evaluation, evenly spaced; their embeddings are averaged.
    """

    length_s: float
    outside: Outside = "context"
    channel: int | str = "mix"
    per_row: int = 8

    def __post_init__(self) -> None:
        if self.length_s <= 0:
            raise AudiorepError(f"window.length_s={self.length_s} must be above 0")
        if self.channel != "mix" and not (isinstance(self.channel, int) and self.channel >= 1):
            raise AudiorepError(f"window.channel={self.channel}: say mix, or a number counted from 1")
        if self.outside not in ("context", "zero"):
            raise AudiorepError(f"window.outside={self.outside}: say context or zero")

    def samples(self, rate_hz: int) -> int:
        """Length at a rate, in samples."""
        return max(1, round(self.length_s * rate_hz))


def choose_length_s(durations_s: np.ndarray, longest_s: float = 5.0) -> float:
    """A window that holds nine calls in ten: the 90th percentile of the rows' lengths, at most `longest_s`, two digits."""
    length = float(np.clip(np.quantile(durations_s, 0.9), 0.02, longest_s))
    return float(f"{length:.2g}")


class Windows(Dataset[dict[str, Any]]):
    """Items (row, window, of, draw) to int16 (or float32) samples at the model's rate, with the mask `valid`.

    A row shorter than the window is centred in it. A longer one is cropped: at a place drawn from `draw` for training,
    at evenly spaced places for evaluation (`draw < 0`). Windows that do not depend on the draw are kept in memory, up to
    `cache_bytes`; where all rows fit into it, long ones are kept whole, and windows are drawn from there. What cannot be
    decoded comes back as {"failed": (row, reason)}.

    Args:
        manifest: the corpus.
        spec: how windows are cut.
        rate_hz: the model's sample rate.
        labels: [rows] or [rows c] from `audiorep.data.labels.encode`.
        cache_bytes: memory for fixed windows.
    """

    def __init__(
        self,
        manifest: Manifest,
        spec: WindowSpec,
        rate_hz: int,
        labels: np.ndarray | None = None,
        cache_bytes: int = 2**30,
    ) -> None:
        frame = manifest.frame
        self.spec, self.rate_hz = spec, rate_hz
        self.length = spec.samples(rate_hz)
        codes, paths = frame["path"].factorize()
        self.path_of, self.paths = codes.astype(np.int32), np.array(list(paths), dtype=str)
        self.source_hz = np.array([manifest.files[path].rate_hz for path in paths], dtype=np.int64)
        self.file_frames = np.array([manifest.files[path].frames for path in paths], dtype=np.int64)
        rate = self.source_hz[self.path_of]
        self.first = np.rint(frame["start_s"].to_numpy(float) * rate).astype(np.int64)
        self.last = np.rint(frame["end_s"].to_numpy(float) * rate).astype(np.int64)
        self.last = np.minimum(np.maximum(self.last, self.first + 1), self.file_frames[self.path_of])
        self.group = frame["group"].factorize(sort=True)[0].astype(np.int64)
        self.label = np.full(len(frame), -1, np.int64) if labels is None else labels
        self.domain = np.full(len(frame), -1, np.int64)
        self.tokens = np.zeros((len(frame), 1), np.int64)
        self.times: np.ndarray | None = None  # how often each row is to be drawn as a labelled one; None: alike
        self.channel = self._channels(frame)
        self.cache: OrderedDict[Item, np.ndarray] = OrderedDict()
        self.cache_bytes, self.cached = cache_bytes, 0

    def __len__(self) -> int:
        return len(self.first)

    def __getstate__(self) -> dict[str, Any]:
        """What travels to a loader process: everything but the windows in memory."""
        return {**vars(self), "cache": OrderedDict(), "cached": 0}

    @property
    def source_length(self) -> np.ndarray:
        """Window length in samples of each row's own recording."""
        return np.maximum(1, np.rint(self.spec.length_s * self.source_hz[self.path_of])).astype(np.int64)

    def windows_per_row(self) -> np.ndarray:
        """How many windows fit into each row (at least one): [rows]."""
        return np.maximum(1, (self.last - self.first) // self.source_length)

    def fixed_items(self) -> list[Item]:
        """The evaluation windows: every row once, long rows up to `per_row` times."""
        counts = np.minimum(self.windows_per_row(), self.spec.per_row)
        return [(row, k, int(count), -1) for row, count in enumerate(counts) for k in range(count)]

    def place(self, item: Item) -> int:
        """First sample of a window in its recording's own samples."""
        row, k, of, draw = item
        first, last = int(self.first[row]), int(self.last[row])
        length = int(self.source_length[row])
        spare = last - first - length
        if spare <= 0:
            return first + spare // 2  # centred
        if draw < 0:
            return first + (spare * (2 * k + 1)) // (2 * of) if of > 1 else first + spare // 2
        return first + int(np.random.default_rng([draw, row, k]).integers(0, spare + 1))

    def __getitem__(self, item: Item) -> dict[str, Any]:
        row = item[0]
        rate = int(self.source_hz[self.path_of[row]])
        start = self.place(item)
        try:
            wave = self.decode(item, row, start, rate)
        except AudioError as error:
            return {"failed": (row, str(error))}
        inside = (
            (self.first[row], self.last[row])
            if self.spec.outside == "zero"
            else (0, self.file_frames[self.path_of[row]])
        )
        low = min(self.length, max(0, round((int(inside[0]) - start) * self.rate_hz / rate)))
        high = min(self.length, max(0, round((int(inside[1]) - start) * self.rate_hz / rate)))
        valid = np.zeros(self.length, bool)
        valid[low:high] = True
        if not valid.all():
            wave = np.where(valid, wave, wave.dtype.type(0))
        return {
            "wave": torch.from_numpy(wave),
            "valid": torch.from_numpy(valid),
            "label": torch.as_tensor(self.label[row]),
            "index": row,
            "group": int(self.group[row]),
            "recording": int(self.path_of[row]),
            "start": round(start * self.rate_hz / rate),
            "domain": int(self.domain[row]),
            "tokens": torch.as_tensor(self.tokens[row]),
        }

    def decode(self, item: Item, row: int, start: int, rate: int) -> np.ndarray:
        """Samples of one window; fixed ones from memory if they were read before, drawn ones out of a row in memory."""
        short = self.last[row] - self.first[row] <= self.source_length[row]  # then every window of the row is the same
        if self.rows_fit and not short and item[3] >= 0:
            offset = round((start - int(self.first[row])) * self.rate_hz / rate)
            whole = self.whole(row, rate)
            return whole[min(offset, len(whole) - self.length) :][: self.length]
        key = (row, 0, 1, -1) if short else (row, item[1], item[2], -1)
        fixed = short or item[3] < 0
        if fixed and key in self.cache:
            return self.cache[key]
        wave = self.read(row, rate, start, self.length)
        return self.keep(key, wave) if fixed else wave

    @cached_property
    def rows_fit(self) -> bool:
        """Whether all that windows are drawn from fits into `cache_bytes`: then long rows are decoded once and kept.

        It depends on the corpus alone, not on what was read so far: the same draw is the same window after a resume.
        """
        long = np.maximum(self.last - self.first, self.source_length) * (self.rate_hz / self.source_hz[self.path_of])
        return float(long.sum()) * SAMPLE_BYTES <= self.cache_bytes

    def whole(self, row: int, rate: int) -> np.ndarray:
        """All samples of a row at the model's rate, from memory if they were read before."""
        key = (row, -1, 1, -1)
        if key in self.cache:
            return self.cache[key]
        count = max(self.length, int((self.last[row] - self.first[row]) * self.rate_hz // rate))
        return self.keep(key, self.read(row, rate, int(self.first[row]), count))

    def read(self, row: int, rate: int, start: int, count: int) -> np.ndarray:
        """`count` samples at the model's rate from sample `start` of the row's recording on."""
        path, channel = str(self.paths[self.path_of[row]]), int(self.channel[row]) or None
        return read_resampled(path, rate, start, count, self.rate_hz, channel)

    def keep(self, key: Item, wave: np.ndarray) -> np.ndarray:
        """Keep in memory what still fits."""
        if self.cached + wave.nbytes <= self.cache_bytes:
            self.cache[key] = wave
            self.cached += wave.nbytes
        return wave

    def _channels(self, frame: Any) -> np.ndarray:
        """[rows] channel counted from 1; 0: mix."""
        default = 0 if self.spec.channel == "mix" else int(self.spec.channel)
        if "channel" not in frame:
            return np.full(len(frame), default, np.int16)
        values = frame["channel"].replace("", default).fillna(default)
        try:
            return values.astype(float).astype(np.int16).to_numpy()
        except ValueError as error:
            raise AudiorepError(f"column 'channel' holds something that is no number: {error}") from error
