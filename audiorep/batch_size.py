"""How many windows a batch holds where nobody says it."""

import logging

from hydra.utils import instantiate
from omegaconf import DictConfig

from audiorep.build import plain_errors
from audiorep.data.windows import Windows

log = logging.getLogger(__name__)

BATCH = 128
"""Windows of a batch, where nothing else is said and there are as many rows."""


def batch_size(cfg: DictConfig) -> int:
    """Windows that are heard at once: `data.batch_size`, or `BATCH` where it is still auto."""
    return BATCH if cfg.data.batch_size == "auto" else int(cfg.data.batch_size)


def settle_batch(cfg: DictConfig, windows: Windows) -> None:
    """`data.batch_size=auto` in training: `BATCH`, or all windows of a pass where these are fewer and come only once."""
    if cfg.data.batch_size != "auto":
        return
    cfg.data.batch_size, count = BATCH, int(windows.windows_per_row().sum())
    if count >= BATCH:
        return
    with plain_errors():
        drawing = instantiate(cfg.data.sampler, windows=windows)
    if not drawing.repeats:
        processes = int(cfg.trainer.devices) * int(cfg.trainer.nodes)
        cfg.data.batch_size = max(2, drawing.units // processes) * processes
        log.info("batches of %d windows, as the training side has %d", cfg.data.batch_size, drawing.units)
