"""The built-in demo corpus: clips with a manifest, recordings with selection tables, all made from a seed."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float
from numpy.random import Generator, SeedSequence, default_rng
from scipy import fft

from audiorep.data.synth.calls import CALLS
from audiorep.data.synth.signals import Loop, Signal, amplitude
from audiorep.data.synth.sites import SITES, Site, background, received, site_loops
from audiorep.data.synth.voices import Individual, draw_individuals
from audiorep.errors import AudiorepError
from audiorep.files import atomic, output_folder, write_text

CLIP_S = 1.0
RECORDING_S = 60.0
LABELLED_FRACTION = 0.4
DISTANCE_M = (10.0, 120.0)
SNR_DB = (-3.0, 25.0)
FIRST, DAYS, HOURS = datetime(2026, 5, 1, 4), 5, 8
"""When the recorders began; recordings of a site follow on so many days, then at the next of so many hours."""

CLIP_COLUMNS = ("path", "start_s", "end_s", "label", "group", "site", "recorder", "individual", "snr_db")
RAVEN_COLUMNS = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"),
    *("Low Freq (Hz)", "High Freq (Hz)", "Annotation"),
)

NOISE = "noise"
"""Label of the clips without a call, which `data.background` names."""
CLIPS_A_NOISE = 5
"""Clips of a call for one without any."""

# What a random stream is for. Its key is (seed, purpose, index): no file depends on how many there are.
VOICES, LOOPS, CLIPS, RECORDINGS, LABELS, NOISES = range(6)

README = """\
# Demo corpus

Synthetic animal calls; no animal was recorded. Made by `audiorep.data.demo` with
`minutes={minutes:g} seed={seed} sample_rate_hz={sample_rate_hz}`, which makes the same bytes again.

One imaginary species: {types} call types, {voices} individuals, {sites} sites, {recorders} makes of recorder.

- `clips.csv`: {clips} clips of one call each, {labelled} of them labelled; `group` is the site.
- `clips_all_labels.csv`: the same rows with every label.
- `noise.csv`: {noises} clips in which none of these calls is to be heard, labelled `noise`.
- `recordings/`: {recordings} longer recordings, each with a Raven selection table of all its calls.

`snr_db` is the call's power over the background's, within the call's own time and band (96 % of its energy).

| site | place | sounds of | recorder |
|---|---|---|---|
{site_rows}

