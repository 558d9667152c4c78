"""The hits as one HTML file to look through and listen to, which needs no other file: pictures and sound lie in it."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from audiorep import html
from audiorep.apply.query import Query
from audiorep.apply.search import ITSELF, RECORDING
from audiorep.data.audio import probe
from audiorep.errors import AudioError
from audiorep.files import write_text
from audiorep.label.media import Stretch, sound, spectrogram_png

WIDTH, HEIGHT = 360, 128
LONGEST_S = 10.0
"""Of a stretch that is drawn and heard, its begin where it is longer."""

RATES_HZ = (8000, 32000)
"""Sample rates of the sound in the page: low enough for a page of many."""

FEWEST = 6
"""Hits of a query that are worth a section."""

ULTRASOUND_HZ, SLOWER = 150_000, 10.0
"""Recordings of at least this rate are heard ten times slower."""

OWN = {ITSELF: "overlaps the query itself", RECORDING: "from the query's own recording", "": ""}


@dataclass(frozen=True)
class Card:
    """A stretch to look at and to hear; `problem` says why it cannot be.

    low, high: where a band lies in the picture, in % from below; None where all of it counts.
    """

    heading: str
    name: str
    path: str
    span: str
    notes: tuple[str, ...]
    picture: str = ""
    sound: str = ""
    high_khz: float = 0.0
    slower: float = 1.0
    problem: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Section:
    """A query and its hits, as far as the page holds them; `query` is None where the collection itself was asked."""

    title: str
    query: Card | None
    cards: tuple[Card, ...]
    more: int


def card(
    heading: str, path: str, start_s: float, end_s: float, notes: Sequence[str] = (), query: Query | None = None
) -> Card:
    """Draw a stretch of a recording and take its sound; what cannot be read gets a card that says so."""
    shown_s = min(end_s - start_s, LONGEST_S)
    said = [*notes, *([f"its first {LONGEST_S:g} s"] if shown_s < end_s - start_s else [])]
    span = f"{clock(start_s)} to {clock(end_s)}"
    try:
        info = probe(path, None if query is None else query.info.time_expansion)
        start = round(start_s * info.rate_hz)
        count = min(round(shown_s * info.rate_hz), info.frames - start)
        if count < 1:
            raise AudioError(f"{path}: ends at {info.duration_s:.3f} s now: another file of that name?")
        stretch = Stretch(Path(path), start, count, info.rate_hz, None if query is None else query.channel)
        slower = SLOWER if info.rate_hz >= ULTRASOUND_HZ else 1.0
        picture = base64.b64encode(spectrogram_png(stretch, width=WIDTH, height=HEIGHT)).decode()
        heard = base64.b64encode(sound(stretch, slower, RATES_HZ, "FLAC")).decode()
    except AudioError as error:
        problem = str(error).removeprefix(f"{path}: ")
        return Card(heading, Path(path).name, path, span, tuple(said), problem=problem)
    nyquist = info.rate_hz / 2
    low, high = (None, None) if query is None else (query.low_hz, query.high_hz)
    banded = low is not None or high is not None
    return Card(
        heading, Path(path).name, path, span, tuple(said), picture, heard, nyquist / 1000, slower,
        low=100.0 * (low or 0.0) / nyquist if banded else None,
        high=100.0 * (high or nyquist) / nyquist if banded else None,
    )  # fmt: skip


def clock(seconds: float) -> str:
    """ "3.250 s", "1 h 02 min 03.250 s"."""
    minutes, s = divmod(round(seconds, 3), 60.0)
    hours, m = divmod(int(minutes), 60)
    if not minutes:
        return f"{s:.3f} s"
    return f"{hours} h {m:02d} min {s:06.3f} s" if hours else f"{m} min {s:06.3f} s"


def shares(hits: Sequence[int], cards: int) -> list[int]:
    """How many cards each query gets, of so many in all: an equal part, but `FEWEST` at least for as many as that reaches."""
    each, left, out = max(FEWEST, cards // max(1, len(hits))), cards, list[int]()
    for count in hits:
        out.append(min(each, count, left))
        left -= out[-1]
    return out


def query_sections(
    hits: pd.DataFrame,
    queries: Sequence[Query],
    cards: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Section]:
    """A section a query that gets a card, with its hits in order of rank.

    Args:
        hits: as `audiorep.apply.search.search` gives them.
        cards: hits that are shown in all.
    """
    groups = dict(iter(hits.groupby("query", sort=False)))
    mine = [groups.get(query.name, hits.iloc[:0]) for query in queries]
    counts = shares([len(part) for part in mine], cards)
    out, done = [], 0
    for query, part, count in zip(queries, mine, counts, strict=True):
        if not count and len(part):
            continue
        drawn = []
        for hit in part.iloc[:count].to_dict("records"):
            notes = [f"similarity {hit['similarity']:.3f}", *filter(None, [OWN[hit["own"]]])]
            drawn.append(card(str(hit["rank"]), hit["path"], hit["start_s"], hit["end_s"], notes))
            done += 1
            progress(done, sum(counts))
        asked = card("query", str(query.path), query.start_s, query.end_s, (), query)
        title = f"{query.label}: {query.name}" if query.label else query.name
        out.append(Section(title, asked, tuple(drawn), len(part) - len(drawn)))
    return out


def novel_section(
    found: pd.DataFrame, title: str, cards: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> Section:
    """The most novel rows, each with what it is most like.

    Args:
        found: as `audiorep.apply.novelty.most_novel` gives them.
    """
    drawn = []
    for row in found.iloc[:cards].to_dict("records"):
        like = f"most like {Path(row['like_path']).name} at {clock(row['like_start_s'])}"
        notes = [f"novelty {row['novelty']:.3f}", like]
        drawn.append(card(str(row["rank"]), row["path"], row["start_s"], row["end_s"], notes))
        progress(len(drawn), min(cards, len(found)))
    return Section(title, None, tuple(drawn), len(found) - len(drawn))


def write_page(sections: Sequence[Section], title: str, facts: Sequence[str], left: int, path: Path) -> None:
    """Write the page.

    Args:
        facts: sentences under the title.
        left: queries that have no section, as the page would grow too large.
    """
    text = html.render("audiorep.apply", "hits.html", title=title, facts=facts, sections=sections, left=left)
    write_text(path, text)
