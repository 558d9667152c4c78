"""What a recorder wrote into its recording: GUANO 1.0, and the comment of AudioMoth, whose wording changes over the years."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pandas as pd
import soundfile

from audiorep.data.riff import as_text, read_chunk, read_info, write_chunk
from audiorep.errors import AudiorepError

CHUNK = b"guan"
VERSION = "GUANO|Version"
FASTEST, SLOWEST = 1.0, 1000.0
"""Time expansions that are believed."""

MOMENT = re.compile(
    r"(?P<time>\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)\s*,?\s*(?P<day>\d{1,2})[/.-](?P<month>\d{1,2})[/.-](?P<year>\d{4})"
    r"(?:\s*\(?\s*(?:UTC|GMT)\s*(?:(?P<sign>[+\-\u2212])\s*(?P<hours>\d{1,2})(?::?\s*(?P<minutes>\d{1,2}))?)?\s*\)?(?P<zone>))?"
)
"""Time, date and zone, of which older firmware tells nothing."""

DEVICE = re.compile(r"AudioMoth\s+([0-9A-F]{8,24})\b", re.IGNORECASE)
DEPLOYMENT = re.compile(r"deployment\s+([0-9A-F]{8,24})\b", re.IGNORECASE)
SAID = {
    "gain": re.compile(
        r"\bat\s+(?:gain\s+(?:setting\s+)?)?([a-z]+(?:-[a-z]+)?|\d)(?:\s+gain)?(?:\s+setting)?\s+while", re.IGNORECASE
    ),
    "battery_v": re.compile(
        r"battery\s+(?:state\s+|voltage\s+)?was\s+((?:less than|greater than|[<>])?\s*\d+(?:\.\d+)?)\s*V", re.IGNORECASE
    ),
    "temperature_c": re.compile(r"temperature\s+was\s+(-?\d+(?:\.\d+)?)\s*\u00b0?\s*C", re.IGNORECASE),
}


@dataclass(frozen=True)
class Recorded:
    """What is known of a recording; "" and None: not told.

    Times are ISO 8601, with their offset from UTC where it is told; lat and lon are degrees (WGS 84). `more` holds every key
    of GUANO as it stands, or what AudioMoth's comment tells: gain, battery_v, temperature_c.
    """

    recorded_at: str = ""
    lat: float | None = None
    lon: float | None = None
    make: str = ""
    model: str = ""
    serial: str = ""
    deployment: str = ""
    time_expansion: float = 1.0
    rate_hz: float | None = None
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def recorder(self) -> str:
        """Make and model; of an AudioMoth its number, which tells one from another."""
        name = " ".join(part for part in (self.make, self.model) if part)
        return f"AudioMoth {self.serial}" if self.serial and "audiomoth" in name.lower() else name


def parse_guano(text: str) -> dict[str, str]:
    """Keys (``NAMESPACE|Key``) and values as they stand; a line without a colon is left out, the last of a key holds."""
    pairs = (line.partition(":") for line in text.split("\n") if ":" in line)
    out = {key.strip(" \t\r\0"): value.strip(" \t\r\v\f\0") for key, _, value in pairs}
    return {key: value for key, value in out.items() if key}


def format_guano(items: Mapping[str, str]) -> bytes:
    r"""The chunk's content: the version first, a line a key, line breaks in values as ``\n``; of even length.

    Raises:
        AudiorepError: a key that is empty, or holds a colon or line break.
    """
    values = {VERSION: "1.0"} | {str(key): str(value) for key, value in items.items()}
    if bad := [key for key in values if not key.strip() or ":" in key or "\n" in key or "\r" in key]:
        raise AudiorepError(f"GUANO cannot hold the key {bad[0]!r}: it is empty, or holds a colon or line break")
    lines = (f"{key}: " + value.replace("\r\n", "\n").replace("\n", "\\n") for key, value in values.items())
    content = ("\n".join(lines) + "\n").encode("utf-8", "replace")
    return content + b" " * (len(content) % 2)


def read_guano(path: Path) -> dict[str, str]:
    """The GUANO of a WAV file; {} where there is none."""
    return parse_guano(as_text(read_chunk(path, CHUNK) or b""))


def write_guano(source: Path, out: Path, items: Mapping[str, str]) -> None:
    """A copy of a WAV file with this GUANO instead of its own; `out` may be `source`.

    Raises:
        AudiorepError: no WAV file, a key that GUANO cannot hold, or a disk that is full.
    """
    write_chunk(source, out, CHUNK, format_guano(items))


def parse_audiomoth(comment: str) -> Recorded | None:
    """What AudioMoth's comment tells, in any firmware's words; None where it is none."""
    if "audiomoth" not in comment.lower() and not DEPLOYMENT.search(comment):
        return None
    device, deployment = DEVICE.search(comment), DEPLOYMENT.search(comment)
    more = {name: found[1].strip() for name, pattern in SAID.items() if (found := pattern.search(comment))}
    return Recorded(
        recorded_at=_moment(comment),
        make="Open Acoustic Devices",
        model="AudioMoth",
        serial=device[1].upper() if device else "",
        deployment=deployment[1].upper() if deployment else "",
        more=more,
    )


def recorded(path: Path) -> Recorded:
    """What a recording tells of itself: GUANO before AudioMoth's comment. It never raises: what is corrupt tells nothing."""
    info = _tags(path)
    moth = parse_audiomoth(f"{info.get('ICMT', '')} {info.get('IART', '')}") or Recorded()
    items = read_guano(path)
    if not items:
        return moth
    lat, lon = _position(items.get("Loc Position", ""))
    return Recorded(
        recorded_at=_iso(items.get("Timestamp", "")) or moth.recorded_at,
        lat=lat,
        lon=lon,
        make=items.get("Make", "") or moth.make,
        model=items.get("Model", "") or moth.model,
        serial=items.get("Serial", "") or moth.serial,
        deployment=moth.deployment,
        time_expansion=_factor(items.get("TE", "")),
        rate_hz=_number(items.get("Samplerate", "")),
        more={**moth.more, **items, **({"Note": items["Note"].replace("\\n", "\n")} if "Note" in items else {})},
    )


