"""What the objective configs and their classes say about themselves, as rows of a table."""

import inspect
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_class
from omegaconf import DictConfig

from audiorep.composing import configs


@dataclass(frozen=True)
class Entry:
    """One objective: what its config says, and the parts that were read off it."""

    name: str
    what: str
    needs: str
    choose: str
    source: str
    target: str
    parts: str


def entries() -> list[Entry]:
    """Every config of `configs/objective`, by name."""
    return list(entries_in(configs().resolve()))


@cache
def entries_in(folder: Path) -> list[Entry]:
    """The same of another folder of configs; composing them all takes seconds."""
    names = sorted(path.stem for path in (folder / "objective").glob("*.yaml"))
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder), version_base="1.3"):
        return [entry(name, compose("pretrain", [f"objective={name}"], return_hydra_config=True)) for name in names]


def entry(name: str, cfg: Any) -> Entry:
    """The row of one composed config."""
    about = cfg.about
    return Entry(name, about.what, about.needs, about.choose, about.source, cfg.objective._target_, parts(cfg))


def parts(cfg: Any) -> str:
    """Encoder, views and all parts of the objective of a composed config, in words; not those that do nothing."""
    views = ", ".join(f"{branch.get('count', 1)} {name}" for name, branch in cfg.views.branches.items())
    found = {"encoder": cfg.hydra.runtime.choices.encoder, "views": views}
    for name, part in cfg.objective.items():
        kind = str(part.get("_target_", "")).rpartition(".")[2] if isinstance(part, DictConfig) else ""
        if kind not in ("", "Identity"):
            found[str(name)] = kind
    return "; ".join(f"{name} {value}" for name, value in found.items())


def markdown(rows: list[Entry]) -> str:
    """The table as Markdown, one section a class, with the class's formula from its docstring."""
    lines = [
        "# Objectives",
        "",
        "Made by `audiorep objectives out=docs/objectives.md` from `configs/objective/` and the classes' docstrings; a test",
        "keeps it current. Choose one with `audiorep pretrain objective=NAME`.",
    ]
    for target in dict.fromkeys(row.target for row in rows):
        doc = inspect.cleandoc(get_class(target).__doc__ or "")
        summary = doc.split("\n\nArgs:")[0].split("\n\nSource:")[0]
        lines += ["", f"## {target.rpartition('.')[2]}", "", summary, "", f"`{target}`", ""]
        lines += [
            "| objective | what | needs | choose it when or for | made of | source |",
            "|---|---|---|---|---|---|",
        ]
        for row in (row for row in rows if row.target == target):
            lines.append(
                f"| `{row.name}` | {row.what} | {row.needs} | {row.choose} | {row.parts} | {row.source} |".replace(
                    "\n", " "
                )
            )
    return "\n".join(lines) + "\n"
