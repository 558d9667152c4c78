"""How time and memory grow: with the rows of a manifest, with the length of a recording, with the number of workers.

    python -m benchmarks.scaling [quick=true] [out=FOLDER]

Every point is a process of its own, so that its memory is its own: the most that was held, less what the libraries held. No
peers: what is claimed is that embedding a day takes no more memory than an hour, and that rows cost little. Leaves
scaling.md, scaling.csv and scaling.png in benchmarks/results, of the short form in runs/bench.
"""

import csv
import io
import multiprocessing
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing.context import BaseContext
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from matplotlib.figure import Figure
from torch import nn

from audiorep.apply.bulk import process
from audiorep.apply.detect import Detector, Reporting
from audiorep.apply.embed import EMBEDDINGS, Embedder, embed_recording, embed_recordings
from audiorep.apply.local import Local
from audiorep.apply.scores import scorer_of
from audiorep.compress import Compress
from audiorep.console import console, progress_bar
from audiorep.data.audio import probe
from audiorep.data.loader import StepSampler, train_loader
from audiorep.data.manifest import Manifest
from audiorep.data.sampler import Shuffled
from audiorep.data.windows import Windows, WindowSpec
from audiorep.encoders.cnn import SmallCnn
from audiorep.errors import AudiorepError
from audiorep.files import write_bytes, write_text
from audiorep.frontend import Mel
from audiorep.model import Model, ModelInfo
from audiorep.rehearsal import duration, size
from benchmarks.harness import begin_peak, risen_since, said
from benchmarks.report import about

RATE_HZ, WINDOW_S = 16_000, 5.0
FILES, FILE_S = 8, 60
BATCH, BATCHES = 64, 8
CLASSES = ("a", "b", "c")

Steps = dict[str, float]
"""Seconds of each step of a piece of work."""


@dataclass(frozen=True)
class Point:
    """What a piece of work took at a size. extra_bytes: None where the system does not tell; note: why there is nothing."""

    what: str
    size: float
    seconds: Steps
    extra_bytes: int | None = None
    note: str = ""


def points(quick: bool, folder: Path) -> Iterator[Callable[[], Point]]:
    """All points, each to be measured when it is its turn."""
    wavs = recordings(folder)
    for count in (10**3, 10**5) if quick else (10**3, 10**4, 10**5, 10**6, 10**7):
        yield partial(alone, "rows", count, rows, wavs, count)
    for length_s in (60, 600) if quick else (60, 600, 3600, 6 * 3600, 24 * 3600):
        path = silence(folder / f"{length_s}.wav", length_s)
        yield partial(alone, "embed", length_s, embedded, path, folder / f"e{length_s}")
        yield partial(alone, "detect", length_s, detected, path, folder / f"d{length_s}")
    long = [silence(folder / f"part{i}.wav", 60 if quick else 1800) for i in range(4)]
    for workers in (1,) if quick else (1, 2):
        yield partial(alone, "workers, loading", workers, loaded, wavs, 10 if quick else 200, workers)
        yield partial(alone, "workers, embed", workers, embedded_by, long, folder / f"w{workers}", workers)


def recordings(folder: Path) -> list[Path]:
    """A few short recordings of noise."""
    paths = [folder / f"{i}.wav" for i in range(FILES)]
    for i, path in enumerate(paths):
        noise = 0.1 * np.random.default_rng(i).standard_normal(FILE_S * RATE_HZ)
        soundfile.write(path, noise.astype(np.float32), RATE_HZ, subtype="PCM_16")
    return paths


def silence(path: Path, length_s: int) -> Path:
    """A WAV of zeros that takes no room on the disk: a header, and a hole."""
    data = 2 * length_s * RATE_HZ
    head = (
        b"RIFF"
        + struct.pack("<I", 36 + data)
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
    )
    with path.open("wb") as file:
        file.write(head + b"data" + struct.pack("<I", data))
        file.truncate(44 + data)
    return path


