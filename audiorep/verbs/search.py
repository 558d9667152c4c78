"""audiorep search: what in a collection sounds like a query, or like nothing known."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig

from audiorep.apply.embed import Embedder, open_embedder
from audiorep.apply.hits import Section, novel_section, query_sections, write_page
from audiorep.apply.index import Embedded, open_embedded
from audiorep.apply.novelty import most_novel, novel_to, novel_within
from audiorep.apply.query import COMBINE, Box, Query, embed_query, open_queries, table_of
from audiorep.apply.recordings import LEFT_OUT, QUARANTINE
from audiorep.apply.search import search as search_rows
from audiorep.build import device_of
from audiorep.console import progress_bar
from audiorep.data.manifest import Quarantined, write_quarantine
from audiorep.errors import AudioError, AudiorepError
from audiorep.files import atomic, fingerprint, output_folder, remove, write_json

log = logging.getLogger(__name__)

HITS, PAGE, QUERIES, SETTINGS = "hits.csv", "hits.html", "queries.csv", "search.json"
COUNTS = {"top": 1, "cards": 0, "neighbour": 1, "sample": 1, "seed": 0}
"""Keys that are whole numbers, and the least that each may be."""

MEASURES = ("distinct_s", "start_s", "end_s", "low_hz", "high_hz")
"""Keys that are numbers of at least 0."""


def search(cfg: DictConfig) -> int:
    """Leaves ``hits.csv``, ``hits.html`` and ``search.json`` in `out`, of queries ``queries.csv`` too.

    Returns:
        3 where queries were left out, else 0.
    """
    modes: Mapping[str, Callable[[DictConfig], int]] = {"query": by_query, "novel_to": by_known, "novel": by_rest}
    asked = [name for name in modes if cfg[name]]
    if len(asked) != 1:
        raise AudiorepError(
            "search needs one of query=RECORDING (or a folder, or a table of boxes), novel_to=EMBEDDINGS and novel=true"
            + (f", not {' and '.join(asked)}" if asked else "")
        )
    check_numbers(cfg)
    return modes[asked[0]](cfg)


def by_query(cfg: DictConfig) -> int:
    """Search for queries; returns the exit status."""
    if cfg.windows not in COMBINE:
        raise AudiorepError(f"windows={cfg.windows}: there are {' and '.join(COMBINE)}")
    box = Box(cfg.start_s, cfg.end_s, cfg.low_hz, cfg.high_hz)
    queries, quarantined = open_queries(cfg.query, instantiate(cfg.format), box, cfg.recordings, cfg.bands)
    out, embedded = begin(cfg)
    embedder = same_model(cfg, embedded)
    queries, vectors, failed = heard(queries, embedder, embedded.hop_samples, cfg.windows)
    distinct_s = apart(cfg, embedded)
    with progress_bar("searching") as progress:
        hits = search_rows(embedded.rows, queries, vectors, cfg.top, distinct_s, cfg.leave_out_itself, progress)
    with progress_bar("drawing") as progress:
        sections = query_sections(hits, queries, cfg.cards, progress)
    fewest = int(hits.groupby("query").size().reindex([query.name for query in queries], fill_value=0).min())
    if fewest < cfg.top:
        log.info("fewer than top=%d hits for some query: %d stretches were all there were", cfg.top, fewest)
    facts = [f"{counted(len(queries), 'query', 'queries')}, {counted(len(hits), 'hit')} in {said_of(embedded)}"]
    facts += [one_a_stretch(distinct_s)] if distinct_s > 0.0 else []
    if any(query.low_hz is not None or query.high_hz is not None for query in queries):
        facts.append(
            "What lies outside the band of a query was filtered away before it was embedded; the hits were not."
        )
    settings = {"windows": str(cfg.windows), "leave_out_itself": bool(cfg.leave_out_itself), "bands": bool(cfg.bands)}
    left_out = [*quarantined, *failed]
    write(out / QUERIES, table_of(queries))
    if left_out:
        write_quarantine(left_out, out / QUARANTINE)
        log.warning(
            "%s left out, the first: %s: %s; all in %s",
            counted(len(left_out), "query", "queries"), left_out[0].path, left_out[0].reason, out / QUARANTINE,
        )  # fmt: skip
    finish(cfg, out, embedded, hits, sections, f"Hits for {Path(str(cfg.query)).name}", facts, settings, len(queries))
    return LEFT_OUT if left_out else 0


def by_known(cfg: DictConfig) -> int:
    """Rank what is least like anything in another collection."""
    folder = Path(str(cfg.novel_to)).expanduser()
    if folder.exists() and folder.resolve() == Path(str(cfg.embeddings)).expanduser().resolve():
        raise AudiorepError(f"novel_to={folder}: is what is searched: novel=true compares a collection with itself")
    out, embedded = begin(cfg)
    with progress_bar("making the known rows") as progress:
        known = open_embedded(folder, None, progress, "novel_to")
    if known.fingerprint != embedded.fingerprint:
        raise AudiorepError(
            f"novel_to={folder}: made by {known.model}, embeddings={embedded.folder} by {embedded.model}: "
            "another model; embed both with one"
        )
    with progress_bar("comparing") as progress:
        novelty, alike = novel_to(embedded.rows, known.rows, progress)
    against = f"novelty: 1 less the cosine similarity to the nearest of {said_of(known)}"
    return ranked(cfg, out, embedded, known, novelty, alike, against, {"novel_to": str(folder)})


def by_rest(cfg: DictConfig) -> int:
    """Rank what is least like the rest of the collection."""
    out, embedded = begin(cfg)
    with progress_bar("comparing") as progress:
        novelty, alike = novel_within(
            embedded.rows, cfg.neighbour, cfg.sample, cfg.seed, apart(cfg, embedded), progress
        )
    drawn = min(cfg.sample or len(embedded.rows), len(embedded.rows))
    against = f"novelty: 1 less the cosine similarity to neighbour {cfg.neighbour} among {drawn} rows"
    settings = {"neighbour": cfg.neighbour, "sample": cfg.sample, "seed": cfg.seed}
    return ranked(cfg, out, embedded, embedded, novelty, alike, against, settings)


def ranked(
    cfg: DictConfig,
    out: Path,
    embedded: Embedded,
    others: Embedded,
    novelty: np.ndarray,
    alike: np.ndarray,
    against: str,
    settings: Mapping[str, Any],
) -> int:
    """Write the most novel rows; returns the exit status."""
    distinct_s = apart(cfg, embedded)
    found = most_novel(embedded.rows, novelty, alike, others.rows, cfg.top, distinct_s)
    with progress_bar("drawing") as progress:
        section = novel_section(found, "The most novel first", cfg.cards, progress)
    facts = [
        f"{counted(len(found), 'stretch', 'stretches')} of {said_of(embedded)}",
        f"{against[0].upper()}{against[1:]}.",
    ]
    facts += [one_a_stretch(distinct_s)] if distinct_s > 0.0 else []
    title = f"Novel in {embedded.folder.name}"
    finish(cfg, out, embedded, found, [section], title, facts, settings, 1)
    return 0


def begin(cfg: DictConfig) -> tuple[Path, Embedded]:
    """The folder to write to, and what is searched."""
    out = output_folder(cfg.out, overwrite=cfg.overwrite)
    remove(out, [HITS, PAGE, QUERIES, SETTINGS, QUARANTINE])  # of an earlier search
    with progress_bar("making the rows to search") as progress:
        return out, open_embedded(Path(str(cfg.embeddings)).expanduser(), cfg.index, progress)


def same_model(cfg: DictConfig, embedded: Embedded) -> Embedder:
    """The model that made the embeddings.

    Raises:
        AudiorepError: it is not there, or is another.
    """
    model = Path(str(cfg.model or embedded.model)).expanduser()
    if not model.exists():
        hint = "" if cfg.model else ", where it was when it made the embeddings; say model=... where it is now"
        raise AudiorepError(f"model={model}: no such file or folder{hint}")
    embedder = open_embedder(model, device_of(cfg.accelerator), embedded.sample_rate_hz)
    if fingerprint(model) != embedded.fingerprint:
        raise AudiorepError(
            f"model={model}: not the model that made the embeddings in {embedded.folder} ({embedded.model}), "
            "their directions have nothing to do with each other; name that one, or embed again with this one"
        )
    return embedder


def heard(
    queries: Sequence[Query], embedder: Embedder, hop_samples: int, windows: str
) -> tuple[list[Query], list[np.ndarray], list[Quarantined]]:
    """The queries that can be decoded, their vectors, and those that cannot, with the reasons.

    Raises:
        AudiorepError: none can.
    """
    kept, vectors, failed = list[Query](), list[np.ndarray](), list[Quarantined]()
    with progress_bar("embedding queries") as progress:
        for number, query in enumerate(queries, 1):
            try:
                vectors.append(embed_query(query, embedder, hop_samples, COMBINE[windows]))
                kept.append(query)
            except AudioError as error:
                failed.append(Quarantined(str(query.path), None, str(error).removeprefix(f"{query.path}: ")))
            progress(number, len(queries))
    if not kept:
        raise AudiorepError(f"no query can be decoded; the first: {failed[0].path}: {failed[0].reason}")
    return kept, vectors, failed


def finish(
    cfg: DictConfig,
    out: Path,
    embedded: Embedded,
    hits: pd.DataFrame,
    sections: Sequence[Section],
    title: str,
    facts: Sequence[str],
    settings: Mapping[str, Any],
    wanted: int,
) -> None:
    """Write the hits, the page and the settings.

    Args:
        wanted: sections that there would be if the page were as large as it takes.
    """
    shown = sum(len(section.cards) for section in sections)
    bound = [f"This page shows {shown} of {len(hits)} hits (cards={cfg.cards}); all are in {HITS}."]
    write(out / HITS, hits.drop(columns="row"))
    write_page(sections, title, [*facts, *bound], wanted - len(sections), out / PAGE)
    about = {"embeddings": str(embedded.folder), "fingerprint": embedded.fingerprint, "rows": len(embedded.rows)}
    about |= {"query": cfg.query and str(cfg.query), "top": cfg.top, "distinct_s": apart(cfg, embedded)}
    write_json(out / SETTINGS, about | dict(settings))
    log.info("wrote %s: %s; to look at and listen to: %s", out / HITS, counted(len(hits), "hit"), out / PAGE)


def write(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV."""
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")


def apart(cfg: DictConfig, embedded: Embedded) -> float:
    """`distinct_s`; by default rows that overlap are one stretch."""
    return embedded.window_s if cfg.distinct_s is None else float(cfg.distinct_s)


def check_numbers(cfg: DictConfig) -> None:
    """Refuse what is no number, or too small.

    Raises:
        AudiorepError: names the key.
    """
    for name, least in {**COUNTS, **dict.fromkeys(MEASURES, 0)}.items():
        kinds, what = (int, "a whole number") if name in COUNTS else ((int, float), "a number")
        value = cfg[name]
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, kinds) or not least <= value < math.inf
        ):
            raise AudiorepError(f"{name}={value}: {what} of at least {least} is needed")


def counted(count: int, one: str, many: str = "") -> str:
    """ "1 hit", "3 hits"."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def said_of(embedded: Embedded) -> str:
    """What was searched, in a few words."""
    hop_s = embedded.hop_samples / embedded.sample_rate_hz
    return f"{len(embedded.rows)} windows of {embedded.window_s:g} s, one every {hop_s:g} s, in {embedded.folder}"


def one_a_stretch(distinct_s: float) -> str:
    return f"Windows of a recording that begin less than {distinct_s:g} s apart count as one, the best of them."
