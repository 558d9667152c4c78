"""The corpus doctor: what is wrong with a corpus, row by row, before it costs a night."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from audiorep.data.manifest import Manifest
from audiorep.doctor import corpus
from audiorep.doctor.finding import Finding
from audiorep.doctor.fingerprint import edges_hz
from audiorep.doctor.recording import Heard, as_entry, from_entry, listen
from audiorep.errors import AudiorepError
from audiorep.journal import Journal

log = logging.getLogger(__name__)


def examine(
    manifest: Manifest,
    progress: Callable[[int, int], None] = lambda done, total: None,
    model_rate_hz: int | None = None,
    multilabel: bool = False,
    journal: Path | None = None,
) -> list[Finding]:
    """Everything found in a corpus: what the scan left out, every recording decoded to its end, doubles, labels, splits.

    Args:
        model_rate_hz: sample rate of a model; recordings whose energy it cannot hear are named.
        multilabel: whether rows may share a sound.
        journal: what was heard of each recording is written there, and taken from there if it was.
    """
    found = [Finding("error", "unusable", q.path, q.reason) for q in manifest.quarantined]
    paths = list(dict.fromkeys(manifest.frame["path"]))
    edges = edges_hz(corpus.usual_rate(manifest))
    settings = {"edges_hz": edges.tolist(), "model_rate_hz": model_rate_hz}
    heard: list[Heard] = []
    with nullcontext() if journal is None else opened(journal, settings) as kept:
        for done, path in enumerate(paths, 1):
            entry = kept.done(Path(path)) if kept else None
            heard.append(from_entry(entry) if entry else listen(path, manifest.files[path], edges, model_rate_hz))
            if kept and not entry:
                kept.add(Path(path), "done", **as_entry(heard[-1]))
            progress(done, len(paths))
    found += [finding for one in heard for finding in one.findings]
    found += corpus.check_doubles(paths, heard, corpus.groups_of(manifest))
    found += corpus.check_formats(manifest)
    found += corpus.check_splits(manifest)
    found += corpus.check_labels(manifest, multilabel)
    found += corpus.check_confounding(manifest)
    return found


def opened(path: Path, settings: Mapping[str, Any]) -> Journal:
    """The journal of an earlier start; a new one where that listened with other settings."""
    try:
        return Journal(path, settings)
    except AudiorepError as error:
        log.info("%s; begun anew", error)
        path.unlink()
        return Journal(path, settings)


def as_json(manifest: Manifest, found: list[Finding]) -> dict[str, object]:
    """Findings with a summary."""
    kinds = Counter(f"{f.severity}: {f.kind}" for f in found)
    return {
        "rows": len(manifest),
        "recordings": len(manifest.files),
        "errors": sum(f.severity == "error" for f in found),
        "warnings": sum(f.severity == "warning" for f in found),
        "kinds": dict(kinds),
        "findings": [asdict(f) for f in found],
    }
