"""A finished model over many windows: a few at a time, in a layout and a precision that are fast."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch

from audiorep.errors import AudiorepError
from audiorep.model import Model, at_once
from audiorep.pace import lay_out

PRECISIONS = ("32-true", "bf16-mixed")

T = TypeVar("T")


def runner(
    model: Model, device: torch.device | str = "cpu", precision: str = "32-true"
) -> Callable[[np.ndarray], list[np.ndarray]]:
    """What a model says of waves [b t]: its outputs, each [b ...], float32.

    Args:
        precision: 32-true; or bf16-mixed: the encoder's products in bfloat16, in half the time where the hardware has them;
            embeddings then differ in the third digit. The front-end is float32 either way.

    Raises:
        AudiorepError: another precision.
    """
    if precision not in PRECISIONS:
        raise AudiorepError(f"precision={precision}: say one of {', '.join(PRECISIONS)}")
    device = torch.device(device)
    model.eval().to(device)
    lay_out(model.encoder, channels_last=True)

    @torch.inference_mode()
    def run(waves: np.ndarray) -> list[np.ndarray]:
        parts = []
        for piece in torch.from_numpy(waves).split(at_once(device, waves.shape[1], len(waves))):
            spec = model.spectrogram(piece.to(device))
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
                said = model.classify(spec)
            parts.append([x.float().cpu() for x in said])
        return [torch.cat(column).numpy() for column in zip(*parts, strict=True)]

    return run


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, the next of which is made by another thread while one is used: decoded, while a network runs."""
    made = iter(items)
    with ThreadPoolExecutor(1) as pool:
        next_one: Future[Any] = pool.submit(next, made, pool)  # the pool stands for the end
        while (item := next_one.result()) is not pool:
            next_one = pool.submit(next, made, pool)
            yield item
