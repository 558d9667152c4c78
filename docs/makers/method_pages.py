"""Tables of methods, strategies and encoders, from what their configs say about themselves."""

import re
from collections.abc import Iterable
from functools import cache

import yaml
from links import DOCS

from audiorep.catalogue import Entry, entries
from audiorep.composing import configs

METHODS = DOCS / "methods"

HEAD = "| {} | what | needs | choose it when or for | source |\n|---|---|---|---|---|\n"


@cache
def every() -> tuple[Entry, ...]:
    """All objectives; composing their configs takes some seconds."""
    return tuple(entries())


def row(*cells: str) -> str:
    """A row of a table."""
    return "| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in cells) + " |\n"


def objectives(*wanted: str) -> str:
    """The objectives of these names, or whose classes are in these modules of `audiorep.objectives`."""
    return table(entry for entry in every() if {entry.name, module(entry)} & set(wanted))


def others() -> str:
    """The objectives that no page of methods names."""
    named = {word for page in sorted(METHODS.glob("*.md")) for word in asked(page.read_text(encoding="utf-8"))}
    left = [entry for entry in every() if not {entry.name, module(entry)} & named]
    return f"Of no family yet:\n\n{table(left)}" if left else ""


def asked(text: str) -> list[str]:
    """The names and modules whose objectives a page shows."""
    return [word for words in re.findall(r"<!-- made: objectives ([\w ]+) -->", text) for word in words.split()]


def module(entry: Entry) -> str:
    """The module of an objective's class."""
    return entry.target.split(".")[-2]


def table(rows: Iterable[Entry]) -> str:
    """Objectives with what each needs and when to choose it."""
    lines = (row(f"`{entry.name}`", entry.what, entry.needs, entry.choose, entry.source) for entry in rows)
    return HEAD.format("`objective=`") + "".join(lines)


def selectors() -> str:
    """The strategies of active learning."""
    lines = []
    for path in sorted((configs() / "selector").glob("*.yaml")):
        about = yaml.safe_load(path.read_text(encoding="utf-8"))["about"]
        lines.append(row(f"`{path.stem}`", about["what"], about["needs"], about["choose"], about["source"]))
    return HEAD.format("`selector=`") + "".join(lines)
