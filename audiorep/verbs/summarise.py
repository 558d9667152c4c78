"""audiorep summarise: calls per hour of what was detected, by hour, date, week and site."""

import logging
from pathlib import Path

import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig

from audiorep.apply.summary import PAGE
from audiorep.apply.summary import summarise as write_summary
from audiorep.apply.summary_input import DETECTIONS, read_annotated, read_detected, read_evidence, with_times
from audiorep.apply.summary_notes import cell
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
    evidence = read_evidence(source, thresholds)
    with progress_bar("reading headers") as progress:
        if (source / DETECTIONS).is_file():
            heard, listened = read_detected(source, recordings, progress)
        else:
            heard, listened = read_annotated(source, instantiate(cfg.format), annotations, recordings, progress)
    if times is not None:
        listened = with_times(listened, times)
    listened = from_names(listened, str(cfg.site_from))
    summary = write_summary(
        heard, listened, out, evidence, cfg.utc_offset_h, cfg.resamples, cfg.seed, title=f"Detections: {source.name}"
    )
    for note in summary.notes:
        log.info("%s", note)
    for _, row in summary.tables["summary"].iterrows():
        log.info("%s", line_of(row))
    log.info("wrote %s", out / PAGE)


def line_of(row: pd.Series) -> str:
    """A label in a line: its calls, and how many an hour."""
    if row["not_looked_for"]:
        return f"{row['label']}: not looked for: {row['not_looked_for']}"
    rate, low, high = (cell(row[name]) for name in ("calls_per_h", "low", "high"))
    return f"{row['label']}: {row['calls']:,} calls, {rate} per hour ({low} to {high})"
