"""audiorep convert: annotations of one format to another."""

import logging
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from audiorep.console import progress_bar
from audiorep.data.expansion import as_played
from audiorep.data.formats.writers import FILES, ROOTED, WRITERS
from audiorep.data.manifest import read_corpus
from audiorep.errors import AudiorepError
from audiorep.files import output_folder

log = logging.getLogger(__name__)


def convert(cfg: DictConfig) -> None:
    """Write the labelled rows of a corpus as `to` says, into `out`."""
    name, out = str(cfg.to), Path(str(cfg.out)).expanduser()
    if name not in WRITERS:
        raise AudiorepError(f"to={name}: there are {', '.join(WRITERS)}")
    if name in FILES and out.suffix.lower() not in FILES[name]:
        raise AudiorepError(f"out={out}: {name} is one file: name it ...{' or ...'.join(FILES[name])}")
    if name in FILES and out.exists() and not cfg.overwrite:
        raise AudiorepError(f"out={out} exists: choose another name, or overwrite=true")
    with progress_bar("reading headers") as progress:
        manifest = read_corpus(
            cfg.recordings, instantiate(cfg.format), cfg.annotations, progress, cfg.time_expansion, cfg.expanded
        )
    whole = manifest.frame
    if cfg.as_played:
        rates_hz = [manifest.files[path].rate_hz for path in whole["path"]]
        whole = as_played(whole.assign(rate_hz=rates_hz), manifest.files)
    frame = whole if cfg.unlabelled else whole[whole["label"] != ""]
    if not len(frame):
        raise AudiorepError(f"{cfg.recordings}: no row has a label; unlabelled=true writes rows without one")
    recordings = Path(str(cfg.recordings)).expanduser().resolve()
    root = {"root": recordings if recordings.is_dir() else recordings.parent} if name in ROOTED else {}
    if name not in FILES:
        output_folder(out, overwrite=cfg.overwrite)
    written = WRITERS[name](frame.reset_index(drop=True), out.resolve(), **root)
    if manifest.quarantined:
        first = manifest.quarantined[0]
        log.warning("%d left out, the first: %s: %s", len(manifest.quarantined), first.path, first.reason)
    log.info("wrote %d row(s) into %d file(s), the first: %s", len(frame), len(written), written[0] if written else out)
