"""audiorep check: the corpus doctor."""

import logging
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.table import Table

from audiorep.console import console, progress_bar
from audiorep.data.check import as_json
from audiorep.data.check import check as examine
from audiorep.data.manifest import read_corpus
from audiorep.files import write_json

log = logging.getLogger(__name__)


def check(cfg: DictConfig) -> int:
    """Show what is wrong, write `out` as JSON; returns 1 where there are errors, else 0."""
    with progress_bar("reading headers") as progress:
        manifest = read_corpus(cfg.corpus, instantiate(cfg.format), cfg.annotations, progress)
    with progress_bar("decoding") as progress:
        found = examine(manifest, progress)
    table = Table("", "what", "recording", "detail", title=f"{len(manifest)} rows, {len(manifest.files)} recordings")
    for finding in sorted(found, key=lambda f: f.severity)[: cfg.show]:
        table.add_row(finding.severity, finding.kind, Path(finding.path).name, finding.detail)
    if found:
        console.print(table)
    errors = sum(finding.severity == "error" for finding in found)
    log.info("%d error(s), %d warning(s)", errors, len(found) - errors)
    if cfg.out:
        write_json(Path(cfg.out), as_json(manifest, found))
        log.info("wrote %s", cfg.out)
    return 1 if errors else 0