def manifest_of(wavs: Sequence[Path], count: int) -> Manifest:
    """So many calls of 1 s, anywhere in a few recordings."""
    rng = np.random.default_rng(0)
    start_s = rng.uniform(0.0, FILE_S - 1.0, count)
    path = pd.Series([str(path) for path in wavs], dtype=object)[rng.integers(0, len(wavs), count)].reset_index(
        drop=True
    )
    frame = pd.DataFrame({"path": path, "start_s": start_s, "end_s": start_s + 1.0, "label": "", "group": path})
    return Manifest(frame, {str(path): probe(path) for path in wavs})


def rows(wavs: Sequence[Path], count: int) -> Steps:
    """A manifest to windows, to the first batches of an epoch."""
    clock = Clock()
    manifest = manifest_of(wavs, count)
    clock.lap("manifest")
    windows = Windows(manifest, WindowSpec(1.0), RATE_HZ)
    clock.lap("windows")
    sampler = StepSampler(Shuffled(windows), BATCH, 10**6, 0)
    batches = iter(train_loader(windows, sampler, 0))
    next(batches)
    clock.lap("first batch")
    for _ in range(BATCHES - 1):
        next(batches)
    clock.lap(f"{BATCHES - 1} more batches")
    return clock.laps


def loaded(wavs: Sequence[Path], count: int, workers: int) -> Steps:
    """So many batches by loader processes, once these have begun."""
    windows = Windows(manifest_of(wavs, count * BATCH), WindowSpec(1.0), RATE_HZ, cache_bytes=0)
    batches = iter(train_loader(windows, StepSampler(Shuffled(windows), BATCH, count, 0), workers))
    next(batches)
    clock = Clock()
    for _ in batches:
        continue
    clock.lap("batches")
    return clock.laps


def model() -> Model:
    torch.manual_seed(0)
    return Model(Mel(RATE_HZ, bands=32), Compress(), SmallCnn(8, 64), nn.Linear(64, len(CLASSES))).eval()


def embedder() -> Embedder:
    """An untrained model, small, so that reading counts too."""
    torch.set_num_threads(1)
    network = model()

    @torch.inference_mode()
    def run(waves: np.ndarray) -> np.ndarray:
        return np.asarray(network(torch.from_numpy(waves))[0])

    return Embedder(run, RATE_HZ, round(WINDOW_S * RATE_HZ), embedder)


def embedded(path: Path, out: Path) -> Steps:
    """A recording to Parquet, window by window."""
    clock, opened = Clock(), embedder()
    embed_recordings([path], opened, out, opened.window_samples, {})
    clock.lap("embed")
    return clock.laps


def embedded_by(paths: list[Path], out: Path, workers: int) -> Steps:
    """Several recordings, by so many processes; beginning these counts too."""
    clock, opened = Clock(), embedder()
    work = partial(embed_recording, embedder=opened, hop_samples=opened.window_samples, batch_size=BATCH)
    process(paths, work, out, {}, EMBEDDINGS, Local(workers))
    clock.lap("embed")
    return clock.laps


def detected(path: Path, out: Path) -> Steps:
    """The calls of a recording."""
    clock = Clock()
    scorer = scorer_of(model(), ModelInfo(RATE_HZ, WINDOW_S, classes=CLASSES), hop_s=WINDOW_S)
    process([path], Detector(scorer, Reporting(dict.fromkeys(CLASSES, 0.9))), out, {}, "detections.parquet")
    clock.lap("detect")
    return clock.laps


class Clock:
    """Seconds from one `lap` to the next, by name."""

    def __init__(self) -> None:
        self.laps: Steps = {}
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self.last = now - self.last, now


def alone(what: str, size: float, work: Callable[..., Steps], *given: object) -> Point:
    """A point, measured in a fresh process."""
    with ProcessPoolExecutor(1, fresh()) as pool:
        try:
            seconds, extra_bytes = pool.submit(measured, work, *given).result()
        except Exception as error:  # a process that was killed for its memory too
            return Point(what, size, {}, None, said(error))
    return Point(what, size, seconds, extra_bytes)


