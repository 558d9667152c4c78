"""Every fixed window of a corpus, decoded and on the device, as many at once as a cache or a GPU likes."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from audiorep.data.loader import fixed_batches, to_device
from audiorep.data.windows import Windows
from audiorep.model import at_once
from audiorep.types import Batch

Progress = Callable[[int, int], None]
Failed = list[tuple[int, str]]


def heard(
    windows: Windows, batch_size: int, device: torch.device, workers: int, failed: Failed, progress: Progress | None
) -> Iterator[Batch]:
    """Batches of fixed windows in pieces, in order; rows that cannot be decoded are added to `failed` as (row, reason)."""
    loader = fixed_batches(windows, batch_size, workers)
    size = at_once(device, windows.length, batch_size)
    for done, raw in enumerate(loader, 1):
        failed += raw.get("failed", [])
        for piece in pieces(raw, size):
            yield to_device(piece, device)
        if progress:
            progress(done, len(loader))


def pieces(raw: dict[str, Any], size: int) -> Iterator[dict[str, Any]]:
    """A batch in parts of at most `size` items; an empty one has none."""
    for first in range(0, len(raw["index"]), size):
        yield {name: value[first : first + size] for name, value in raw.items() if name != "failed"}


def undecoded(missing: int, failed: Failed) -> str:
    """What to say of rows of which nothing could be decoded, with the first reasons."""
    reasons = list(dict.fromkeys(reason for _, reason in failed))
    return f"{missing} row(s) cannot be decoded and are not scored: {'; '.join(reasons[:3])}"
