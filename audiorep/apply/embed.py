"""Embeddings of whole recordings, window by window, to Parquet: from a run, a bundle, or any waveform-in ONNX."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from audiorep.apply.export import session
from audiorep.data.audio import probe, read_resampled, to_float
from audiorep.errors import AudioError, AudiorepError
from audiorep.files import atomic, write_json
from audiorep.model import at_once, load_model


@dataclass(frozen=True)
class Embedder:
    """Waves [b t] at `sample_rate_hz` to embeddings [b d]; t is `window_samples`."""

    run: Callable[[np.ndarray], np.ndarray]
    sample_rate_hz: int
    window_samples: int


def open_embedder(model: str | Path, device: torch.device | str = "cpu", rate_hz: int | None = None) -> Embedder:
    """A run folder, a bundle, or any `.onnx` that takes waves [batch, samples].

    Args:
        rate_hz: of an ONNX that does not tell its own.

    Raises:
        AudiorepError: not a model, or an ONNX that does not take waves or tell its sample rate.
    """
    path = Path(model)
    if path.suffix == ".onnx":
        return _open_onnx(path, rate_hz)
    network, info, _ = load_model(path)
    device = torch.device(device)
    network.to(device)

    @torch.inference_mode()
    def run(waves: np.ndarray) -> np.ndarray:
        pieces = torch.from_numpy(waves).split(at_once(device, waves.shape[1], len(waves)))
        return torch.cat([network(piece.to(device))[0].float().cpu() for piece in pieces]).numpy()

    return Embedder(run, info.sample_rate_hz, max(info.window_samples, network.frontend.shortest))


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


def windows_of(
    path: Path, embedder: Embedder, hop_samples: int, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of (first sample [b] at the model's rate, waves [b t]) over a whole recording, the last one padded."""
    info = probe(path)
    rate, length = embedder.sample_rate_hz, embedder.window_samples
    total = info.frames * rate // info.rate_hz
    starts = np.arange(0, max(1, total - length + hop_samples), hop_samples)
    starts = starts[(starts == 0) | (starts < total)]
    together = batch_size if hop_samples <= 2 * length else 1  # far apart: what lies between is not decoded
    for i in range(0, len(starts), together):
        chosen = starts[i : i + together]
        first = int(chosen[0])
        source = first * info.rate_hz // rate
        stretch = read_resampled(path, info.rate_hz, source, int(chosen[-1]) - first + length, rate)
        waves = np.stack([stretch[start - first : start - first + length] for start in chosen])
        yield chosen, to_float(waves)


def embed_recording(path: Path, embedder: Embedder, hop_samples: int, batch_size: int) -> pa.Table:
    """One row a window: path, start_s, end_s, embedding (list of float32).

    Raises:
        AudioError: the recording cannot be decoded.
    """
    starts, parts = [], []
    for chosen, waves in windows_of(path, embedder, hop_samples, batch_size):
        starts.append(chosen)
        parts.append(embedder.run(waves))
    start, embedding = np.concatenate(starts), np.concatenate(parts).astype(np.float32)
    values = pa.FixedSizeListArray.from_arrays(pa.array(embedding.ravel()), embedding.shape[1])
    return pa.table(
        {
            "path": pa.array([str(path)] * len(start), pa.string()),
            "start_s": start / embedder.sample_rate_hz,
            "end_s": np.minimum((start + embedder.window_samples) / embedder.sample_rate_hz, probe(path).duration_s),
            "embedding": values,
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
) -> list[tuple[Path, str]]:
    """Embed every recording into ``out/embeddings.parquet``; go on where an earlier start stopped.

    Each recording's rows are a part file, written whole or not at all; the parts are joined at the end. `settings` is
    what must be the same to go on. What cannot be decoded is left out and returned with its reason.
    """
    parts_folder = out / "parts"
    check_settings(parts_folder / "settings.json", settings)
    failed: list[tuple[Path, str]] = []
    done: list[Path] = []
    for number, path in enumerate(paths):
        part = parts_folder / f"{hashlib.sha256(str(path).encode()).hexdigest()[:24]}.parquet"
        try:
            if not part.exists():
                table = embed_recording(path, embedder, hop_samples, batch_size)
                with atomic(part) as temporary:
                    pq.write_table(table, temporary)
            done.append(part)
        except AudioError as error:
            failed.append((path, str(error).removeprefix(f"{path}: ")))
        progress(number + 1, len(paths))
    if not done:
        raise AudiorepError(
            f"none of {len(paths)} recording(s) could be embedded; the first: {failed[0][0]}: {failed[0][1]}"
        )
    with (
        atomic(out / "embeddings.parquet") as temporary,
        pq.ParquetWriter(temporary, pq.read_schema(done[0])) as writer,
    ):
        for part in done:
            writer.write_table(pq.read_table(part))
    shutil.rmtree(parts_folder)
    return failed


def check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings beside the part files; refuse to go on with others.

    Raises:
        AudiorepError: the parts that are there were made with other settings.
    """
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        different = [name for name in settings if before.get(name) != settings[name]]
        if different:
            name = different[0]
            raise AudiorepError(
                f"{path.parent}: was begun with {name}={before.get(name)}, not {settings[name]}: "
                "resume with the same settings, or overwrite=true to start anew"
            )
    write_json(path, settings)
