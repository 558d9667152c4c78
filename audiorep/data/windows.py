"""Manifest rows to windows of samples: where a window lies, and the dataset that decodes it by seeking."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from audiorep.data.audio import read_resampled
from audiorep.data.items import Item, side_by_side, uniform
from audiorep.data.manifest import Manifest
from audiorep.data.raw import put
from audiorep.data.store import Store
from audiorep.errors import AudioError, AudiorepError

Outside = Literal["context", "zero"]
SAMPLE_BYTES = 2
"""Of a sample in memory: int16, as most recordings are."""

TENSORS = frozenset({"wave", "valid", "label", "tokens"})
"""What of an item is a tensor; the rest are integers."""

COARSEST = 16
"""Windows begin on a sample of the model's rate where one lies at least in every 16 samples of the recording."""


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

    Torch's loader asks for a whole batch at once; its windows are read in the order in which they lie on the disk. All that
    is kept of the rows are arrays, which worker processes share.

    Args:
        manifest: the corpus.
        spec: how windows are cut.
        rate_hz: the model's sample rate.
        labels: [rows] or [rows c] from `audiorep.data.labels.encode`.
        cache_bytes: memory for fixed windows.
        store: where the recordings are decoded already.
    """

    def __init__(
        self,
        manifest: Manifest,
        spec: WindowSpec,
        rate_hz: int,
        labels: np.ndarray | None = None,
        cache_bytes: int = 2**30,
        store: Store | None = None,
    ) -> None:
        frame = manifest.frame
        self.spec, self.rate_hz = spec, rate_hz
        self.length = spec.samples(rate_hz)
        codes, paths = frame["path"].factorize()
        infos = [manifest.files[path] for path in paths]
        self.path_of, self.paths = codes.astype(np.int32), np.array(list(paths), dtype=str)
        self.source_hz = np.array([info.rate_hz for info in infos], dtype=np.int64)
        self.file_frames = np.array([info.frames for info in infos], dtype=np.int64)
        self.wide = np.array([info.dtype == "float32" for info in infos], dtype=bool)
        self.packed = None if store is None else store.find(list(paths), self.source_hz, rate_hz)
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
        self.cache: OrderedDict[tuple[int, int, int], np.ndarray] = OrderedDict()
        self.cache_bytes, self.cached = cache_bytes, 0

    def __len__(self) -> int:
        return len(self.first)

    def __getstate__(self) -> dict[str, Any]:
        """What travels to a loader process: everything but the windows in memory."""
        return {**vars(self), "cache": OrderedDict(), "cached": 0}

    @property
    def source_length(self) -> np.ndarray:
        """Window length in samples of each row's own recording."""
        return np.maximum(1, np.rint(self.spec.length_s * self.source_hz)).astype(np.int64)[self.path_of]

    @cached_property
    def short(self) -> np.ndarray:
        """[rows] which rows are no longer than a window: then every window of the row is the same."""
        return self.last - self.first <= self.source_length

    @cached_property
    def grid(self) -> np.ndarray:
        """[files] places are whole multiples of so many samples of the recording, so that a sample of the model's rate lies
        there; 1 where such samples are too far apart."""
        unit = self.source_hz // np.gcd(self.source_hz, self.rate_hz)
        return np.where(unit <= COARSEST, unit, 1)

    def windows_per_row(self) -> np.ndarray:
        """How many windows fit into each row (at least one): [rows]."""
        return np.maximum(1, (self.last - self.first) // self.source_length)

    @cached_property
    def slots(self) -> np.ndarray:
        """[rows + 1] the number of each row's first slot, and how many there are: one for each of the windows that fit side
        by side into the rows."""
        return np.concatenate([[0], np.cumsum(self.windows_per_row())]).astype(np.int64)

    def slot(self, row: np.ndarray, start: np.ndarray) -> np.ndarray:
        """The slot [b] in which windows of these rows lie that begin at these samples of their recordings."""
        first, of = self.slots[row], self.slots[row + 1] - self.slots[row]
        spare = np.maximum(
            self.last[row] - self.first[row] - self.spec.length_s * self.source_hz[self.path_of[row]], 0.0
        )
        return first + ((start - self.first[row]) * of // (spare + 1.0)).astype(np.int64).clip(0, of - 1)

    def fixed_items(self) -> np.ndarray:
        """The evaluation windows, [n 4]: every row once, long rows up to `per_row` times."""
        return side_by_side(np.minimum(self.windows_per_row(), self.spec.per_row))

    def place(self, item: Item) -> Any:
        """First sample of a window in its recording's own samples: an integer, or [b] of items [b 4]."""
        items = np.asarray(item, np.int64)
        row, k, of, draw = items.reshape(-1, 4).T
        file = self.path_of[row]
        first = self.first[row]
        length = np.maximum(1, np.rint(self.spec.length_s * self.source_hz[file])).astype(np.int64)
        spare = self.last[row] - first - length
        fixed = np.where(of > 1, (spare * (2 * k + 1)) // np.maximum(2 * of, 1), spare // 2)
        drawn = (uniform(draw, row, k) * (spare + 1)).astype(np.int64)
        start = first + np.where((spare <= 0), spare // 2, np.where(draw < 0, fixed, drawn))  # short: centred
        start -= start % self.grid[file]
        return start.reshape(items.shape[:-1])[()]

    def __getitem__(self, item: Item) -> dict[str, Any]:
        batch = self.batch([item])
        if not len(batch["index"]):
            return {"failed": batch["failed"][0]}
        return {name: value[0] if name in TENSORS else int(value[0]) for name, value in batch.items()}

    def __getitems__(self, items: Sequence[Item] | np.ndarray) -> dict[str, Any]:
        return self.batch(items)

    def batch(self, items: Sequence[Item] | np.ndarray, out: np.ndarray | None = None) -> dict[str, Any]:
        """The items [b 4] in their order, all that `__getitem__` tells of one stacked; those that fail are left out and
        stand in `failed`. Where all fail: that, and an empty `index`.

        Args:
            out: [b t] of floats to write into: samples of 16 bits too come in [-1, 1] then.
        """
        items = np.asarray(items, np.int64).reshape(-1, 4)
        row = items[:, 0]
        file, start = self.path_of[row], self.place(items)
        dtype = np.float32 if self.wide[file].any() else np.int16
        wave = np.empty((len(items), self.length), dtype) if out is None else out
        failed: dict[int, tuple[int, str]] = {}
        for i in np.lexsort((start, file)).tolist():
            try:
                self.decode(items[i].tolist(), int(start[i]), wave[i])
            except AudioError as error:
                failed[i] = (int(row[i]), str(error))
        reasons = [failed[i] for i in sorted(failed)]
        if failed:
            good = np.setdiff1d(np.arange(len(items)), list(failed))
            row, file, start, wave = row[good], file[good], start[good], wave[good]
        if not len(row):
            return {"index": torch.empty(0, dtype=torch.int64), "failed": reasons}
        batch: dict[str, Any] = {
            "wave": torch.from_numpy(wave),
            "valid": self.silence(wave, row, start),
            "label": torch.from_numpy(self.label[row]),
            "index": torch.from_numpy(row.copy()),
            "group": torch.from_numpy(self.group[row]),
            "recording": torch.from_numpy(file.astype(np.int64)),
            "slot": torch.from_numpy(self.slot(row, start)),
            "start": torch.from_numpy(self.at_model_rate(start, file)),
            "domain": torch.from_numpy(self.domain[row]),
            "tokens": torch.from_numpy(self.tokens[row]),
        }
        return batch | ({"failed": reasons} if reasons else {})

    def at_model_rate(self, samples: np.ndarray, file: np.ndarray) -> np.ndarray:
        """Samples of recordings, in samples of the model's rate."""
        return np.rint(samples * self.rate_hz / self.source_hz[file]).astype(np.int64)

    def silence(self, wave: np.ndarray, row: np.ndarray, start: np.ndarray) -> torch.Tensor:
        """[b t] what of each window is valid, a single True in memory where all is; the rest of `wave` becomes zero."""
        file = self.path_of[row]
        zero = self.spec.outside == "zero"
        inside = (self.first[row], self.last[row]) if zero else (0, self.file_frames[file])
        low, high = (self.at_model_rate(edge - start, file).clip(0, self.length) for edge in inside)
        edges = np.flatnonzero((low > 0) | (high < self.length))
        if not len(edges):
            return torch.ones((1, 1), dtype=torch.bool).expand(wave.shape)
        valid = np.ones(wave.shape, bool)
        for i in edges.tolist():
            for outside in (slice(0, low[i]), slice(high[i], None)):
                valid[i, outside] = False
                wave[i, outside] = 0
        return torch.from_numpy(valid)

    def decode(self, item: Sequence[int], start: int, out: np.ndarray) -> None:
        """Samples of one window into `out`; fixed ones from memory if they were read before, drawn ones out of a row in
        memory."""
        row, k, of, draw = item
        short = bool(self.short[row])
        if self.rows_fit and not short and draw >= 0:
            offset = round((start - int(self.first[row])) * self.rate_hz / int(self.source_hz[self.path_of[row]]))
            whole = self.whole(row)
            put(whole[max(0, min(offset, len(whole) - self.length)) :][: self.length], out)
            return
        key = (row, 0, 1) if short else (row, k, of)
        fixed = short or draw < 0
        if fixed and key in self.cache:
            put(self.cache[key], out)
            return
        if not fixed or self.cached + self.length * SAMPLE_BYTES > self.cache_bytes:
            self.read(row, start, self.length, out)
            return
        wave = self.read(row, start, self.length)
        self.keep(key, wave)
        put(wave, out)

    @cached_property
    def rows_fit(self) -> bool:
        """Whether all that windows are drawn from fits into `cache_bytes`: then long rows are decoded once and kept.

        It depends on the corpus alone, not on what was read so far: the same draw is the same window after a resume.
        """
        long = np.maximum(self.last - self.first, self.source_length) * (self.rate_hz / self.source_hz[self.path_of])
        return float(long.sum()) * SAMPLE_BYTES <= self.cache_bytes

    def whole(self, row: int) -> np.ndarray:
        """All samples of a row at the model's rate, from memory if they were read before."""
        key = (row, -1, 1)
        if key in self.cache:
            return self.cache[key]
        rate = int(self.source_hz[self.path_of[row]])
        count = max(self.length, int((self.last[row] - self.first[row]) * self.rate_hz // rate))
        wave = self.read(row, int(self.first[row]), count)
        self.keep(key, wave)
        return wave

    def read(self, row: int, start: int, count: int, out: np.ndarray | None = None) -> np.ndarray:
        """`count` samples at the model's rate from sample `start` of a row's recording on; of the store where it has them."""
        file, channel = int(self.path_of[row]), int(self.channel[row]) or None
        rate = int(self.source_hz[file])
        if self.packed is None or not self.packed.has[file]:
            return read_resampled(self.paths[file].item(), rate, start, count, self.rate_hz, channel, None, out)
        path, raw, packed_hz = self.packed.place(file)
        start = start if packed_hz == rate else round(start * packed_hz / rate)
        return read_resampled(path, packed_hz, start, count, self.rate_hz, channel, raw, out)

    def keep(self, key: tuple[int, int, int], wave: np.ndarray) -> None:
        """Keep in memory what still fits."""
        if self.cached + wave.nbytes <= self.cache_bytes:
            self.cache[key] = wave
            self.cached += wave.nbytes

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
