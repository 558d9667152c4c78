"""Embeddings of whole recordings, window by window, to Parquet: from a run, a bundle, or any waveform-in ONNX."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import torch

from audiorep.apply.bulk import process
from audiorep.apply.local import HERE
from audiorep.apply.parts import Engine
from audiorep.apply.waveform_onnx import session
from audiorep.data.audio import AudioInfo, probe, read_resampled, to_float
from audiorep.errors import AudiorepError
from audiorep.model import at_once, load_model

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


def open_embedder(model: str | Path, device: torch.device | str = "cpu", rate_hz: int | None = None) -> Embedder:
    """A run folder, a bundle, or any `.onnx` that takes waves [batch, samples].

    Args:
        rate_hz: of an ONNX that does not tell its own.

    Raises:
        AudiorepError: not a model, or an ONNX that does not take waves or tell its sample rate.
    """
    path = Path(model)
    again = partial(open_embedder, path.absolute(), device, rate_hz)
    if path.suffix == ".onnx":
        return replace(_open_onnx(path, rate_hz), again=again)
    network, info, _ = load_model(path)
    device = torch.device(device)
    network.to(device)

    @torch.inference_mode()
    def run(waves: np.ndarray) -> np.ndarray:
        pieces = torch.from_numpy(waves).split(at_once(device, waves.shape[1], len(waves)))
        return torch.cat([network(piece.to(device))[0].float().cpu() for piece in pieces]).numpy()

    return Embedder(run, info.sample_rate_hz, max(info.window_samples, network.frontend.shortest), again)


def _open_onnx(path: Path, rate_hz: int | None) -> Embedder:
    if not path.is_file():
        raise AudiorepError(f"model={path}: no such file")
    try:
        opened: onnxruntime.InferenceSession = session(path)
    except Exception as error:  # onnxruntime raises types of its own, by the cause
        raise AudiorepError(f"model={path}: not readable as ONNX: {str(error).splitlines()[0]}") from error
    inputs, meta = opened.get_inputs(), opened.get_modelmeta().custom_metadata_map
    if len(inputs) != 1 or len(inputs[0].shape) != 2:
        shapes = ", ".join(f"{i.name} {i.shape}" for i in inputs)
        raise AudiorepError(
            f"model={path}: its inputs are {shapes}; one input (batch, samples) is needed: a model that wants "
            "spectrograms leaves the front-end to every user, and each builds it slightly wrong"
        )
    rate = json.loads(meta["sample_rate"]) if "sample_rate" in meta else rate_hz
    if rate is None:
        raise AudiorepError(f"model={path}: does not tell its sample rate; say sample_rate_hz=...")
    length = inputs[0].shape[1]
    if not isinstance(length, int):
        if "sample_duration" not in meta:
            raise AudiorepError(f"model={path}: tells no window length; say window_s=...")
        length = round(float(json.loads(meta["sample_duration"])) * int(rate))
    outputs = [output.name for output in opened.get_outputs()]
    wanted = meta.get("embedding_outputs_key") or ("embedding" if "embedding" in outputs else outputs[0])

    def run(waves: np.ndarray) -> np.ndarray:
        return np.asarray(opened.run([wanted], {inputs[0].name: waves})[0])

    return Embedder(run, int(rate), int(length))


def count_windows(info: AudioInfo, embedder: Embedder, hop_samples: int) -> int:
    """Windows of a whole recording, one every `hop_samples`; the last may reach past its end, none begins there."""
    total = info.frames * embedder.sample_rate_hz // info.rate_hz
    reaching = -(-max(1, total - embedder.window_samples + hop_samples) // hop_samples)
    return min(reaching, max(1, -(-total // hop_samples)))


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
    for start, waves in windows_of(path, embedder, hop_samples, batch_size):
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
