"""Embeddings of all rows of a corpus: every fixed window through a function, averaged over the windows of a row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from audiorep.data.loader import fixed_batches, to_device
from audiorep.data.windows import Windows
from audiorep.errors import AudiorepError
from audiorep.model import Model
from audiorep.types import Batch, Spec

Extract = Callable[[Batch], Mapping[str, Float[Tensor, "b d"]]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Embedded:
    """values: {name: [rows d]}; known: [rows] False where nothing could be decoded; failed: (row, reason)."""

    values: dict[str, Float[np.ndarray, "n d"]]
    known: Bool[np.ndarray, " n"]
    failed: list[tuple[int, str]]


@torch.inference_mode()
def embed_rows(
    windows: Windows,
    extract: Extract,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: Progress | None = None,
) -> Embedded:
    """Run `extract` over every fixed window and average by row, in float64.

    Raises:
        AudiorepError: not one row could be decoded.
    """
    rows = len(windows)
    sums: dict[str, np.ndarray] = {}
    counts = np.zeros(rows)
    failed: list[tuple[int, str]] = []
    loader = fixed_batches(windows, batch_size, workers)
    for done, raw in enumerate(loader, 1):
        failed += raw.get("failed", [])
        if len(raw["index"]):
            batch = to_device(raw, torch.device(device))
            index = batch["index"].cpu().numpy()
            np.add.at(counts, index, 1.0)
            for name, value in extract(batch).items():
                total = sums.setdefault(name, np.zeros((rows, value.shape[1])))
                np.add.at(total, index, value.float().cpu().double().numpy())
        if progress:
            progress(done, len(loader))
    if not counts.any():
        raise AudiorepError(
            f"not one of {rows} rows could be decoded{f'; the first: {failed[0][1]}' if failed else ''}"
        )
    values = {name: (total / np.maximum(counts, 1.0)[:, None]).astype(np.float32) for name, total in sums.items()}
    return Embedded(values, counts > 0, failed)


def extract_with(models: Mapping[str, Model], mel: bool = True) -> Extract:
    """Embeddings of each named model, and with `mel` the statistics of the first model's compressed spectrogram.

    Where the models see samples, a mel spectrogram of these stands in for it (`FrontEnd.picture`). All models see the
    spectrogram of the first: they differ in the encoder only (trained and random).
    """
    first = next(iter(models.values()))
    shown = first.frontend.shown
    centre = 0 if shown.center else shown.win_length // 2

    def extract(batch: Batch) -> dict[str, Tensor]:
        spec = first.spectrogram(batch["wave"])
        out = {name: model.encoder(spec).pooled for name, model in models.items()}
        if mel:
            picture = first.frontend.picture(spec)
            out["mel"] = mel_statistics(picture, batch["valid"], shown.hop_length, centre)
        return out

    return extract


def mel_statistics(
    spec: Spec, valid: Bool[Tensor, "b t"], hop_length: int, first_centre: int = 0
) -> Float[Tensor, "b d"]:
    """The baseline: mean and standard deviation of each band over the frames whose centre is valid: [b 2f].

    Frame j is centred on sample ``first_centre + j hop_length``. Where no frame is valid, all count.
    """
    centre = (first_centre + torch.arange(spec.shape[3], device=spec.device) * hop_length).clamp_max(valid.shape[1] - 1)
    weight = valid[:, centre].to(spec.dtype)[:, None]
    weight = torch.where(weight.sum(2, keepdim=True) > 0, weight, torch.ones_like(weight))
    total = weight.sum(2)
    mean = (spec[:, 0] * weight).sum(2) / total
    variance = ((spec[:, 0] - mean[:, :, None]).square() * weight).sum(2) / total
    return torch.cat([mean, variance.sqrt()], 1)
