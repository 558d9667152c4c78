"""audiorep summarise: calls per hour of what was detected, by hour, date, week and site."""

import logging
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from audiorep.apply.summary import PAGE
from audiorep.apply.summary import summarise as write_summary
from audiorep.apply.summary_input import DETECTIONS, read_annotated, read_detected, read_precision, with_times
from audiorep.console import progress_bar
from audiorep.data.recordings import from_names
from audiorep.errors import AudiorepError
from audiorep.files import output_folder

log = logging.getLogger(__name__)


def summarise(cfg: DictConfig) -> None:
    """Leaves tables (CSV), pictures (PNG) and ``summary.html`` in `out`."""
    source = Path(str(cfg.detections)).expanduser()
    recordings, annotations, times, thresholds = (
        None if cfg[name] is None else Path(str(cfg[name])).expanduser()
        for name in ("recordings", "annotations", "times", "thresholds")
    )
    if not source.exists():
        raise AudiorepError(f"detections={source}: no such file or folder")
    out = output_folder(cfg.out, overwrite=cfg.overwrite)
    precision = read_precision(thresholds) if thresholds is not None else None
    with progress_bar("reading headers") as progress:
        if (source / DETECTIONS).is_file():
            heard, listened = read_detected(source, recordings, progress)
        else:
            heard, listened = read_annotated(source, instantiate(cfg.format), annotations, recordings, progress)
    if times is not None:
        listened = with_times(listened, times)
    listened = from_names(listened, str(cfg.site_from))
    summary = write_summary(
        heard, listened, out, precision, cfg.utc_offset_h, cfg.resamples, cfg.seed, title=f"Detections: {source.name}"
    )
    for note in summary.notes:
        log.info("%s", note)
    for _, row in summary.tables["summary"].iterrows():
        log.info("%s: %d calls, %.3g per hour (%.3g to %.3g)", *row[["label", "calls", "calls_per_h", "low", "high"]])
    log.info("wrote %s", out / PAGE)
