"""Rows as sound files of their own: a whole recording is copied, a stretch is cut out without touching its samples."""

import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from audiorep.data.audio import LOSSY, AudioInfo, probe
from audiorep.errors import AudioError
from audiorep.files import atomic, write_bytes


def write_clip(row: pd.Series, out: Path) -> Path:
    """Write one row as a file, `out` and the ending that fits: the recording's own for a whole recording, else WAV.

    All channels are kept. Samples keep their width; of lossy files they become 16 bit.

    Args:
        row: path, start_s and end_s (NaN: to the file's ends).

    Raises:
        AudioError: the recording cannot be read, or ends before the row begins.
    """
    path = Path(row["path"])
    info = probe(path, _number(row, "time_expansion"))
    first, last = samples_of(row, info)
    if (first, last) == (0, info.frames):
        target = out.with_name(f"{out.name}{path.suffix.lower()}")
        with atomic(target) as temporary:
            shutil.copyfile(path, temporary)
        return target
    try:
        with soundfile.SoundFile(str(path)) as file:
            subtype = "PCM_16" if file.subtype in LOSSY else file.subtype
            subtype = subtype if soundfile.check_format("WAV", subtype) else "PCM_24"
            file.seek(first)
            samples = file.read(last - first, dtype="float64", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise AudioError(f"{path}: cannot decode samples {first} to {last} ({error})") from error
    target = out.with_name(f"{out.name}.wav")
    memory = io.BytesIO()
    soundfile.write(
        memory, np.clip(samples, -1.0, 1.0) if "PCM" in subtype else samples, info.rate_hz, subtype, format="WAV"
    )
    write_bytes(target, memory.getbuffer())
    return target


def write_clips(
    frame: pd.DataFrame, out: Path, folders: Sequence[str], names: Sequence[str] | None = None
) -> list[Path]:
    """Write every row into its folder below `out`; clips of one name get a number.

    Args:
        names: of the clips, without ending; by default the recording's name, and for a stretch its times in ms.
    """
    written: list[Path] = []
    used: set[str] = set()
    for i in range(len(frame)):
        row = frame.iloc[i]
        name = names[i] if names is not None else name_of(row)
        place, count = f"{folders[i]}/{name}".casefold(), 1
        while (place if count == 1 else f"{place}_{count}") in used:
            count += 1
        used.add(place if count == 1 else f"{place}_{count}")
        written.append(write_clip(row, out / folders[i] / (name if count == 1 else f"{name}_{count}")))
    return written


def name_of(row: pd.Series) -> str:
    """The recording's name without ending; for a row with times, and these in ms."""
    stem = Path(row["path"]).stem
    times = [_number(row, name) for name in ("start_s", "end_s")]
    return f"{stem}_{'_'.join(str(round(time * 1000)) for time in times)}" if np.isfinite(times).all() else stem


def samples_of(row: pd.Series, info: AudioInfo) -> tuple[int, int]:
    """First sample of a row, and the one behind its last.

    Raises:
        AudioError: it does not lie in the file.
    """
    start, end = _number(row, "start_s"), _number(row, "end_s")
    first = round(start * info.rate_hz) if np.isfinite(start) else 0
    last = min(info.frames, round(end * info.rate_hz)) if np.isfinite(end) else info.frames
    if not 0 <= first < last:
        raise AudioError(f"{row['path']}: {start} to {end} s does not lie in the file ({info.duration_s:g} s)")
    return first, last


def _number(row: pd.Series, name: str) -> float:
    """A cell as a number; NaN where there is none."""
    try:
        return float(row[name])
    except (KeyError, TypeError, ValueError):
        return float("nan")
