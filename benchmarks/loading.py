"""Random windows of 5 s out of long recordings: ours as training gets them, beside what users write.

One thread, in this process; the recordings lie in the page cache. All but those that say so make batches of floats. The floor
is what nobody can do without: the bytes of a window from the file, and its numbers as floats, thrown away while they are in
the processor's cache.
"""

import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import soxr
import torch
from torch.utils.data import default_collate

from audiorep.cli import main
from audiorep.data.loader import source, to_device
from audiorep.data.manifest import scan
from audiorep.data.store import find_store
from audiorep.data.windows import Windows, WindowSpec
from benchmarks.harness import Case

RATE_HZ, LOWER_HZ, WINDOW_S, BATCH = 32000, 16000, 5.0, 64
HEADER_BYTES = 44
"""Of a WAV file as libsndfile writes it."""


def recordings(folder: Path, ending: str, files: int, minutes: float) -> list[str]:
    """Long recordings, more noise than anything: what FLAC halves at best."""
    folder.mkdir()
    count, paths = round(minutes * 60 * RATE_HZ), []
    for i in range(files):
        rng = np.random.default_rng(i)
        wave = 0.02 * rng.standard_normal(count, dtype=np.float32)
        wave += 0.1 * np.sin(np.cumsum(0.2 + 0.1 * np.sin(np.arange(count, dtype=np.float32) / 7000), dtype=np.float32))
        paths.append(str(folder / f"{i:02d}.{ending}"))
        soundfile.write(paths[-1], wave, RATE_HZ, subtype="PCM_16")
    return paths


def windows_of(paths: list[str], rate_hz: int, store: Path | None = None) -> Windows:
    """The windows of whole files, none of which stays in memory."""
    nan = float("nan")
    frame = pd.DataFrame({"path": paths, "start_s": nan, "end_s": nan, "label": "", "group": "g"})
    manifest = scan(frame)
    opened = None if store is None else find_store(Path(paths[0]).parent, str(store), paths)
    return Windows(manifest, WindowSpec(WINDOW_S), rate_hz, cache_bytes=0, store=opened)


Sides = dict[str, Any]
"""Name to (what is done with a reader, the recordings, the reader)."""


class Draws:
    """Batches of windows drawn at random, others each time it is asked."""

    def __init__(self, files: int, frames: int, count: int) -> None:
        self.files, self.frames, self.count, self.turn = files, frames, count, 0

    def items(self) -> Iterator[np.ndarray]:
        """As `audiorep.data.sampler.Shuffled` draws them."""
        self.turn += 1
        rng = np.random.default_rng(self.turn)
        for first in range(0, self.count, BATCH):
            unit = first + np.arange(BATCH)
            yield np.stack([rng.integers(0, self.files, BATCH), unit, np.ones_like(unit), unit * 0 + self.turn], 1)

    def places(self) -> Iterator[tuple[int, int]]:
        """File and first sample."""
        self.turn += 1
        rng = np.random.default_rng(self.turn)
        for _ in range(self.count):
            yield int(rng.integers(0, self.files)), int(rng.integers(0, self.frames - round(WINDOW_S * RATE_HZ)))


def ours(loaded: Any, draws: Draws) -> None:
    """What a training step is given by a loader in the same process."""
    for items in draws.items():
        to_device(loaded.__getitems__(items), torch.device("cpu"))


def batches(read: Callable[[str, int], np.ndarray], paths: list[str], draws: Draws) -> None:
    """A window after the other, and batches of them, as torch's loader makes them of a data set that returns arrays."""
    held: list[np.ndarray] = []
    for file, start in draws.places():
        held.append(read(paths[file], start))
        if len(held) == BATCH:
            default_collate(held)
            held = []


def alone(read: Callable[[str, int], np.ndarray], paths: list[str], draws: Draws) -> None:
    """A window after the other, each thrown away."""
    for file, start in draws.places():
        read(paths[file], start)


def by_soundfile(path: str, start: int) -> np.ndarray:
    """Open, seek, read."""
    with soundfile.SoundFile(path) as file:
        file.seek(start)
        return file.read(round(WINDOW_S * RATE_HZ), dtype="float32")


