"""audiorep check: the corpus doctor."""

import logging
from collections import Counter
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.markup import escape
from rich.table import Table

from audiorep.console import console, progress_bar
from audiorep.data.manifest import read_corpus
from audiorep.data.quarantine import add_to_quarantine
from audiorep.doctor.examine import as_json, examine
from audiorep.doctor.finding import REMEDIES, rank
from audiorep.doctor.page import write_page
from audiorep.errors import AudiorepError
from audiorep.files import write_json
from audiorep.model import load_model

log = logging.getLogger(__name__)


def check(cfg: DictConfig) -> int:
    """Show what is wrong, write `out` (.json) and a page with pictures beside it; returns 1 on errors, else 0."""
    out = None if cfg.out is None else Path(str(cfg.out))
    if out is not None and out.suffix != ".json":
        raise AudiorepError(f"out={out}: name a .json file; the page with pictures goes beside it")
    model_rate_hz = None if cfg.model is None else load_model(cfg.model)[1].sample_rate_hz
    with progress_bar("reading headers") as progress:
        manifest = read_corpus(cfg.corpus, instantiate(cfg.format), cfg.annotations, progress)
    with progress_bar("decoding") as progress:
        found = examine(manifest, progress, model_rate_hz, cfg.labels.multilabel)
    kinds = Counter((finding.severity, finding.kind) for finding in sorted(found, key=rank))
    table = Table("", "what", "recording", "detail", title=f"{len(manifest)} rows, {len(manifest.files)} recordings")
    for finding in sorted(found, key=rank)[: cfg.show]:
        table.add_row(*map(escape, (finding.severity, finding.kind, Path(finding.path).name, finding.detail)))
    if found:
        console.print(table)
    if len(found) > cfg.show:
        console.print(f"{len(found) - cfg.show} more: show={len(found)}, or out=check.json", highlight=False)
    for (severity, kind), count in kinds.items():
        console.print(f"[bold]{kind}[/] ({severity}, {count}): {REMEDIES[kind]}", highlight=False)
    errors = sum(finding.severity == "error" for finding in found)
    log.info("%d error(s), %d warning(s)", errors, len(found) - errors)
    if cfg.quarantine:
        broken = {finding.path: finding.detail for finding in found if finding.kind == "not decodable"}
        path, new = add_to_quarantine(Path(str(cfg.corpus)).expanduser().resolve(), broken)
        log.info("%d recording(s) put on %s: no run uses them", new, path)
    if out is not None:
        write_json(out, as_json(manifest, found))
        write_page(manifest, found, Path(str(cfg.corpus)).name, out.with_suffix(".html"))
        log.info("wrote %s and %s", out, out.with_suffix(".html").name)
    return 1 if errors else 0
