"""The corpus doctor: what is wrong with a corpus, row by row, before it costs a night."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict

from audiorep.data.manifest import Manifest
from audiorep.doctor import corpus
from audiorep.doctor.finding import Finding
from audiorep.doctor.fingerprint import edges_hz
from audiorep.doctor.recording import Heard, listen


def examine(
    manifest: Manifest,
    progress: Callable[[int, int], None] = lambda done, total: None,
    model_rate_hz: int | None = None,
    multilabel: bool = False,
) -> list[Finding]:
    """Everything found in a corpus: what the scan left out, every recording decoded to its end, doubles, labels, splits.

    Args:
        model_rate_hz: sample rate of a model; recordings whose energy it cannot hear are named.
        multilabel: whether rows may share a sound.
    """
    found = [Finding("error", "unusable", q.path, q.reason) for q in manifest.quarantined]
    paths = list(dict.fromkeys(manifest.frame["path"]))
    edges = edges_hz(corpus.usual_rate(manifest))
    heard: list[Heard] = []
    for done, path in enumerate(paths, 1):
        heard.append(listen(path, manifest.files[path], edges, model_rate_hz))
        progress(done, len(paths))
    found += [finding for one in heard for finding in one.findings]
    found += corpus.check_doubles(paths, heard, corpus.groups_of(manifest))
    found += corpus.check_formats(manifest)
    found += corpus.check_splits(manifest)
    found += corpus.check_labels(manifest, multilabel)
    found += corpus.check_confounding(manifest)
    return found


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
