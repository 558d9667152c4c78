"""The licences of what audiorep needs, as the installed packages say.

``python docs/makers/licences.py`` writes docs/licences.md.

The packages are those of pyproject.toml and all that they need in turn, without the extras for tests and benchmarks.
"""

import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from links import DOCS, ROOT
from packaging.requirements import Requirement

from audiorep.files import write_text

OURS = ("umap", "birdnet", "postgresql", "crowsetta", "hoplite", "ray", "slurm")
"""Extras that a user may install."""

LONG = 60
"""A licence field with more characters is the licence's text, not its name."""


def project() -> dict:
    """What pyproject.toml says of the project."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def canonical(name: str) -> str:
    """A package's name as all spellings of it come to."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(requirements: list[str]) -> dict[str, Distribution | None]:
    """All packages that requirements need, and those that these need, by name; None: not installed."""
    found: dict[str, Distribution | None] = {}
    left = [(Requirement(text), {""}) for text in requirements]
    while left:
        wanted, extras = left.pop()
        name = canonical(wanted.name)
        if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        if name in found and not wanted.extras:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            found[name] = None
            continue
        left += [(Requirement(text), {"", *wanted.extras}) for text in found[name].requires or []]
    return found


def licence(found: Distribution) -> str:
    """The name of a package's licence: its SPDX expression, its classifiers, or its licence field."""
    says = found.metadata
    if expression := says.get("License-Expression"):
        return expression
    named = [c.split(" :: ")[-1] for c in says.get_all("Classifier", []) if c.startswith("License :: ")]
    named = [name for name in named if name != "OSI Approved"]
    if named:
        return ", ".join(named)
    text = (says.get("License") or "").strip()
    return text if text and len(text) <= LONG and "\n" not in text else "see the package"


def page() -> str:
    """The page."""
    about = project()
    extras = [text for extra in OURS for text in about["optional-dependencies"][extra]]
    core, more = needed(about["dependencies"]), needed(extras)
    lines = [
        "# Licences of the dependencies",
        "",
        "Made by `python docs/makers/licences.py` from what the installed packages say of themselves; a test asks whether",
        "every dependency of `pyproject.toml` is in it. audiorep itself is BSD-3-Clause. Models have",
        "[licences](security.md#licences) of their own.",
        "",
        "## Needed",
        "",
        *rows(core),
        "",
        "## Needed by extras",
        "",
        *rows({name: found for name, found in more.items() if name not in core}),
    ]
    return "\n".join(lines) + "\n"


def rows(packages: dict[str, Distribution | None]) -> list[str]:
    """The rows of a table."""
    said = {
        name: licence(found) if found else "not installed here: see the package" for name, found in packages.items()
    }
    return ["| package | licence |", "|---|---|", *(f"| {name} | {said[name]} |" for name in sorted(said))]


if __name__ == "__main__":
    write_text(DOCS / "licences.md", page())
