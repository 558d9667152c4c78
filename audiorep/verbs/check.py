"""audiorep check: the corpus doctor."""

import logging
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.markup import escape
from rich.table import Table

from audiorep.console import console, progress_bar
from audiorep.data.manifest import Manifest, read_corpus
from audiorep.data.quarantine import add_to_quarantine
from audiorep.doctor.corpus import usual_rate
from audiorep.doctor.examine import as_json, examine
from audiorep.doctor.finding import REMEDIES, rank
from audiorep.doctor.fingerprint import HOP_S, edges_hz
from audiorep.doctor.page import write_page
from audiorep.doctor.recording import listen
from audiorep.errors import AudiorepError
from audiorep.files import write_json
from audiorep.model import load_model
from audiorep.rehearsal import Estimate, memory_bytes, show, spread

SAMPLE, ENOUGH, LONGEST_S = 16, 2**22, 10.0
"""Recordings, samples of each, and seconds that a dry run listens."""

log = logging.getLogger(__name__)


def check(cfg: DictConfig) -> int:
    """Show what is wrong, write `out` (.json) and a page with pictures beside it; returns 1 on errors, else 0."""
    out = None if cfg.out is None else Path(str(cfg.out))
    if out is not None and out.suffix != ".json":
        raise AudiorepError(f"out={out}: name a .json file; the page with pictures goes beside it")
    model_rate_hz = None if cfg.model is None else load_model(cfg.model)[1].sample_rate_hz
    with progress_bar("reading headers") as progress:
        manifest = read_corpus(cfg.corpus, instantiate(cfg.format), cfg.annotations, progress)
    if cfg.dry_run:
        show(rehearse(manifest, Path() if out is None else Path(str(cfg.dry_run))))
        return 0
    journal = None if out is None else out.with_suffix(".journal.jsonl")
    with progress_bar("decoding") as progress:
        found = examine(manifest, progress, model_rate_hz, cfg.labels.multilabel, journal)
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
    if journal is not None:
        journal.unlink()
    return 1 if errors else 0


def rehearse(manifest: Manifest, out: Path) -> Estimate:
    """Listen to some recordings, and tell what all of them take."""
    edges, samples, took = edges_hz(usual_rate(manifest)), 0, 0.0
    for path in spread(list(manifest.files), SAMPLE):
        info, began = manifest.files[path], time.monotonic()
        some = replace(info, frames=min(info.frames, ENOUGH))
        listen(path, some, edges)
        samples, took = samples + some.frames * info.channels, took + time.monotonic() - began
        if took > LONGEST_S:
            break
    all_samples = sum(info.frames * info.channels for info in manifest.files.values())
    seconds_of_sound = sum(info.duration_s for info in manifest.files.values())
    journal = round(seconds_of_sound / HOP_S * 5 * 4 / 3)  # a word and a flag, in base 64
    what = f"{len(manifest.files)} recordings, {seconds_of_sound / 3600:.3g} h"
    return Estimate({what: all_samples * took / max(1, samples)}, memory_bytes() + journal, journal, out)
