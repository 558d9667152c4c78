"""Broken files: whatever stands in them, only our own error comes out, in one line, and nothing hangs."""

import importlib.resources
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from annotated import auto, wav

from audiorep.data.audio import probe, read
from audiorep.data.formats.audacity import Audacity
from audiorep.data.formats.audio_folder import AudioFolder
from audiorep.data.formats.birdnet import BirdNET
from audiorep.data.formats.crowsetta import Crowsetta
from audiorep.data.formats.esc50 import Esc50
from audiorep.data.formats.generic_seq import GenericSeq
from audiorep.data.formats.hoplite import Hoplite, base_paths, read_windows
from audiorep.data.formats.raven import Raven
from audiorep.data.formats.simple_seq import SimpleSeq
from audiorep.data.formats.table import Table
from audiorep.data.formats.writers import WRITERS
from audiorep.data.guano import parse_audiomoth, parse_guano, recorded, write_guano
from audiorep.data.manifest import read_corpus
from audiorep.errors import AudiorepError

CASES, LONG = 2_000, 100_000
"""Of all parsers together."""

NUMBERS = [
    "nan",
    "inf",
    "-inf",
    "1e999",
    "1e300",
    "-1",
    "0",
    "0x10",
    "1,5",
    "1_0",
    "None",
    "null",
    "true",
    "2147483648",
]
MARKS = [
    "",
    "\0",
    '"',
    "'",
    "\t",
    "\n",
    "\r",
    "\r\n",
    ",",
    ";",
    "|",
    "\\",
    "/",
    "{",
    "}",
    "\u2028",
    "\u0663",
    "../..",
    "a.wav/b",
]
NAMES = [
    "path",
    "label",
    "start_s",
    "end_s",
    "group",
    "time_expansion",
    "File Offset (s)",
    "Begin Path",
    "Begin Time (s)",
]
NAMES += ["file_name", "split", "a.wav", "data", "guan", "LIST", "RF64", "ds64", "fmt ", "TE: 10"]
LONG_ONES = ["9" * 400, "x" * 5000, "[" * 3000]
BYTES = [b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc3", b"\x00\x00\x00\x80", b"\xff\xff\xff\xff"]
TOKENS = [text.encode() for text in [*NUMBERS, *MARKS, *NAMES, *LONG_ONES]] + BYTES


def mutated(rng: random.Random, content: bytes) -> bytes:
    """A few bytes changed, cut out, put in, doubled, exchanged, or the end cut off."""
    out = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        i, j = sorted(rng.randrange(len(out) + 1) for _ in range(2))
        cells = [k for k, byte in enumerate(out[:4000]) if byte in b"\t,\n:;"]
        kind = rng.randrange(8)
        if kind == 0 and out:
            out[min(i, len(out) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[i : min(j, i + rng.randint(1, 30))]
        elif kind == 2:
            out[i:i] = rng.choice(TOKENS)
        elif kind == 3 and len(cells) > 1:
            k = rng.randrange(len(cells) - 1)
            out[cells[k] + 1 : cells[k + 1]] = rng.choice(TOKENS)
        elif kind == 4:
            out[i:i] = out[i : min(j, i + 200)]
        elif kind == 5:
            lines = bytes(out).split(b"\n")
            rng.shuffle(lines)
            out = bytearray(b"\n".join(lines))
        elif kind == 6 and out:
            out[min(i, len(out) - 1)] = rng.randrange(256)
        elif kind == 7 and rng.random() < 0.3:
            del out[i:]
    return bytes(out)


def corpus(folder: Path) -> tuple[Path, pd.DataFrame]:
    """A recording and three rows on it."""
    recording = wav(folder / "a.wav", 1.0, 1000)
    more = {
        "low_hz": [1.0, np.nan, 3.0],
        "high_hz": [10.0, np.nan, 30.0],
        "score": [0.5, 0.25, 1.0],
        "note": ["x", "", "y"],
    }
    more |= {"rate_hz": 1000, "scientific_name": "S", "recorded_at": "2020-01-01", "site": "A", "lat": 1.0, "lon": 2.0}
    rows = {
        "path": str(recording),
        "start_s": [0.1, 0.2, 0.5],
        "end_s": [0.3, 0.4, 0.9],
        "label": ["owl", "ähm", 'a "b"'],
    }
    return recording, pd.DataFrame(rows | more)


def annotations(writer: str, name: str, format: Callable) -> Callable[[Path], tuple[Path, Callable[[Path], object]]]:
    """A case: the file that is broken, and what is done with it."""

    def make(folder: Path) -> tuple[Path, Callable[[Path], object]]:
        _, frame = corpus(folder)
        files = WRITERS[writer](frame, folder / name)
        return files[0], lambda _: read_corpus(folder, format(), files[0])

    return make


def table(name: str) -> Callable[[Path], tuple[Path, Callable[[Path], object]]]:
    def make(folder: Path) -> tuple[Path, Callable[[Path], object]]:
        _, frame = corpus(folder)
        path = folder / name
        WRITERS["table"](frame.assign(time_expansion=1.0), path)
        return path, lambda path: read_corpus(path, Table())

    return make


def dataset(writer: str, file: str, format: Callable) -> Callable[[Path], tuple[Path, Callable[[Path], object]]]:
    def make(folder: Path) -> tuple[Path, Callable[[Path], object]]:
        _, frame = corpus(folder)
        WRITERS[writer](frame, folder / "out")
        if file.endswith("csv") and writer == "audio_folder":
            (folder / "out" / "metadata.jsonl").unlink()
            (folder / "out" / file).write_text(
                "file_name,label,note\na_100_300.wav,owl,x\na_200_400.wav,ähm,\n", encoding="utf-8"
            )
        return folder / "out" / file, lambda _: read_corpus(folder / "out", format())

    return make


def database(folder: Path) -> tuple[Path, Callable[[Path], object]]:
    _, frame = corpus(folder)
    WRITERS["hoplite"](frame, folder / "db")

    def use(path: Path) -> None:
        read_windows(path.parent)
        base_paths(path.parent)
        read_corpus(folder, Hoplite(), path.parent)

    return folder / "db" / "hoplite.sqlite", use


def sound(name: str) -> Callable[[Path], tuple[Path, Callable[[Path], object]]]:
    """A small recording; of a WAV file with GUANO."""

    def make(folder: Path) -> tuple[Path, Callable[[Path], object]]:
        path = folder / name
        soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 4000).clip(-1, 1), 8000)
        if name.endswith("wav"):
            write_guano(
                path,
                path,
                {"TE": "10", "Samplerate": "80000", "Timestamp": "2020-01-01T01:02:03Z", "Loc Position": "1 2"},
            )

        def use(path: Path) -> None:
            recorded(path)
            info = probe(path)
            read(path, info.frames - 50, 100)
            if name.endswith("wav"):
                write_guano(path, folder / "copy", {"TE": "1"})

        return path, use

    return make


def text(content: str, use: Callable[[str], object]) -> Callable[[Path], tuple[Path, Callable[[Path], object]]]:
    def make(folder: Path) -> tuple[Path, Callable[[Path], object]]:
        (folder / "text").write_text(content, encoding="utf-8")
        return folder / "text", lambda path: use(path.read_bytes().decode("utf-8", "replace"))

    return make


def textgrid(folder: Path) -> tuple[Path, Callable[[Path], object]]:
    """A file that crowsetta reads for us."""
    pytest.importorskip("crowsetta", reason="crowsetta is not installed (audiorep[crowsetta])")
    corpus(folder)
    shutil.copy(
        str(importlib.resources.files("crowsetta.examples").joinpath("AVO-maea-basic.TextGrid")), folder / "a.TextGrid"
    )
    return folder / "a.TextGrid", lambda _: read_corpus(folder, Crowsetta("textgrid"))


def anything(folder: Path) -> tuple[Path, Callable[[Path], object]]:
    """Whatever the file is taken for by format=auto."""
    _, frame = corpus(folder)
    path = folder / "a.txt"
    WRITERS["raven_together"](frame, path)
    formats = auto()
    return path, lambda _: read_corpus(folder, formats)


GUANO = "GUANO|Version: 1.0\nTE: 10\nLoc Position: 1 2\nNote: a\\nb\n"
AUDIOMOTH = "Recorded at 19:17:30 19/02/2019 (UTC+5:30) by AudioMoth 0FE081F80FE081F0 at gain setting 2 while battery "
AUDIOMOTH += "state was 3.8V and temperature was -1.5C."

PARSERS: dict[str, Callable[[Path], tuple[Path, Callable[[Path], object]]]] = {
    "auto": anything,
    "raven": annotations("raven", "", Raven),
    "raven_together": annotations("raven_together", "all.txt", Raven),
    "audacity": annotations("audacity", "", Audacity),
    "birdnet": annotations("birdnet", "B.txt", BirdNET),
    "birdnet_csv": annotations("birdnet_combined", "B.csv", BirdNET),
    "birdnet_parquet": annotations("birdnet_combined", "B.parquet", BirdNET),
    "birdnet_labels": annotations("birdnet_labels", "", BirdNET),
    "generic_seq": annotations("generic_seq", "g.csv", GenericSeq),
    "simple_seq": annotations("simple_seq", "", SimpleSeq),
    "table_csv": table("t.csv"),
    "table_parquet": table("t.parquet"),
    "esc50": dataset("esc50", "meta/esc50.csv", Esc50),
    "audio_folder_jsonl": dataset("audio_folder", "metadata.jsonl", AudioFolder),
    "audio_folder_csv": dataset("audio_folder", "metadata.csv", AudioFolder),
    "textgrid": textgrid,
    "hoplite": database,
    "wav": sound("a.wav"),
    "flac": sound("a.flac"),
    "ogg": sound("a.ogg"),
    "guano": text(GUANO, parse_guano),
    "audiomoth": text(AUDIOMOTH, parse_audiomoth),
}


def survives(name: str, folder: Path, cases: int, seed: int = 0) -> int:
    """Break a file so often; returns how often it was refused."""
    path, use = PARSERS[name](folder)
    whole, rng, refused = path.read_bytes(), random.Random(f"{name} {seed}"), 0
    use(path)
    for case in range(cases):
        content = mutated(rng, whole)
        path.write_bytes(content)
        try:
            use(path)
        except AudiorepError as error:
            refused += 1
            assert "\n" not in str(error), (case, str(error))
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise AssertionError(f"{name}: case {case}: {what}; the file: {content[:2000]!r}") from error
    return refused


@pytest.mark.parametrize("name", list(PARSERS))
def test_broken_files_are_read_or_refused_in_one_line(tmp_path, name):
    assert survives(name, tmp_path, CASES // len(PARSERS)) > 0 or name in ("guano", "audiomoth")


@pytest.mark.slow
@pytest.mark.timeout(6000)
@pytest.mark.parametrize("name", list(PARSERS))
def test_many_broken_files_are_read_or_refused_in_one_line(tmp_path, name):
    survives(name, tmp_path, LONG // len(PARSERS), seed=1)
