"""What a sweep leaves: one line a run, with RankMe, which needs no labels, beside the scores."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from rich.markup import escape
from rich.table import Table

from audiorep.console import console
from audiorep.files import write_text

COLUMNS = (
    "rankme",
    "knn/accuracy",
    "knn/cmap",
    "linear@5/balanced_accuracy",
    "linear/balanced_accuracy",
    "linear/cmap",
)


def record(results: Mapping[str, Mapping[str, float]], folder: Path) -> None:
    """Write `sweep.csv` with the scores of all runs so far, and show them; the highest RankMe is marked.

    Among runs of one method the one with the highest RankMe (effective rank of the embeddings) is a choice that needs no
    label. Between methods it says little. Source: Garrido et al. 2023 (RankMe), arXiv:2210.02885, section 4.
    """
    frame = pd.DataFrame({name: dict(scores) for name, scores in results.items()}).T
    write_text(folder / "sweep.csv", frame.to_csv(index_label="run"))
    shown = [column for column in COLUMNS if column in frame and bool(frame[column].notna().any())]
    best = frame["rankme"].idxmax() if "rankme" in frame and bool(frame["rankme"].notna().any()) else None
    table = Table("run", *(escape(column) for column in shown), title=f"sweep so far, {folder / 'sweep.csv'}")
    for name, row in frame.iterrows():
        cells = [f"{row[column]:.3g}" for column in shown]
        table.add_row(escape(str(name)), *cells, style="bold" if name == best else None)
    console.print(table)
