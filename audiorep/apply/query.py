"""What is searched for: whole recordings, stretches, boxes; cut, filtered and embedded as the collection was."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import signal

from audiorep.apply.embed import Embedder
from audiorep.apply.nearest import unit
from audiorep.data.audio import AudioInfo, is_audio, probe, read_resampled, to_float
from audiorep.data.formats.cells import number_of
from audiorep.data.manifest import PAST_END_TOLERANCE_S, Format, Quarantined, read_corpus
from audiorep.errors import AudiorepError

ORDER = 4
"""Of the Butterworth filter; run forwards and backwards it counts twice."""

RINGING = 4.0
LONGEST_MARGIN_S = 2.0
"""A filter is let ring for so many times one over its narrowest width, at most so long, before what it gives is used."""

BATCH = 64
"""Windows that are embedded at once."""


@dataclass(frozen=True)
class Box:
    """Where a query was drawn; None: from the beginning, to the end, without a lower or an upper edge."""

    start_s: float | None = None
    end_s: float | None = None
    low_hz: float | None = None
    high_hz: float | None = None


@dataclass(frozen=True)
class Query:
    """A stretch of a recording to search for.

    path: of the recording, absolute.
    channel: from 1; None: the mean of all.
    low_hz, high_hz: what lies outside is filtered away; None: nothing does.
    label: what its table says that it is.
    """

    name: str
    path: Path
    info: AudioInfo
    start_s: float
    end_s: float
    low_hz: float | None = None
    high_hz: float | None = None
    channel: int | None = None
    label: str = ""


def query_of(path: Path, box: Box = Box()) -> Query:
    """A recording, or a stretch or box of it.

    Raises:
        AudioError: the recording is not readable.
        AudiorepError: a box that ends before it begins, or that lies outside the recording.
    """
    info = probe(path)
    start, end = box.start_s or 0.0, info.duration_s if box.end_s is None else box.end_s
    if start < 0.0 or end <= start:
        raise AudiorepError(f"query={path}: {start:g} to {end:g} s is no stretch: start_s must come before end_s")
    if start >= info.duration_s or end > info.duration_s + PAST_END_TOLERANCE_S:
        raise AudiorepError(
            f"query={path}: {start:g} to {end:g} s lies outside the recording, which is {info.duration_s:g} s long"
        )
    low, high = band_of(path, box.low_hz, box.high_hz, info.rate_hz)
    return named(Query("", path.resolve(), info, start, min(end, info.duration_s), low, high))


def queries_of(
    source: Path, format: Format, recordings: Path | None = None, bands: bool = True
) -> tuple[list[Query], tuple[Quarantined, ...]]:
    """One query for each recording of a folder, or each row of a table of boxes in any format that `audiorep index` reads.

    Args:
        recordings: where the recordings are, if not beside the table.
        bands: filter by ``low_hz`` and ``high_hz`` where the table has them; False: its boxes are times alone.

    Returns:
        the queries, and what was left out, with the reasons.

    Raises:
        AudiorepError: nothing there that can be searched for.
    """
    manifest = read_corpus(recordings or source, format, None if recordings is None else source)
    frame = manifest.frame
    if not bands:
        frame = frame.drop(columns=["low_hz", "high_hz"], errors="ignore")
    edges = [number_of(frame, name) for name in ("low_hz", "high_hz", "channel")]
    queries = []
    for row, *box in zip(frame.itertuples(index=False), *edges, strict=True):
        info, path = manifest.files[row.path], Path(str(row.path))
        low, high, channel = (None if np.isnan(value) else float(value) for value in box)
        low, high = band_of(path, low, high, info.rate_hz)
        heard = Query(
            "", path, info, row.start_s, row.end_s, low, high, None if not channel else int(channel), row.label
        )
        queries.append(named(heard))
    return distinct_names(queries), manifest.quarantined


def open_queries(
    source: str | Path, format: Format, box: Box = Box(), recordings: str | Path | None = None, bands: bool = True
) -> tuple[list[Query], tuple[Quarantined, ...]]:
    """`query_of` for one recording, `queries_of` for anything else.

    Raises:
        AudiorepError: no such file or folder, a box for several queries, or nothing that can be searched for.
    """
    path = Path(source).expanduser()
    if not path.exists():
        raise AudiorepError(f"query={path}: no such file or folder")
    if path.is_file() and is_audio(path):
        return [query_of(path, box)], ()
    if box != Box():
        raise AudiorepError(
            f"query={path}: start_s, end_s, low_hz and high_hz go with one recording; in a table they are columns"
        )
    return queries_of(path.resolve(), format, None if recordings is None else Path(recordings), bands)


def band_of(path: Path, low_hz: float | None, high_hz: float | None, rate_hz: int) -> tuple[float | None, float | None]:
    """The edges that leave something out, of a recording at `rate_hz`.

    Raises:
        AudiorepError: no band, or one that the recording does not hold.
    """
    low = low_hz or None
    high = None if high_hz is None or high_hz >= rate_hz / 2 else high_hz
    if (low or 0.0) < 0.0 or (low or 0.0) >= (rate_hz / 2 if high is None else high):
        raise AudiorepError(
            f"query={path}: {low or 0.0:g} to {rate_hz / 2 if high_hz is None else high_hz:g} Hz is no band "
            f"of a recording at {rate_hz} Hz"
        )
    return low, high


def named(query: Query) -> Query:
    """With the name of its recording, and of its stretch and band where they are not all of it."""
    whole = query.start_s == 0.0 and query.end_s == query.info.duration_s
    stretch = "" if whole else f" {query.start_s:.3f}-{query.end_s:.3f} s"
    low, high = query.low_hz or 0.0, query.high_hz or query.info.rate_hz / 2
    band = "" if query.low_hz is None and query.high_hz is None else f" {low:g}-{high:g} Hz"
    return replace(query, name=f"{query.path.name}{stretch}{band}")


def distinct_names(queries: list[Query]) -> list[Query]:
    """Queries of one name are numbered from the second on."""
    seen, out = Counter[str](), []
    for query in queries:
        seen[query.name] += 1
        number = seen[query.name]
        out.append(query if number == 1 else replace(query, name=f"{query.name} #{number}"))
    return out


def window_starts(start: int, count: int, total: int, window: int, hop: int) -> Int[np.ndarray, " w"]:
    """First samples of the windows that a stretch is heard by, at the model's rate.

    A stretch longer than a window: from its first to its last window at even distances of `hop` at most, none reaching
    out of it. A shorter one: the window around its middle, moved so that it stays inside the recording where it fits,
    as the rows of a collection hear a call with what lies around it.
    """
    if count <= window:
        middle = start + count // 2 - window // 2
        return np.array([max(0, min(middle, total - window))])
    steps = -(-(count - window) // max(1, min(hop, window)))
    return np.rint(np.linspace(start, start + count - window, steps + 1)).astype(np.int64)


def query_windows(query: Query, embedder: Embedder, hop_samples: int) -> Iterator[Float[np.ndarray, "b t"]]:
    """The windows of a query [b t] in [-1, 1], some at a time.

    Raises:
        AudioError: the recording cannot be decoded.
        AudiorepError: its band lies above what the model hears.
    """
    rate, window, info = embedder.sample_rate_hz, embedder.window_samples, query.info
    edges = [round(seconds * rate) for seconds in (query.start_s, query.end_s)]
    starts = window_starts(
        edges[0], max(1, edges[1] - edges[0]), info.frames * rate // info.rate_hz, window, hop_samples
    )
    sos, margin = band_pass(query, rate)
    for i in range(0, len(starts), BATCH):
        chosen = starts[i : i + BATCH]
        first = int(chosen[0]) - margin
        count = int(chosen[-1]) - first + window + margin
        source = first * info.rate_hz // rate
        span = to_float(read_resampled(query.path, info.rate_hz, source, count, rate, query.channel))
        if sos is not None:
            span = signal.sosfiltfilt(sos, span.astype(np.float64)).astype(np.float32)
        yield np.stack([span[start - first : start - first + window] for start in chosen])


def band_pass(query: Query, rate_hz: int) -> tuple[Float[np.ndarray, "s 6"] | None, int]:
    """Second-order sections of a Butterworth filter of order 4 at `rate_hz`, to be run forwards and backwards (zero phase,
    6 dB down at the edges, 48 dB an octave), and the samples it needs on both sides; None where nothing is filtered away.

    Raises:
        AudiorepError: nothing of the band is below half the rate.
    """
    nyquist = rate_hz / 2
    low, high = query.low_hz, query.high_hz if query.high_hz is not None and query.high_hz < nyquist else None
    if low is not None and low >= nyquist:
        raise AudiorepError(
            f"query={query.path}: low_hz={low:g}: the model hears nothing above {nyquist:g} Hz, half its sample rate"
        )
    if low is None and high is None:
        return None, 0
    kind = "bandpass" if low is not None and high is not None else "highpass" if high is None else "lowpass"
    edges = [edge for edge in (low, high) if edge is not None]
    width = edges[-1] - edges[0] if len(edges) == 2 else edges[0]
    sos = signal.butter(ORDER, edges if len(edges) == 2 else edges[0], kind, fs=rate_hz, output="sos")
    return sos, max(64, round(min(RINGING / width, LONGEST_MARGIN_S) * rate_hz))


Combine = Callable[[Float[np.ndarray, "w d"]], Float[np.ndarray, "m d"]]


def mean_of(x: Float[np.ndarray, "w d"]) -> Float[np.ndarray, "1 d"]:
    """The direction of the mean of all windows: what they have in common."""
    return unit(x.mean(0, keepdims=True))


def each_of(x: Float[np.ndarray, "w d"]) -> Float[np.ndarray, "w d"]:
    """Every window by itself: a row is as similar to the query as to the window most like it."""
    return x


COMBINE: Mapping[str, Combine] = {"mean": mean_of, "best": each_of}
"""What is done with the windows of a query that is longer than one."""


def embed_query(
    query: Query, embedder: Embedder, hop_samples: int, combine: Combine = mean_of
) -> Float[np.ndarray, "m d"]:
    """What a query sounds like to the model: one or several vectors of length 1.

    Raises:
        AudioError: the recording cannot be decoded.
        AudiorepError: the model gives nothing that has a direction.
    """
    x = np.concatenate([embedder.run(waves) for waves in query_windows(query, embedder, hop_samples)])
    length = np.linalg.norm(x.astype(np.float64), axis=1)
    if not np.isfinite(length).all() or not (length > 0.0).all():
        raise AudiorepError(
            f"query={query.path}: the model gives no embedding of {query.name}: not finite, or all zero"
        )
    return combine(unit(x))


def table_of(queries: list[Query]) -> pd.DataFrame:
    """What was searched for, a row a query."""
    columns = ("name", "path", "start_s", "end_s", "low_hz", "high_hz", "channel", "label")
    rows = [{name: str(query.path) if name == "path" else vars(query)[name] for name in columns} for query in queries]
    return pd.DataFrame(rows, columns=list(columns))