def by_soundfile_and_soxr(path: str, start: int) -> np.ndarray:
    """And to the lower rate."""
    return soxr.resample(by_soundfile(path, start), RATE_HZ, LOWER_HZ, quality="HQ")


def by_librosa(path: str, start: int, rate_hz: int | None = None) -> np.ndarray:
    """By its own function."""
    import librosa

    return librosa.load(path, sr=rate_hz, offset=start / RATE_HZ, duration=WINDOW_S, res_type="soxr_hq")[0]


def floor(path: str, start: int) -> np.ndarray:
    """The bytes and their floats, of a file that is known to be plain."""
    count = round(WINDOW_S * RATE_HZ)
    handle = os.open(path, os.O_RDONLY)
    try:
        samples = np.frombuffer(os.pread(handle, 2 * count, HEADER_BYTES + 2 * start), np.int16)
    finally:
        os.close(handle)
    return samples * np.float32(1 / 32768)


def pack(folder: Path, out: Path, *keys: str) -> Path:
    """By the command."""
    try:
        main(["pack", f"corpus={folder}", f"out={out}", *keys])
    except SystemExit as ended:
        if ended.code:
            raise
    return out


def installed(name: str, function: Callable[..., Any]) -> Callable[..., Any] | None:
    """The function, where its package is there."""
    return function if importlib.util.find_spec(name) else None


def cases(quick: bool) -> Iterator[Case]:
    """WAV, FLAC, packed FLAC, and each resampled."""
    files, minutes, count = (4, 1.0, 64) if quick else (16, 10.0, 256)
    frames = round(minutes * 60 * RATE_HZ)

    def case(what: str, windows: Windows, peers: Sides, count: int, beside: Sides | None = None, **goals: Any) -> Case:
        draws = Draws(files, frames, count)
        theirs, floors = (
            {name: read and partial(how, read, paths, draws) for name, (how, paths, read) in sides.items()}
            for sides in (peers, beside or {})
        )
        loaded = source(windows, workers=0)
        return Case(what, "windows", float(count), partial(ours, loaded, draws), theirs, beside=floors, **goals)

    with tempfile.TemporaryDirectory(prefix="audiorep-loading-") as name:
        folder = Path(name)
        wav, flac = (recordings(folder / ending, ending, files, minutes) for ending in ("wav", "flac"))
        own = pack(folder / "flac", folder / "own.store")
        lower = pack(folder / "flac", folder / "lower.store", f"rate_hz={LOWER_HZ}")
        slow = min(count, 64)

        def plain(paths: list[str]) -> dict[str, Any]:
            return {
                "soundfile": (batches, paths, by_soundfile),
                "librosa": (batches, paths, installed("librosa", by_librosa)),
                "soundfile, no batch": (alone, paths, by_soundfile),
            }

        def resampled(paths: list[str]) -> dict[str, Any]:
            return {
                "soundfile and soxr": (batches, paths, by_soundfile_and_soxr),
                "librosa": (batches, paths, installed("librosa", partial(by_librosa, rate_hz=LOWER_HZ))),
            }

        bytes_alone = {"floor: pread and scale, no batch": (alone, wav, floor)}
        yield case(
            "5 s out of WAV", windows_of(wav, RATE_HZ), plain(wav), count,
            least=4.0, stretch=6.0, against="soundfile", beside=bytes_alone,
        )  # fmt: skip
        yield case("5 s out of FLAC", windows_of(flac, RATE_HZ), plain(flac), slow)
        yield case(
            "5 s out of packed FLAC", windows_of(flac, RATE_HZ, own),
            plain(flac), slow, least=20.0, against="soundfile", beside=bytes_alone,
        )  # fmt: skip
        yield case("5 s out of WAV, 32 to 16 kHz", windows_of(wav, LOWER_HZ), resampled(wav), slow)
        yield case("5 s out of packed FLAC, 32 to 16 kHz", windows_of(flac, LOWER_HZ, own), resampled(flac), slow)
        yield case(
            "5 s out of FLAC packed at 16 kHz", windows_of(flac, LOWER_HZ, lower), resampled(flac), slow,
        )  # fmt: skip
