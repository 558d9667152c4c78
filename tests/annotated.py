"""Small annotated corpora, and hypothesis' strategies for rows, that the tests of the formats share."""

from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from hydra.utils import instantiate
from hypothesis import strategies as st

from audiorep.composing import compose
from audiorep.data.manifest import Format, Manifest

RATE_HZ, SECONDS = 8000, 4.0
CORE = ["Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"]


def wav(path: Path, seconds: float = 2.0, rate_hz: int = RATE_HZ) -> Path:
    """A recording whose samples differ from each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.arange(round(seconds * rate_hz)) % 30011 - 15005
    soundfile.write(path, samples.astype(np.int16), rate_hz, subtype="PCM_16")
    return path


def auto() -> Format:
    """As `audiorep index` makes it."""
    return instantiate(compose("index", ["recordings=x", "out=x.csv"]).format)


def rows_of(manifest: Manifest) -> list[tuple[str, float, float, str]]:
    frame = manifest.frame
    return [
        (Path(path).name, start, end, label)
        for path, start, end, label in zip(frame["path"], frame["start_s"], frame["end_s"], frame["label"], strict=True)
    ]


def texts(min_size: int = 0, without: str = "") -> st.SearchStrategy[str]:
    """Cells of any script that a line of a table can hold, without white space at the ends."""
    letters = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters=without)
    return st.text(letters, min_size=min_size, max_size=12).map(str.strip).filter(lambda text: len(text) >= min_size)


def labels(without: str = "") -> st.SearchStrategy[str]:
    return texts(1, without)


def stretches(digits: int = 6) -> st.SearchStrategy[tuple[float, float]]:
    """Begin and end in s, to so many digits."""
    unit = 10**digits
    start = st.integers(0, int(SECONDS * unit) - 2)
    both = start.flatmap(lambda a: st.tuples(st.just(a), st.integers(a + 1, int(SECONDS * unit))))
    return both.map(lambda pair: (pair[0] / unit, pair[1] / unit))


def frames(
    paths: list[Path], label: st.SearchStrategy[str], digits: int = 6, **more: st.SearchStrategy
) -> st.SearchStrategy[pd.DataFrame]:
    """Rows on these recordings, in order of recording and begin; `more` are further columns."""
    row = st.fixed_dictionaries(
        {"path": st.sampled_from([str(p) for p in paths]), "span": stretches(digits), "label": label, **more}
    )
    columns = ["path", "start_s", "end_s", "label", *more]

    def table(rows: list[dict]) -> pd.DataFrame:
        cells = [[r["path"], *r["span"], r["label"], *(r[name] for name in more)] for r in rows]
        frame = pd.DataFrame(cells, columns=columns).astype(
            {"path": object, "start_s": float, "end_s": float, "label": object}
        )
        return frame.sort_values(["path", "start_s"], kind="stable").reset_index(drop=True)

    return st.lists(row, max_size=6).map(table)
