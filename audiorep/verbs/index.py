"""audiorep index: recordings and annotations to one manifest."""

import logging
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from audiorep.console import progress_bar
from audiorep.data.guano import add_recorded
from audiorep.data.manifest import read_corpus, write_manifest, write_quarantine
from audiorep.errors import AudiorepError

log = logging.getLogger(__name__)


def index(cfg: DictConfig) -> None:
    """Write the manifest `out` (CSV or Parquet), and beside it what was left out."""
    out = Path(cfg.out)
    if out.suffix not in (".csv", ".parquet"):
        raise AudiorepError(f"out={out}: name a .csv or .parquet file")
    if out.exists() and not cfg.overwrite:
        raise AudiorepError(f"out={out} exists: choose another name, or overwrite=true")
    with progress_bar("reading headers") as progress:
        manifest = read_corpus(
            cfg.recordings,
            instantiate(cfg.format),
            cfg.annotations,
            progress,
            cfg.time_expansion,
            cfg.expanded,
            "recordings",
        )
    infos = [manifest.files[path] for path in manifest.frame["path"]]
    frame = add_recorded(manifest.frame.assign(rate_hz=[info.rate_hz for info in infos]))
    if any(info.time_expansion != 1.0 for info in infos):
        frame = frame.assign(time_expansion=[info.time_expansion for info in infos])
    write_manifest(frame, out)
    if manifest.quarantined:
        beside = out.with_name(f"{out.stem}.quarantine.csv")
        write_quarantine(manifest.quarantined, beside)
        first = manifest.quarantined[0]
        log.warning(
            "%d left out, the first: %s: %s; all in %s", len(manifest.quarantined), first.path, first.reason, beside
        )
    labelled = frame["label"] != ""
    classes = sorted(frame.loc[labelled, "label"].unique())
    log.info(
        "wrote %s: %d rows, %d labelled with %d classes, %d recordings, %.2f h, %d groups",
        out, len(frame), labelled.sum(), len(classes), len(manifest.files),
        sum(info.duration_s for info in manifest.files.values()) / 3600, frame["group"].nunique(),
    )  # fmt: skip
    if classes:
        log.info("the classes: %s", ", ".join(classes[:12]) + (" ..." if len(classes) > 12 else ""))
