"""One recording, listened to from beginning to end."""

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt32

from audiorep.data.audio import AudioInfo, read, to_float
from audiorep.doctor.finding import Finding
from audiorep.doctor.fingerprint import hop_samples, words
from audiorep.errors import AudioError

BLOCK = 2**20
"""Samples decoded at a time, so that memory does not grow with the length of a recording."""

CLIPPED_SHARE, FULL_SCALE = 1e-3, 0.99996
SILENT = 10 ** (-90 / 20)
"""-90 dB full scale."""

ABOVE = 0.5
"""A recording of whose energy more than this part lies above what a model hears, is worth a word."""


@dataclass(frozen=True)
class Heard:
    """findings: of this recording alone. digest: of its samples. words, audible: its fingerprint."""

    findings: list[Finding]
    digest: str = ""
    words: UInt32[np.ndarray, " n"] = field(default_factory=lambda: np.empty(0, np.uint32))
    audible: Bool[np.ndarray, " n"] = field(default_factory=lambda: np.empty(0, bool))


def as_entry(heard: Heard) -> dict[str, Any]:
    """For a line of a journal; `from_entry` is the inverse."""
    arrays = {name: b64encode(getattr(heard, name).tobytes()).decode() for name in ("words", "audible")}
    return {"findings": [asdict(finding) for finding in heard.findings], "digest": heard.digest, **arrays}


def from_entry(entry: Mapping[str, Any]) -> Heard:
    """What `as_entry` wrote down."""
    word, audible = (np.frombuffer(b64decode(entry[n]), k) for n, k in (("words", np.uint32), ("audible", bool)))
    return Heard([Finding(**finding) for finding in entry["findings"]], entry["digest"], word, audible)


@dataclass
class Level:
    """Sums over the samples of one channel."""

    count: int = 0
    total: float = 0.0
    square: float = 0.0
    peak: float = 0.0
    clipped: int = 0
    first_clipped: int | None = None

    def add(self, wave: Float[np.ndarray, " t"], start: int) -> None:
        loud = np.abs(wave)
        full = np.flatnonzero(loud >= FULL_SCALE)
        if len(full) and self.first_clipped is None:
            self.first_clipped = start + int(full[0])
        self.count += len(wave)
        self.total += float(wave.sum())
        self.square += float(np.square(wave).sum())
        self.peak = max(self.peak, float(loud.max(initial=0.0)))
        self.clipped += len(full)

    @property
    def mean(self) -> float:
        return self.total / self.count

    @property
    def deviation(self) -> float:
        return float(np.sqrt(max(0.0, self.square / self.count - self.mean**2)))


def listen(path: str, info: AudioInfo, edges: Float[np.ndarray, " e"], model_rate_hz: int | None = None) -> Heard:
    """Decode to the end: corrupt, truncated, NaN, silent, constant, clipped, shifted from zero, channels dead or alike.

    Args:
        edges: of the fingerprint's bands, in Hz.
        model_rate_hz: of a model; where most energy lies above half of it, that is a finding.
    """
    levels = [Level() for _ in range(info.channels)]
    digest, parts = hashlib.sha256(f"{info.rate_hz} {info.channels}".encode()), []
    alike, above, energy = info.channels > 1, 0.0, 0.0
    left = np.empty(0, np.float32)
    try:
        for start in range(0, info.frames, BLOCK):
            count = min(BLOCK, info.frames - start)
            channels = [read(path, start, count, c + 1) for c in range(info.channels)]
            for level, samples in zip(levels, channels, strict=True):
                digest.update(samples.tobytes())
                level.add(to_float(samples).astype(np.float64), start)
            alike = alike and all(np.array_equal(channels[0], other) for other in channels[1:])
            mono = np.stack([to_float(samples) for samples in channels]).mean(0, dtype=np.float32)
            left = np.concatenate([left, mono])
            parts.append(words(left, info.rate_hz, edges))
            left = left[
                len(parts[-1][0]) * hop_samples(info.rate_hz) :
            ]  # from the last frame on: the next word needs it
            if model_rate_hz is not None and model_rate_hz < info.rate_hz:
                spectrum = np.square(np.abs(np.fft.rfft(mono - mono.mean())))
                above += float(spectrum[round(len(mono) * model_rate_hz / 2 / info.rate_hz) :].sum())
                energy += float(spectrum.sum())
    except AudioError as error:
        return Heard([Finding("error", "not decodable", path, str(error).removeprefix(f"{path}: "))])
    found = judge(path, info, levels, alike)
    if energy > 0.0 and above / energy > ABOVE:
        detail = f"{100 * above / energy:.0f} % of the energy lies above {model_rate_hz / 2:g} Hz"  # type: ignore[operator]
        found.append(Finding("warning", "energy above the model", path, detail))
    word = np.concatenate([w for w, _ in parts]) if parts else np.empty(0, np.uint32)
    audible = np.concatenate([h for _, h in parts]) if parts else np.empty(0, bool)
    return Heard(found, digest.hexdigest(), word, audible)


def judge(path: str, info: AudioInfo, levels: list[Level], alike: bool) -> list[Finding]:
    """What the sums say."""
    found = []
    dead = [level.deviation < SILENT for level in levels]
    floor = f"{20 * np.log10(SILENT):.0f} dB full scale"
    if all(dead):
        still = max(level.peak for level in levels) >= SILENT
        detail = f"every sample is {levels[0].mean:.3g}" if still else f"nothing above {floor}"
        return [Finding("warning", "constant" if still else "silent", path, detail)]
    if any(dead):
        named = ", ".join(str(c + 1) for c, one in enumerate(dead) if one)
        found.append(
            Finding("warning", "silent channel", path, f"channel {named} of {len(levels)}: nothing above {floor}")
        )
    elif alike:
        found.append(Finding("warning", "equal channels", path, f"its {len(levels)} channels hold the same samples"))
    worst = max(levels, key=lambda level: level.clipped)
    if worst.clipped > CLIPPED_SHARE * worst.count:
        first = None if worst.first_clipped is None else worst.first_clipped / info.rate_hz
        detail = f"{100 * worst.clipped / worst.count:.2g} % of the samples at full scale"
        found.append(Finding("warning", "clipped", path, detail, first))
    shifted = max((level for level in levels if level.deviation >= SILENT), key=lambda level: abs(level.mean))
    if abs(shifted.mean) > max(0.01, 0.5 * shifted.deviation):
        detail = f"mean {shifted.mean:.3g} at a deviation of {shifted.deviation:.3g}"
        found.append(Finding("warning", "DC offset", path, detail))
    return found
