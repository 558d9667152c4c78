"""The findings as one HTML file with pictures, which needs no other file."""

import base64
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiorep import html
from audiorep.data.audio import AudioInfo
from audiorep.data.manifest import Manifest
from audiorep.doctor.finding import REMEDIES, Finding, rank
from audiorep.errors import AudioError
from audiorep.files import write_text
from audiorep.label.media import Stretch, spectrogram_png

SHOWN, PICTURES = 12, 3
"""Findings and pictures of a kind."""

SPAN_S = 5.0
"""So much of a recording is drawn."""


def write_page(manifest: Manifest, found: Sequence[Finding], name: str, path: Path) -> None:
    """A section a kind, errors first: what to do, pictures of the first recordings, the findings."""
    kinds: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in sorted(found, key=rank):
        kinds[finding.severity, finding.kind].append(finding)
    hours = sum(info.duration_s for info in manifest.files.values()) / 3600.0
    text = html.render(
        "audiorep.doctor",
        "check.html",
        name=name,
        rows=len(manifest),
        recordings=len(manifest.files),
        hours=f"{hours:.2f}",
        errors=sum(one.severity == "error" for one in found),
        warnings=sum(one.severity == "warning" for one in found),
        kinds=[section(manifest, severity, kind, own) for (severity, kind), own in kinds.items()],
    )
    write_text(path, text)


def section(manifest: Manifest, severity: str, kind: str, found: Sequence[Finding]) -> dict[str, Any]:
    """What the page shows of one kind."""
    pictures: list[dict[str, str]] = []
    for finding in found:
        drawn = picture(finding, manifest.files.get(finding.path)) if len(pictures) < PICTURES else None
        if drawn is not None:
            pictures.append(drawn)
    return {
        "severity": severity,
        "name": kind,
        "count": len(found),
        "remedy": REMEDIES.get(kind, ""),
        "pictures": pictures,
        "shown": [{"name": Path(one.path).name, "detail": one.detail} for one in found[:SHOWN]],
    }


def picture(finding: Finding, info: AudioInfo | None) -> dict[str, str] | None:
    """The stretch of a recording that a finding speaks of; None where nothing can be drawn."""
    if info is None:
        return None
    start = round(max(0.0, (finding.at_s or 0.0) - 0.2) * info.rate_hz)
    count = min(round(SPAN_S * info.rate_hz), info.frames - start)
    if count < 64:
        return None
    try:
        png = spectrogram_png(Stretch(Path(finding.path), start, count, info.rate_hz, None), width=480, height=160)
    except AudioError:
        return None
    span = f"{start / info.rate_hz:.1f} to {(start + count) / info.rate_hz:.1f} s"
    return {"name": Path(finding.path).name, "png": base64.b64encode(png).decode(), "span": span}
