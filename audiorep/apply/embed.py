"""Embeddings of whole recordings, window by window, to Parquet: from a run, a bundle, or any waveform-in ONNX."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from audiorep.apply.bulk import process
from audiorep.apply.local import HERE
from audiorep.apply.parts import Engine
from audiorep.data.audio import AudioInfo, probe, read_resampled, to_float
from audiorep.errors import AudiorepError
from audiorep.model import load_model
from audiorep.running import ahead, runner

EMBEDDINGS = "embeddings.parquet"


@dataclass(frozen=True)
class Embedder:
    """Waves [b t] at `sample_rate_hz` to embeddings [b d]; t is `window_samples`.

    Another process gets it by pickle as `again`, and opens the model anew.
    """

    run: Callable[[np.ndarray], np.ndarray]
    sample_rate_hz: int
    window_samples: int
    again: "Callable[[], Embedder] | None" = None

    def __reduce__(self) -> "tuple[Callable[[], Embedder], tuple[()]]":
        if self.again is None:
            raise AudiorepError("this embedder was not opened from a file: it cannot go to another process")
        return self.again, ()


def open_embedder(
    model: str | Path, device: torch.device | str = "cpu", rate_hz: int | None = None, precision: str = "32-true"
) -> Embedder:
    """A run folder, a bundle, or any `.onnx` that takes samples.

    Args:
        rate_hz: sample rate of an ONNX; overrules what it says.
        precision: see `runner`.

    Raises:
        AudiorepError: not a model; see `load_model`.
    """
    path = Path(model)
    again = partial(open_embedder, path.absolute(), device, rate_hz, precision)
    network, info, _ = load_model(path, rate_hz=rate_hz)
    run = runner(network, device, precision)
    return Embedder(
        lambda waves: run(waves)[0], info.sample_rate_hz, max(info.window_samples, network.frontend.shortest), again
    )


def count_windows(info: AudioInfo, embedder: Embedder, hop_samples: int) -> int:
    """Windows of a whole recording, one every `hop_samples`; the last may reach past its end, none begins there."""
    total = info.frames * embedder.sample_rate_hz // info.rate_hz
    return count_of(total, embedder.window_samples, hop_samples)


def count_of(total: int, length: int, hop: int) -> int:
    """Windows of `length` samples in `total`, one every `hop`; the last may reach past the end, none begins there."""
    reaching = -(-max(1, total - length + hop) // hop)
    return min(reaching, max(1, -(-total // hop)))


def windows_in(wave: np.ndarray, length: int, hop: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """As `windows_of`, over samples [t] in memory, at the model's rate."""
    starts = np.arange(count_of(len(wave), length, hop)) * hop
    padded = np.pad(wave, (0, max(0, int(starts[-1]) + length - len(wave))))
    for i in range(0, len(starts), batch_size):
        chosen = starts[i : i + batch_size]
        yield chosen, np.stack([padded[start : start + length] for start in chosen])


def windows_of(
    path: Path, embedder: Embedder, hop_samples: int, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of (first sample [b] at the model's rate, waves [b t]) over a whole recording, the last one padded."""
    info = probe(path)
    rate, length = embedder.sample_rate_hz, embedder.window_samples
    starts = np.arange(count_windows(info, embedder, hop_samples)) * hop_samples
    together = batch_size if hop_samples <= 2 * length else 1  # far apart: what lies between is not decoded
    for i in range(0, len(starts), together):
        chosen = starts[i : i + together]
        first = int(chosen[0])
        source = first * info.rate_hz // rate
        stretch = read_resampled(path, info.rate_hz, source, int(chosen[-1]) - first + length, rate)
        waves = np.stack([stretch[start - first : start - first + length] for start in chosen])
        yield chosen, to_float(waves)


def embed_recording(path: Path, embedder: Embedder, hop_samples: int, batch_size: int) -> Iterator[pa.Table]:
    """Rows of a recording, some windows at a time: path, start_s, end_s, embedding (list of float32).

    Raises:
        AudioError: the recording cannot be decoded.
    """
    duration_s = probe(path).duration_s
    for start, waves in ahead(windows_of(path, embedder, hop_samples, batch_size)):
        embedding = embedder.run(waves).astype(np.float32)
        yield pa.table(
            {
                "path": pa.array([str(path)] * len(start), pa.string()),
                "start_s": start / embedder.sample_rate_hz,
                "end_s": np.minimum((start + embedder.window_samples) / embedder.sample_rate_hz, duration_s),
                "embedding": pa.FixedSizeListArray.from_arrays(pa.array(embedding.ravel()), embedding.shape[1]),
            }
        )


def embed_recordings(
    paths: list[Path],
    embedder: Embedder,
    out: Path,
    hop_samples: int,
    settings: Mapping[str, Any],
    batch_size: int = 64,
    progress: Callable[[int, int], None] = lambda done, total: None,
    engine: Engine = HERE,
) -> list[tuple[Path, str]]:
    """Embed every recording into ``out/embeddings.parquet``, as `process` of audiorep/apply/bulk.py tells."""
    work = partial(embed_recording, embedder=embedder, hop_samples=hop_samples, batch_size=batch_size)
    return process(paths, work, out, settings, EMBEDDINGS, engine, progress)
