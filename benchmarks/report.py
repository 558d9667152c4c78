"""What benchmarks came to, as a table to read, a table to compute with, and a picture."""

import csv
import io
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import median

import matplotlib
import torch
from matplotlib.figure import Figure

from audiorep.files import write_bytes, write_text
from audiorep.rehearsal import size
from benchmarks.harness import OURS, Result, Times

TABLE, ROWS, FIGURE = "table.md", "table.csv", "figure.png"
COLUMNS = "work | audiorep | peer | | times as fast (range) | asked | hoped for | memory, ours and peer's"
FIELDS = (
    "module work unit amount threads side rounds median_s core_s units_per_s ratio ratio_low ratio_high ratio_of_cores"
    " least stretch extra_bytes note"
)
INTRODUCTION = (
    "Medians; the ratio is the median over rounds, with the least and the largest. Memory is what was held at most on top of"
    " what was held before. One thread unless said."
)


def about(command: str) -> dict[str, str]:
    """Where and how it was measured."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cpu = named[0] if named else platform.processor() or platform.machine()
    gpu = f", {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else ""
    return {
        "machine": f"{cpu}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}{gpu}",
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "command": command,
    }


def write(results: Sequence[Result], out: Path, told: Mapping[str, str]) -> None:
    """`TABLE`, `ROWS` and `FIGURE` into a folder."""
    write_text(out / TABLE, table(results, told))
    write_text(out / ROWS, rows(results))
    shown = [(result, peer) for result in results for peer in compared(result)]
    if shown:
        write_bytes(out / FIGURE, picture(shown))


def compared(result: Result) -> list[str]:
    """The peers that were timed; what stands `beside` is none."""
    timed = [name for name, times in result.sides.items() if times.seconds and not result.failed]
    return [name for name in timed if name != OURS and name not in result.beside]


def number(x: float) -> str:
    """Three digits, with commas: 15,200; 827; 1.04."""
    return f"{float(f'{x:.3g}'):,.10g}" if x < 1e15 else f"{x:.3g}"


def table(results: Sequence[Result], told: Mapping[str, str]) -> str:
    """Markdown: a line for each peer of each case."""
    lines = [f"- {name}: {value}" for name, value in told.items()]
    lines += ["", INTRODUCTION, "", f"| {COLUMNS} |", "|---" * 8 + "|"]
    for result in results:
        lines += [f"| {' | '.join(cells)} |" for cells in cells_of(result)]
    return "\n".join(lines) + "\n"


def cells_of(result: Result) -> list[list[str]]:
    """The lines of a case, cell by cell."""
    work = work_of(result)
    if result.failed:
        return [[work, result.failed, *[""] * 6]]
    ours = f"{number(result.per_s(OURS))} {result.unit}/s"
    lines = []
    for peer, times in list(result.sides.items())[1:]:
        if times.note:
            lines.append([work, ours, peer, times.note, *[""] * 4])
            continue
        ratios, (least, stretch) = result.ratios(peer), result.asked(peer)
        reached = "" if least is None else " yes" if median(ratios) >= least else " **no**"
        lines.append(
            [
                work,
                ours,
                f"*{peer}*" if peer in result.beside else peer,
                f"{number(result.per_s(peer))} {result.unit}/s",
                f"{number(median(ratios))} ({number(min(ratios))} to {number(max(ratios))})",
                "" if least is None else f"{least:g}:{reached}",
                "" if stretch is None else f"{stretch:g}",
                f"{memory(result.sides[OURS])} and {memory(times)}",
            ]
        )
    return lines or [[work, ours, *[""] * 6]]


def work_of(result: Result) -> str:
    """The work, and on how many threads."""
    return result.work + (f" ({result.threads} threads)" if result.threads > 1 else "")


def memory(times: Times) -> str:
    return "?" if times.extra_bytes is None else size(times.extra_bytes)


def rows(results: Sequence[Result]) -> str:
    """CSV: a row for each side of each case."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS.split())
    for result in results:
        for name, times in result.sides.items():
            row: list[object] = [result.module, result.work, result.unit, result.amount, result.threads]
            row += [name, len(times.seconds)]
            note = times.note or result.failed
            if note or not times.seconds:
                writer.writerow([*row, *[""] * 10, note])
                continue
            ratios, cores = result.ratios(name), result.ratios(name, cores=True)
            figures = [times.median_s, median(times.core_s), result.per_s(name)]
            figures += [median(ratios), min(ratios), max(ratios), median(cores)]
            asked = result.asked(name) if name != OURS else (None, None)
            writer.writerow([*row, *(f"{x:.4g}" for x in figures), *asked, times.extra_bytes, ""])
    return text.getvalue()


def picture(shown: Sequence[tuple[Result, str]]) -> bytes:
    """PNG: how many times as fast, on a log axis; what is asked as a line, what is hoped for as a dotted one."""
    matplotlib.use("agg")
    figure = Figure((8.0, 1.0 + 0.3 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for y, (result, peer) in enumerate(shown):
        ratios, (least, stretch) = result.ratios(peer), result.asked(peer)
        middle = median(ratios)
        short = least is not None and middle < least
        axes.barh(y, middle, 0.6, color="#c0504d" if short else "#4f81bd")
        axes.plot([min(ratios), max(ratios)], [y, y], color="black", linewidth=1)
        for mark, style in ((least, "-"), (stretch, ":")):
            if mark is not None:
                axes.plot([mark, mark], [y - 0.42, y + 0.42], color="black", linewidth=2, linestyle=style)
        axes.annotate(
            f"  {number(middle)}", (max(middle, *ratios, least or 0.0, stretch or 0.0), y), va="center", fontsize=7
        )
    axes.set_yticks(range(len(shown)), [f"{work_of(result)}: {peer}" for result, peer in shown], fontsize=7)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.axvline(1.0, color="grey", linewidth=1)
    axes.set_xlabel("times as fast as the peer")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=100)
    return png.getvalue()