def time_expansion(path: Path, rate_hz: int) -> float:
    """How many times a WAV file is slowed down, by its GUANO; 1 where that does not tell.

    A file whose header has the true rate of GUANO's `Samplerate` already is not slowed down, whatever `TE` says.

    Args:
        rate_hz: of the file's header.
    """
    items = read_guano(path)
    factor, true_hz = _factor(items.get("TE", "")), _number(items.get("Samplerate", ""))
    return 1.0 if factor != 1.0 and true_hz is not None and abs(true_hz - rate_hz) < 0.01 * rate_hz else factor


def add_recorded(frame: pd.DataFrame, told: Mapping[str, Recorded] | None = None) -> pd.DataFrame:
    """With the columns recorded_at, lat, lon and recorder, as far as any recording tells and the table does not yet.

    Args:
        frame: path, absolute; cells that are not empty stay as they are.
        told: what each path tells; None: it is read.
    """
    if told is None:
        told = {path: recorded(Path(path)) for path in dict.fromkeys(frame["path"])}
    for name in ("recorded_at", "lat", "lon", "recorder"):
        values = frame["path"].map({path: getattr(one, name) for path, one in told.items()})
        known = values.notna() & (values != "")
        if not known.any():
            continue
        own = frame[name].astype(object) if name in frame else pd.Series("", frame.index, dtype=object)
        merged = own.where(~blank(own), values.astype(object).where(known, ""))
        number = name in ("lat", "lon") and name not in frame
        frame = frame.assign(**{name: pd.to_numeric(merged, errors="coerce") if number else merged})
    return frame


def blank(cells: pd.Series) -> pd.Series:
    """Which cells hold nothing: missing, or white space."""
    return cells.isna() | (cells.astype(str).str.strip() == "")


def _tags(path: Path) -> dict[str, str]:
    """Comment and artist; also of FLAC and Ogg files that were made of AudioMoth's."""
    if info := read_info(path):
        return info
    try:
        with soundfile.SoundFile(str(path)) as file:
            tags = file.copy_metadata()
    except (soundfile.SoundFileError, RuntimeError, OSError, ValueError):
        return {}
    return {"ICMT": tags.get("comment", ""), "IART": tags.get("artist", "")}


def _moment(text: str) -> str:
    """Time and date in a text as ISO 8601; "" where there is none."""
    if (found := MOMENT.search(text)) is None:
        return ""
    clock = found["time"].replace(",", ".").split(":")
    second, _, part = (clock[2] if len(clock) > 2 else "0").partition(".")
    zone = None
    try:
        if found["zone"] is not None:
            ahead = timedelta(hours=int(found["hours"] or 0), minutes=int(found["minutes"] or 0))
            zone = timezone(ahead if found["sign"] == "+" else -ahead)
        year, month, day = (int(found[name]) for name in ("year", "month", "day"))
        hour, minute, micro = int(clock[0]), int(clock[1]), int(f"{part:0<6}"[:6])
        return datetime(year, month, day, hour, minute, int(second), micro, zone).isoformat()
    except ValueError:
        return ""


def _iso(text: str) -> str:
    try:
        return datetime.fromisoformat(text.strip()).isoformat()
    except ValueError:
        return ""


def _position(text: str) -> tuple[float | None, float | None]:
    parts = [_number(part) for part in text.replace(",", " ").split()]
    lat, lon = parts if len(parts) == 2 else (None, None)
    if lat is None or lon is None or abs(lat) > 90 or abs(lon) > 180:
        return None, None
    return lat, lon


def _number(text: str) -> float | None:
    try:
        return value if math.isfinite(value := float(text)) else None
    except ValueError:
        return None


def _factor(text: str) -> float:
    """A time expansion; 1 where it is none that can be believed."""
    return value if (value := _number(text)) is not None and FASTEST <= value <= SLOWEST else 1.0
