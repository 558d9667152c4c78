"""The cells of a study on a grid: what is pretrained, and methods by label budgets by corpora, over folds and draws."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from audiorep.overrides import quoted, words
from audiorep.study.cells import Cell

PRETRAINED = "pretrained"
"""The method name of the cells that only make what others start from."""


@dataclass(frozen=True)
class Grid:
    """What a recipe says: corpora, methods, budgets; root: where the corpora are; folder: where everything goes."""

    cfg: DictConfig
    root: Path
    folder: Path
    journal: Path

    @property
    def scratch(self) -> Path:
        return self.folder / "runs"


def pretraining(grid: Grid) -> Iterator[Cell]:
    """What is pretrained on each fold of each corpus: the training side's recordings alone, without labels."""
    for name, corpus in grid.cfg.corpora.items():
        for kind, overrides in {**grid.cfg.pretraining, **corpus.get("pretraining", {})}.items():
            for fold in range(len(corpus.folds)):
                verb, given = verb_of(str(overrides))
                facts = {"corpus": name, "method": PRETRAINED, "kind": kind, "fold": fold}

                def command(
                    root: Path, given: Sequence[str] = given, corpus: Any = corpus, fold: int = fold
                ) -> list[str]:
                    return [
                        quoted(f"corpus={root / str(corpus.corpus)}"), *words(corpus.folds[fold]), *words(corpus.overrides),
                        *given, "evaluation.beside=[]", "logger=none",
                    ]  # fmt: skip

                yield Cell(f"{name},{kind},{fold}", verb, command(grid.root), facts, " ".join([verb, *command(Path())]))


def verb_of(text: str) -> tuple[str, list[str]]:
    """The verb and the overrides of ``"pretrain objective=swav ..."``, or of ``"run NAME key=value"``."""
    verb, *rest = text.split(" ", 1)
    if verb == "run":
        name, *rest = rest[0].split(" ", 1)
        return verb, [name, *words(rest[0] if rest else "")]
    return verb, words(rest[0] if rest else "")


def cells_of(grid: Grid) -> Iterator[Cell]:
    """Budget by budget, fold by fold, all methods on all corpora."""
    for name, corpus in grid.cfg.corpora.items():
        for place, (budget, folds) in enumerate(corpus.budgets.items()):
            methods = [(k, v) for k, v in grid.cfg.methods.items() if takes(v, str(budget), place)]
            for fold, seed, (method, settings) in product(folds, grid.cfg.draws, methods):
                yield cell(grid, str(name), corpus, str(budget), int(fold), int(seed), str(method), settings)


def labels_of(budget: str) -> list[str]:
    """What says how many labels may be known: ``all``, so many of a class, or a part of them (``5%``; of `train` alone)."""
    if budget == "all":
        return []
    return [f"label_fraction={float(budget[:-1]) / 100:g}" if budget.endswith("%") else f"labels_per_class={budget}"]


def takes(settings: Any, budget: str, place: int) -> bool:
    """Whether a method has cells with this budget, the `place`-th of its corpus: all, or what `budgets` names."""
    named = settings.get("budgets")
    return (named is None or budget in map(str, named)) and (place == 0 or not settings.get("first_budget_only"))


def cell(
    grid: Grid, name: str, corpus: Any, budget: str, fold: int, draw_seed: int, method: str, settings: Any
) -> Cell:
    """The command of one method with one budget on one fold."""
    verb, given = verb_of(str(settings.command))
    start = settings.get("starts_from")
    starts_from = f"{name},{start},{fold}" if start else None

    def command(root: Path, scratch: Path) -> list[str]:
        labels = [] if verb == "evaluate" else labels_of(budget)
        init = [quoted(f"{settings.get('starts_as', 'init')}={scratch / starts_from}")] if starts_from else []
        split = f"{corpus.folds[fold]} {corpus.overrides}"
        own = [quoted(f"train={split} {settings.get('train', '')}")] if verb == "run" else words(split)
        quiet = ["logger=none"] if verb == "train" else []
        head = given[:1] if verb == "run" else []
        rest = given[1:] if verb == "run" else given
        return [
            *head,
            quoted(f"corpus={root / str(corpus.corpus)}"),
            *own,
            *labels,
            *init,
            f"seed={draw_seed}",
            *rest,
            *quiet,
        ]

    facts = {
        "corpus": name, "method": method, "budget": budget, "fold": fold, "draw": draw_seed, "starts_from": starts_from,
        "protocol": settings.get("protocol", "classifier"),
    }  # fmt: skip
    return Cell(
        f"{name},{budget},{method},{fold},{draw_seed}",
        verb,
        command(grid.root, grid.scratch),
        facts,
        " ".join([verb, *command(Path(), Path())]),
    )
