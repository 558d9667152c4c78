"""What a classifier says about every row of a corpus: its windows one by one, pooled by row."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from audiorep.data.windows import Windows
from audiorep.errors import AudiorepError
from audiorep.evaluate.embedding import mel_statistics
from audiorep.evaluate.pieces import Failed, Progress, heard
from audiorep.model import Model
from audiorep.pooling import Pooling, bags_of, mean


@dataclass(frozen=True)
class Said:
    """Of every row: logits [rows c], embedding [rows d], mel statistics [rows 2f]; NaN where `known` is False.

    Of a model without a classifier, `logits` are pooled embeddings.
    """

    logits: Float[np.ndarray, "n c"]
    embedding: Float[np.ndarray, "n d"]
    mel: Float[np.ndarray, "n e"]
    known: Bool[np.ndarray, " n"]
    failed: Failed


@torch.inference_mode()
def predict(
    model: Model,
    windows: Windows,
    pooling: Pooling = mean,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    workers: int = 0,
    progress: Progress | None = None,
) -> Said:
    """Every fixed window through the model; logits of a row by `pooling`, embeddings and mel statistics by the mean.

    Raises:
        AudiorepError: not one row could be decoded.
    """
    device = torch.device(device)
    model.eval().to(device)
    shown = model.frontend.shown
    centre = 0 if shown.center else shown.win_length // 2
    rows, parts = [], []
    failed: Failed = []
    for batch in heard(windows, batch_size, device, workers, failed, progress):
        spec = model.spectrogram(batch["wave"])
        mel = mel_statistics(model.frontend.picture(spec), batch["valid"], shown.hop_length, centre)
        told = model.classify(spec)
        parts.append([x.float().cpu() for x in (told[0], told[-1], mel)])
        rows.append(batch["index"].cpu())
    model.cpu()
    if not rows:
        raise AudiorepError(f"not one of {len(windows)} rows could be decoded{f': {failed[0][1]}' if failed else ''}")
    row = torch.cat(rows)
    bag, first = bags_of(row)
    embedding, logits, mel = (torch.cat(column).double() for column in zip(*parts, strict=True))
    place = row[first].numpy()
    known = np.zeros(len(windows), bool)
    known[place] = True

    def spread(values: torch.Tensor) -> np.ndarray:
        out = np.full((len(windows), values.shape[1]), np.nan, np.float32)
        out[place] = values.numpy()
        return out

    return Said(spread(pooling(logits, bag)), spread(mean(embedding, bag)), spread(mean(mel, bag)), known, failed)
