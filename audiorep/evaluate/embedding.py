"""Embeddings of all rows of a corpus: every fixed window through an encoder, averaged over the windows of a row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from audiorep.data.windows import Windows
from audiorep.encoders.vit import grid
from audiorep.errors import AudiorepError
from audiorep.evaluate.pieces import Failed, Progress, heard
from audiorep.evaluate.tokens import Keeping, Tokens, frames_as_tokens, pool_time
from audiorep.model import Model
from audiorep.types import Batch, Spec


@dataclass(frozen=True)
class Extracted:
    """What is averaged over the windows of a row, and the tokens, which may be of another width."""

    pooled: Float[Tensor, "b d"]
    tokens: Float[Tensor, "b l width"]


Extract = Callable[[Batch], Mapping[str, Extracted]]


@dataclass(frozen=True)
class Embedded:
    """values: {name: [rows d]}; known: [rows] False where nothing could be decoded; failed: (row, reason).

    tokens: {name: tokens}, where they were asked for and memory allows; too_large: the reason where it does not.
    """

    values: dict[str, Float[np.ndarray, "n d"]]
    known: Bool[np.ndarray, " n"]
    failed: Failed
    tokens: dict[str, Tokens] = field(default_factory=dict)
    too_large: str = ""


@torch.inference_mode()
def embed_rows(
    windows: Windows,
    extract: Extract,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: Progress | None = None,
    keep: Keeping | None = None,
) -> Embedded:
    """Run `extract` over every fixed window and average what is pooled by row, in float64; `keep` keeps the tokens too.

    Raises:
        AudiorepError: not one row could be decoded.
    """
    rows, device = len(windows), torch.device(device)
    sums: dict[str, np.ndarray] = {}
    counts = np.zeros(rows)
    failed: Failed = []
    for batch in heard(windows, batch_size, device, workers, failed, progress):
        index = batch["index"].cpu().numpy()
        np.add.at(counts, index, 1.0)
        found = extract(batch)
        for name, features in found.items():
            total = sums.setdefault(name, np.zeros((rows, features.pooled.shape[1])))
            np.add.at(total, index, features.pooled.float().cpu().double().numpy())
        if keep is not None:
            keep.add(index, {name: features.tokens for name, features in found.items()})
    if not counts.any():
        raise AudiorepError(
            f"not one of {rows} rows could be decoded{f'; the first: {failed[0][1]}' if failed else ''}"
        )
    values = {name: (total / np.maximum(counts, 1.0)[:, None]).astype(np.float32) for name, total in sums.items()}
    out = Embedded(values, counts > 0, failed)
    return out if keep is None else replace(out, tokens=keep.tokens(rows), too_large=keep.too_large)


def extract_with(models: Mapping[str, Model], mel: bool = True, tokens_per_window: int | None = None) -> Extract:
    """What each named model says, and with `mel` the statistics and frames of the first's compressed spectrogram.

    Where the models see samples, a mel spectrogram of these stands in for it (`FrontEnd.picture`). All models see the
    spectrogram of the first: they differ in the encoder only (trained and random). With `tokens_per_window`, more
    tokens than that are averaged over neighbours in time (`pool_time`).
    """
    first = next(iter(models.values()))
    shown = first.frontend.shown
    centre = 0 if shown.center else shown.win_length // 2

    def extract(batch: Batch) -> dict[str, Extracted]:
        spec, out = first.spectrogram(batch["wave"]), {}
        for name, model in models.items():
            features, patch = model.encoder(spec), model.encoder.patch
            tokens = pool_time(features.tokens, grid(spec, patch)[0] if patch else 1, tokens_per_window)
            out[name] = Extracted(features.pooled, tokens)
        if mel:
            picture = first.frontend.picture(spec)
            placed = (picture, batch["valid"], shown.hop_length, centre)
            frames = frames_as_tokens(picture, valid_frames(*placed))
            out["mel"] = Extracted(mel_statistics(*placed), pool_time(frames, 1, tokens_per_window))
        return out

    return extract


def valid_frames(spec: Spec, valid: Bool[Tensor, "b t"], hop_length: int, first_centre: int = 0) -> Bool[Tensor, "b n"]:
    """Frames whose centre is valid; where there is none, all.

    Frame j is centred on sample ``first_centre + j hop_length``.
    """
    centre = (first_centre + torch.arange(spec.shape[3], device=spec.device) * hop_length).clamp_max(valid.shape[1] - 1)
    inside = valid[:, centre]
    return inside | ~inside.any(1, keepdim=True)


def mel_statistics(
    spec: Spec, valid: Bool[Tensor, "b t"], hop_length: int, first_centre: int = 0
) -> Float[Tensor, "b d"]:
    """The baseline: mean and standard deviation of each band over the `valid_frames`: [b 2f]."""
    weight = valid_frames(spec, valid, hop_length, first_centre)[:, None].to(spec.dtype)
    total = weight.sum(2)
    mean = (spec[:, 0] * weight).sum(2) / total
    variance = ((spec[:, 0] - mean[:, :, None]).square() * weight).sum(2) / total
    return torch.cat([mean, variance.sqrt()], 1)