@cache
def fresh() -> BaseContext:
    """How to begin a process that has loaded the libraries and done nothing else: loaded once for all, where that can be."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["audiorep.apply.detect", "audiorep.data.loader", "benchmarks.report"])
    return context


def measured(work: Callable[..., Steps], *given: object) -> tuple[Steps, int | None]:
    """Seconds, and memory at most on top of that of the libraries. One thread."""
    torch.set_num_threads(1)
    held = begin_peak()
    seconds = work(*given)
    return seconds, None if held is None else risen_since(held)


def table(found: Sequence[Point], told: dict[str, str]) -> str:
    """Markdown."""
    lines = [f"- {name}: {value}" for name, value in told.items()]
    lines += ["", "One thread a process. Memory: of the first process, at most, less what the libraries hold.", ""]
    lines += ["| what | size | seconds | memory |", "|---|---|---|---|"]
    for point in found:
        steps = ", ".join(f"{name} {seconds:.3g}" for name, seconds in point.seconds.items())
        held = "" if point.extra_bytes is None else size(point.extra_bytes)
        lines.append(f"| {point.what} | {sized(point)} | {steps or point.note} | {held} |")
    return "\n".join([*lines, ""])


def sized(point: Point) -> str:
    """The size of a point, in words."""
    return duration(point.size) if point.what in ("embed", "detect") else f"{point.size:,.0f}"


def as_csv(found: Sequence[Point]) -> str:
    """A row for each step of each point."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["what", "size", "step", "seconds", "extra_bytes", "note"])
    for point in found:
        for step, seconds in (point.seconds or {"": float("nan")}).items():
            writer.writerow([point.what, point.size, step, f"{seconds:.4g}", point.extra_bytes, point.note])
    return text.getvalue()


def picture(found: Sequence[Point]) -> bytes:
    """PNG: seconds and memory over rows, and over the length of a recording; both axes logarithmic."""
    figure = Figure((8.0, 5.0), layout="constrained")
    axes = figure.subplots(2, 2)
    for column, (whats, label) in enumerate(((("rows",), "rows"), (("embed", "detect"), "length of the recording, h"))):
        for what in whats:
            chosen = [point for point in found if point.what == what and point.seconds]
            x = [point.size / (3600.0 if column else 1.0) for point in chosen]
            for step in chosen[0].seconds if chosen else ():
                axes[0, column].plot(x, [point.seconds[step] for point in chosen], marker="o", label=step)
            held = [np.nan if point.extra_bytes is None else point.extra_bytes / 1e6 for point in chosen]
            axes[1, column].plot(x, held, marker="o", label=what)
        for row, unit in enumerate(("s", "memory, MB")):
            axes[row, column].set(xscale="log", yscale="log", xlabel=label, ylabel=unit)
            axes[row, column].legend(fontsize=7)
    axes[1, 1].set_ylim(1.0, 1e4)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=80)
    return png.getvalue()


def main(given: Sequence[str]) -> int:
    asked = dict(text.partition("=")[::2] for text in given)
    if wrong := sorted(set(asked) - {"quick", "out"}):
        raise AudiorepError(f"{wrong[0]}: no such key; there are quick, out")
    quick = asked.get("quick") == "true"
    out = Path(asked.get("out") or (Path("runs/bench") if quick else Path(__file__).parent / "results"))
    told, found = about(" ".join(["python -m benchmarks.scaling", *given])), []
    with tempfile.TemporaryDirectory() as name, progress_bar("scaling") as show:
        todo = list(points(quick, Path(name)))
        for done, measure in enumerate(todo):
            show(done, len(todo))
            found.append(measure())
            console.print(table(found[-1:], {}).splitlines()[-1], highlight=False, markup=False)
            write_text(out / "scaling.md", table(found, told))
            write_text(out / "scaling.csv", as_csv(found))
    write_bytes(out / "scaling.png", picture(found))
    return int(any(point.note for point in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
