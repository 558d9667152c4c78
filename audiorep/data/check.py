"""The corpus doctor: what is wrong with a corpus, row by row, before it costs a night."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from audiorep.data.audio import read, to_float
from audiorep.data.manifest import Manifest
from audiorep.errors import AudioError

BLOCK = 2**20
"""Samples decoded at a time, so that memory does not grow with the length of a recording."""

CLIPPED_SHARE = 1e-3
SILENT = 10 ** (-90 / 20)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. Errors make the row unusable, warnings are for a person to judge."""

    severity: Literal["error", "warning"]
    kind: str
    path: str
    detail: str


def check(manifest: Manifest, progress: Callable[[int, int], None] = lambda done, total: None) -> list[Finding]:
    """Everything found in a corpus: what the scan left out, every recording decoded to its end, the labels."""
    found = [Finding("error", "unusable", q.path, q.reason) for q in manifest.quarantined]
    paths = list(dict.fromkeys(manifest.frame["path"]))
    for done, path in enumerate(paths, 1):
        found += check_recording(path, manifest.files[path].frames)
        progress(done, len(paths))
    return found + list(check_rates(manifest)) + list(check_labels(manifest))


def check_recording(path: str, frames: int) -> list[Finding]:
    """Decode to the end: corrupt, truncated, NaN, silent, clipped, shifted from zero."""
    total, peak, clipped, square = 0.0, 0.0, 0, 0.0
    try:
        for start in range(0, frames, BLOCK):
            wave = to_float(read(path, start, min(BLOCK, frames - start))).astype(np.float64)
            total += float(wave.sum())
            square += float(np.square(wave).sum())
            peak = max(peak, float(np.abs(wave).max()))
            clipped += int((np.abs(wave) >= 0.99996).sum())
    except AudioError as error:
        return [Finding("error", "not decodable", path, str(error).removeprefix(f"{path}: "))]
    found = []
    mean, deviation = total / frames, np.sqrt(max(0.0, square / frames - (total / frames) ** 2))
    if peak < SILENT or deviation < SILENT:
        found.append(Finding("warning", "silent", path, f"nothing above {20 * np.log10(SILENT):.0f} dB full scale"))
    if clipped > CLIPPED_SHARE * frames:
        found.append(
            Finding("warning", "clipped", path, f"{100 * clipped / frames:.2g} % of the samples at full scale")
        )
    if abs(mean) > max(0.01, 0.5 * deviation) and deviation >= SILENT:
        found.append(Finding("warning", "DC offset", path, f"mean {mean:.3g} at a deviation of {deviation:.3g}"))
    return found


def check_rates(manifest: Manifest) -> Iterator[Finding]:
    """Recordings whose sample rate is not the usual one."""
    rates = Counter(info.rate_hz for info in manifest.files.values())
    usual = rates.most_common(1)[0][0]
    for rate, count in rates.items():
        if rate != usual:
            example = next(path for path, info in manifest.files.items() if info.rate_hz == rate)
            limit = min(rate, usual) / 2
            detail = f"{count} recording(s) at {rate} Hz, most are at {usual} Hz; above {limit:g} Hz they differ"
            yield Finding("warning", "mixed sample rates", example, detail)


def check_labels(manifest: Manifest) -> Iterator[Finding]:
    """Classes with one example, and rows that stand twice."""
    frame = manifest.frame
    for label, count in frame.loc[frame["label"] != "", "label"].value_counts().items():
        if count == 1:
            path = frame.loc[frame["label"] == label, "path"].iloc[0]
            yield Finding("warning", "single example", path, f"class '{label}' has one example: it cannot be tested")
    for _, row in frame[frame.duplicated(["path", "start_s", "end_s", "label"])].iterrows():
        yield Finding("warning", "duplicate row", row["path"], f"{row['start_s']:g} to {row['end_s']:g} s stands twice")


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