Licence: synthetic and free for any use, CC0 1.0 (https://creativecommons.org/publicdomain/zero/1.0/).
"""


@dataclass(frozen=True)
class World:
    """What all files of a corpus share: the voices, and each site's background loops."""

    seed: int
    sample_rate_hz: int
    individuals: list[Individual]
    loops: list[list[Loop]]


@dataclass(frozen=True)
class Placed:
    """Where one call lies in a file: samples, the band of 96 % of its energy, level over the background."""

    start: int
    end: int
    low_hz: float
    high_hz: float
    snr_db: float


def generate_demo_corpus(
    out: Path,
    *,
    minutes: float = 20.0,
    seed: int = 0,
    sample_rate_hz: int = 16_000,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Fill the folder `out` with a corpus of synthetic animal calls; returns its manifest, `out/clips.csv`.

    Half of the minutes are clips of one call, half are recordings of about a minute. Some 40 % of the clips
    are labelled; from 2.4 minutes (72 clips) on, every call type at every site is among them. For five clips there
    is one more without a call, in a manifest of its own, `out/noise.csv`. The same seed makes the same bytes.
    `progress` is called with (files done, files in all).

    Raises:
        AudiorepError: an argument that cannot be meant, or a folder that holds something already.
    """
    refuse_nonsense(out, minutes, seed, sample_rate_hz)
    clip_count = max(1, round(30 * minutes / CLIP_S))
    noise_count = clip_count // CLIPS_A_NOISE
    recording_count = max(1, round(30 * minutes / RECORDING_S))
    total = clip_count + noise_count + recording_count
    duration_s = 30 * minutes / recording_count
    report = progress or (lambda done, total: None)

    output_folder(out)
    world = make_world(seed, sample_rate_hz)
    rows, noises = [], []
    for index in range(clip_count):
        rows.append(write_clip(out, world, index))
        report(index + 1, total)
    for index in range(noise_count):
        noises.append(write_noise(out, world, index))
        report(clip_count + index + 1, total)
    for index in range(recording_count):
        write_recording(out, world, index, duration_s)
        report(clip_count + noise_count + index + 1, total)

    labelled = labelled_clips(seed, clip_count)
    write_text(out / "README.md", describe(world, minutes, clip_count, len(labelled), noise_count, recording_count))
    write_table(out / "noise.csv", CLIP_COLUMNS, noises)
    write_table(out / "clips_all_labels.csv", CLIP_COLUMNS, rows)
    sparse = [row if index in labelled else row | {"label": ""} for index, row in enumerate(rows)]
    write_table(out / "clips.csv", CLIP_COLUMNS, sparse)
    return out / "clips.csv"


def refuse_nonsense(out: Path, minutes: float, seed: int, sample_rate_hz: int) -> None:
    """Raise AudiorepError for the first argument that cannot be meant."""
    if not 0 < minutes < float("inf"):
        raise AudiorepError(f"minutes={minutes}: the demo corpus needs a positive number of minutes")
    if seed < 0:
        raise AudiorepError(f"seed={seed}: a seed is a whole number from 0 on")
    if sample_rate_hz < 8000:
        raise AudiorepError(f"sample_rate_hz={sample_rate_hz}: the calls need 8000 Hz or more")
    if out.is_dir() and any(out.iterdir()):
        raise AudiorepError(f"out={out} is not empty: name a new folder for the demo corpus")


def random_stream(seed: int, purpose: int, index: int = 0) -> Generator:
    """The generator of one file or purpose, independent of all others."""
    return default_rng(SeedSequence([seed, purpose, index]))


def make_world(seed: int, sample_rate_hz: int) -> World:
    """Draw the voices and lay down every site's loops."""
    individuals = draw_individuals(random_stream(seed, VOICES))
    loops = [site_loops(random_stream(seed, LOOPS, index), site, sample_rate_hz) for index, site in enumerate(SITES)]
    return World(seed, sample_rate_hz, individuals, loops)


def residents(world: World, site_index: int) -> list[Individual]:
    """The three individuals that live at a site; a neighbouring site may share one of them."""
    first = 5 * site_index // 3
    return [world.individuals[(first + step) % len(world.individuals)] for step in range(3)]


def clip_cell(index: int) -> tuple[str, int]:
    """Call type and site of a clip: any 12 in a row hold every type, any 72 every type at every site."""
    turn, place = divmod(index, len(CALLS))
    return list(CALLS)[place], (turn + place) % len(SITES)


def labelled_clips(seed: int, clip_count: int) -> set[int]:
    """Which clips keep their label: the first 72, and so many of the others that 40 % do."""
    covering = min(clip_count, len(CALLS) * len(SITES))
    more = max(0, round(LABELLED_FRACTION * clip_count) - covering)
    others = np.arange(covering, clip_count)
    return {*range(covering), *random_stream(seed, LABELS).choice(others, more, replace=False).tolist()}


def place_call(
    rng: Generator,
    scene: Signal,
    quiet: Signal,
    call: Float[np.ndarray, " _"],
    start: int,
    site: Site,
    sample_rate_hz: int,
) -> Placed:
    """Add a call to `scene` in place, as loud over the `quiet` background as its distance makes it.

    SNR = 22 - 20 log10(distance / 10 m) + N(0, 3) dB, kept within `SNR_DB`: the power of the call over that
    of the background, both within the call's time and band.
    """
    end = start + len(call)
    distance_m = float(np.exp(rng.uniform(*np.log(DISTANCE_M))))
    snr_db = float(np.clip(22 - 20 * np.log10(distance_m / 10) + rng.normal(0, 3), *SNR_DB))
    heard = received(rng, call, site, sample_rate_hz, distance_m)[: len(scene) - start]

    length = fft.next_fast_len(len(call), real=True)
    hz = fft.rfftfreq(length, 1 / sample_rate_hz)
    call_power = np.abs(fft.rfft(heard[: len(call)], length)) ** 2
    edges = np.searchsorted(np.cumsum(call_power) / call_power.sum(), (0.02, 0.98))
    within = slice(edges[0], edges[1] + 1)
    taper = np.sqrt(8 / 3) * np.hanning(len(call))  # keeps the power, and rumble out of the bands above it
    quiet_power = np.abs(fft.rfft(taper * quiet[start:end], length)) ** 2

    gain = np.sqrt(quiet_power[within].sum() / call_power[within].sum()) * amplitude(snr_db)
    scene[start : start + len(heard)] += gain * heard
    return Placed(start, end, float(hz[edges[0]]), float(hz[edges[1]]), snr_db)


def write_clip(out: Path, world: World, index: int) -> dict[str, str]:
    """Write one clip, its call in the middle give or take 0.03 s; returns the manifest row."""
    rng, rate_hz = random_stream(world.seed, CLIPS, index), world.sample_rate_hz
    label, site_index = clip_cell(index)
    site, individual = SITES[site_index], residents(world, site_index)[rng.integers(3)]
    call = CALLS[label](rng, individual, rate_hz)
    quiet = background(rng, world.loops[site_index], round(CLIP_S * rate_hz))
    scene = quiet.copy()
    start = (len(scene) - len(call)) // 2 + round(rng.uniform(-0.03, 0.03) * rate_hz)
    placed = place_call(rng, scene, quiet, call, start, site, rate_hz)

    path = f"clips/{site.name}_{index:04d}.wav"
    write_wav(out / path, scene, rate_hz)
    return {
        "path": path,
        "start_s": f"{placed.start / rate_hz:.6f}",
        "end_s": f"{placed.end / rate_hz:.6f}",
        "label": label,
        "group": site.name,
        "site": site.name,
        "recorder": site.recorder.name,
        "individual": individual.name,
        "snr_db": f"{placed.snr_db:.2f}",
    }


def write_noise(out: Path, world: World, index: int) -> dict[str, str]:
    """Write one clip without a call, of one site after the other; returns the manifest row."""
    rng, rate_hz = random_stream(world.seed, NOISES, index), world.sample_rate_hz
    site_index = index % len(SITES)
    site = SITES[site_index]
    path = f"noise/{site.name}_{index:04d}.wav"
    write_wav(out / path, background(rng, world.loops[site_index], round(CLIP_S * rate_hz)), rate_hz)
    where = {"group": site.name, "site": site.name, "recorder": site.recorder.name}
    return {"path": path, "start_s": "0.000000", "end_s": f"{CLIP_S:.6f}", "label": NOISE} | where


def write_recording(out: Path, world: World, index: int, duration_s: float) -> None:
    """Write one recording and its selection table."""
    rng, rate_hz = random_stream(world.seed, RECORDINGS, index), world.sample_rate_hz
    site_index = index % len(SITES)
    site = SITES[site_index]
    quiet = background(rng, world.loops[site_index], round(duration_s * rate_hz))
    scene = quiet.copy()
    rows = []
    for number, (start, label, call) in enumerate(schedule(rng, world, site_index, len(scene)), 1):
        placed = place_call(rng, scene, quiet, call, start, site, rate_hz)
        times = (f"{placed.start / rate_hz:.6f}", f"{placed.end / rate_hz:.6f}")
        edges = (f"{placed.low_hz:.1f}", f"{placed.high_hz:.1f}")
        values = (str(number), "Spectrogram 1", "1", *times, *edges, label)
        rows.append(dict(zip(RAVEN_COLUMNS, values, strict=True)))
    turn = index // len(SITES)
    moment = FIRST + timedelta(days=turn % DAYS, hours=turn // DAYS % HOURS, minutes=10 * (turn // (DAYS * HOURS)))
    path = out / "recordings" / f"{site.name}_{moment:%Y%m%d_%H%M%S}.wav"
    write_wav(path, scene, rate_hz)
    write_table(path.with_suffix(".Table.1.selections.txt"), RAVEN_COLUMNS, rows, separator="\t")


def schedule(
    rng: Generator, world: World, site_index: int, count: int
) -> Iterator[tuple[int, str, Float[np.ndarray, " _"]]]:
    """Calls for `count` samples as (start, label, signal): repeats, overlapping answers, silences between."""
    rate_hz, voices, labels = world.sample_rate_hz, residents(world, site_index), list(CALLS)
    start = round(rng.uniform(0.2, 2.0) * rate_hz)
    voice, label = int(rng.integers(len(voices))), labels[rng.integers(len(labels))]
    while True:
        call = CALLS[label](rng, voices[voice], rate_hz)
        if start + len(call) > count:
            return
        yield start, label, call
        turn = rng.choice(["repeat", "answer", "silence"], p=[0.25, 0.25, 0.5])
        if turn == "repeat":
            start += len(call) + round(rng.uniform(0.2, 0.7) * rate_hz)
            continue
        if turn == "answer":
            start += round(rng.uniform(0.3, 0.8) * len(call))
        else:
            start += len(call) + round((0.4 + rng.exponential(4.0)) * rate_hz)
        voice = (voice + int(rng.integers(1, len(voices)))) % len(voices)
        label = labels[rng.integers(len(labels))]


def write_wav(path: Path, signal: Signal, sample_rate_hz: int) -> None:
    """Write mono 16-bit PCM; what passes full scale is clipped."""
    samples = np.round(np.clip(signal, -1, 1) * 32767).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate_hz, subtype="PCM_16", format="WAV")
    with atomic(path) as temporary:
        temporary.write_bytes(file.getbuffer())


def write_table(path: Path, columns: Iterable[str], rows: Iterable[dict[str, str]], separator: str = ",") -> None:
    """Write rows of text under a header."""
    file = io.StringIO()
    table = csv.DictWriter(file, list(columns), delimiter=separator, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(path, file.getvalue())


def describe(
    world: World, minutes: float, clip_count: int, labelled_count: int, noise_count: int, recording_count: int
) -> str:
    """The corpus's README."""
    return README.format(
        minutes=minutes,
        seed=world.seed,
        sample_rate_hz=world.sample_rate_hz,
        types=len(CALLS),
        voices=len(world.individuals),
        sites=len(SITES),
        recorders=len({site.recorder.name for site in SITES}),
        clips=clip_count,
        labelled=labelled_count,
        noises=noise_count,
        recordings=recording_count,
        site_rows="\n".join(
            f"| {site.name} | {site.place} | {', '.join(site.sources_db)} | {site.recorder.name} |" for site in SITES
        ),
    )
