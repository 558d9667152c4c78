"""audiorep objectives: every objective with its source, what it needs and when to choose it."""

import logging
from pathlib import Path

from omegaconf import DictConfig
from rich.table import Table

from audiorep.catalogue import entries, markdown
from audiorep.console import console
from audiorep.errors import AudiorepError
from audiorep.files import write_text

log = logging.getLogger(__name__)


def objectives(cfg: DictConfig) -> None:
    """Show the table, or the part of it that speaks of `only`; write all of it to `out`."""
    every = entries()
    if cfg.out:
        write_text(Path(cfg.out), markdown(every))
        log.info("wrote %s", cfg.out)
    word = str(cfg.only or "").lower()
    shown = [entry for entry in every if word in " ".join([entry.name, entry.what, entry.needs, entry.choose]).lower()]
    if not shown:
        raise AudiorepError(f"only={cfg.only}: no objective speaks of it; audiorep objectives lists all")
    table = Table("objective=", "what", "needs", "choose it when or for", "source", show_lines=True)
    for entry in shown:
        table.add_row(entry.name, entry.what, entry.needs, entry.choose, entry.source)
    console.print(table)
