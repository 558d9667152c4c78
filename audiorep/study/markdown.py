"""The tables of studies in Markdown: how each begins, its rows, and how numbers and differences are written."""

import re
from collections.abc import Sequence

import numpy as np


def opening(title: object, recipe: object) -> list[str]:
    """The heading of a table, and the command that wrote it."""
    return [f"# {title}", "", f"Written by `audiorep run {recipe}`; see README.md for what it says.", ""]


def row(cells: Sequence[str]) -> str:
    """One row of a table."""
    return "| " + " | ".join(cells) + " |"


def head(columns: Sequence[str]) -> list[str]:
    """The names of the columns, and the line below."""
    return [row(columns), "|---" * len(columns) + "|"]


def three(value: float) -> str:
    """Three digits, without a leading zero; "" for NaN."""
    return "" if np.isnan(value) else re.sub(r"^(-?)0\.", r"\1.", f"{value:.3f}")


def difference(value: float, low: float, high: float, *, bold: bool) -> str:
    """A difference with its interval; "" where that is not known."""
    text = "" if np.isnan(low) else f"{value:+.3f} ({low:+.3f} {high:+.3f})"
    return f"**{text}**" if text and bold else text
