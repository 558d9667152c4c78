"""The comparison as a table: from the journal's entries to means over seeds, and to Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from audiorep.study.cells import Entry
from audiorep.study.markdown import difference, head, opening, three
from audiorep.study.markdown import row as row_text

YARDSTICK = "yardstick"
"""The objective name of the cells that give mel and random: one training step, of which nothing is used."""

NAMES = ("corpus", "track", "objective", "seed", "status", "labels_used")


def summarise(entries: Sequence[Entry], corpora: Mapping[str, Any]) -> pd.DataFrame:
    """A row for each corpus, track and objective, mel and random too: means over seeds, deviation of the score."""
    flat = []
    for entry in entries:
        shared = {name: entry[name] for name in NAMES if name in entry and name != "labels_used"}
        if entry["objective"] == YARDSTICK and entry["status"] == "done":
            for yardstick in ("mel", "random"):
                mine = {
                    k.removeprefix(f"{yardstick}/"): v for k, v in entry["metrics"].items() if k.startswith(yardstick)
                }
                flat.append({**shared, "objective": yardstick, **mine})
        elif entry["objective"] != YARDSTICK:
            against = {
                f"{name}{end}": value
                for name, three in entry.get("against", {}).items()
                for end, value in zip(("", "/low", "/high"), three, strict=True)
            }
            cost = {name: entry[name] for name in ("cpu_seconds", "labels_used") if name in entry}
            flat.append(
                {**shared, **entry.get("metrics", {}), **{f"against/{k}": v for k, v in against.items()}, **cost}
            )
    frame = pd.DataFrame(flat)
    if frame.empty:
        return frame
    rows = []
    for (name, track, objective), part in frame.groupby(["corpus", "track", "objective"], sort=False):
        done = part[part.status == "done"]
        score = str(corpora[str(name)].judge)
        means = done.drop(columns=list(NAMES), errors="ignore").mean()
        rows.append(
            {
                "corpus": name,
                "track": track,
                "objective": objective,
                "seeds": len(done),
                "status": "done" if len(done) else part.status.iloc[-1],
                "labels_used": bool(done["labels_used"].any()) if "labels_used" in done and len(done) else False,
                "score": means.get(score, np.nan),
                "score/deviation": done[score].std() if score in done and len(done) > 1 else np.nan,
                "beats_mel": int((done["against/mel/low"] > 0).sum()) if "against/mel/low" in done else 0,
                "beats_random": int((done["against/random/low"] > 0).sum()) if "against/random/low" in done else 0,
                **means.to_dict(),
            }
        )
    table = pd.DataFrame(rows).sort_values(["track", "score"], ascending=[True, False], kind="stable")
    order = list(corpora)
    return table.sort_values("corpus", key=lambda names: names.map(order.index), kind="stable")


def markdown(table: pd.DataFrame, corpora: Mapping[str, Any]) -> str:
    """A section a corpus, a table a track, best first."""
    lines = opening("Objectives compared", "ssl_comparison")
    for name in dict.fromkeys(table.corpus):
        corpus = corpora[name]
        columns = [str(corpus.judge), *(str(other) for other in corpus.beside)]
        lines += [f"## {name}", "", str(corpus.what), ""]
        for track, part in table[table.corpus == name].groupby("track", sort=False):
            shown = [f"`{column}`" for column in columns]
            names = ["objective", "seeds", *shown, "minus mel", "minus random", "RankMe", "CPU s"]
            lines += [f"### {track}", "", *head(names)]
            for _, row in part.iterrows():
                lines.append(line(row, columns))
            lines.append("")
    lines += [
        "Differences: mean over seeds, in brackets the 95 % interval of a paired bootstrap over groups (expanded percentile",
        "interval, as groups are few; ends averaged over seeds), bold where it lies above 0 for every seed. ±: standard",
        "deviation over seeds. *: trained with labels.",
    ]
    return "\n".join(lines) + "\n"


def line(row: pd.Series, columns: Sequence[str]) -> str:
    """One row of the Markdown table."""
    if row.status != "done":
        return f"| {row.objective} | {row.status} |" + " |" * (len(columns) + 4)
    cells = [three(row.get(column, np.nan)) for column in columns]
    if not np.isnan(row["score/deviation"]):
        cells[0] += f" ± {three(row['score/deviation'])}"
    for yardstick in ("mel", "random"):
        ends = (row.get(f"against/{yardstick}{end}", np.nan) for end in ("", "/low", "/high"))
        cells.append(difference(*ends, bold=row[f"beats_{yardstick}"] == row.seeds))
    cells += ["" if np.isnan(row.get(name, np.nan)) else f"{row[name]:.0f}" for name in ("rankme", "cpu_seconds")]
    return row_text([f"{row.objective}{'*' if row.labels_used else ''}", str(row.seeds), *cells])
