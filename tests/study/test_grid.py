"""The grid studies: their cells compose, a toy one runs from end to end, and goes on where it stopped."""

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest
from omegaconf import open_dict

from audiorep.composing import compose, recipes
from audiorep.errors import AudiorepError
from audiorep.evaluate.metrics import Predictions, balanced_accuracy
from audiorep.study.grid import check, study
from audiorep.study.grid_cells import Grid, cells_of, labels_of, pretraining
from audiorep.study.grid_table import by_size, difference

GRIDS = sorted(p.parent.name for p in recipes().glob("*/recipe.yaml") if "study.grid" in p.read_text(encoding="utf-8"))


def grid_of(name, tmp_path, *overrides):
    teacher = ["birdnet=a/folder"] if name == "distill" else []
    given = [f"data={tmp_path}", f"out={tmp_path / 'out'}", *teacher, *overrides]
    cfg = compose("run", given, recipes() / name / "recipe.yaml")
    return Grid(cfg, tmp_path, tmp_path / "out", tmp_path / "out" / "cells")


@pytest.mark.parametrize("name", GRIDS)
def test_every_command_of_a_study_is_one_that_the_verbs_take(name, tmp_path):
    grid = grid_of(name, tmp_path)
    cells = [*pretraining(grid), *cells_of(grid)]
    assert len({cell.name for cell in cells}) == len(cells)
    seen = {}
    for cell in cells:
        seen.setdefault((cell.facts["method"], cell.facts["corpus"]), cell)
    for cell in seen.values():
        assert str(tmp_path) not in cell.command
        if cell.verb == "run":
            made = compose("run", [*cell.overrides[1:], "out=x"], recipes() / cell.overrides[0] / "recipe.yaml")
        else:
            made = compose(cell.verb, [*cell.overrides, "out=x"])
        assert made.seed == cell.facts.get("draw", 0)


def test_a_method_of_the_first_budget_only_gets_no_cells_with_another(tmp_path):
    grid = grid_of("few_labels", tmp_path)
    few = {name for name, method in grid.cfg.methods.items() if method.get("first_budget_only")}
    assert few and few < set(grid.cfg.methods)
    found = {(name, method): set() for name, method in product(grid.cfg.corpora, grid.cfg.methods)}
    for cell in cells_of(grid):
        found[cell.facts["corpus"], cell.facts["method"]].add(cell.facts["budget"])
    for (name, method), budgets in found.items():
        first, *others = grid.cfg.corpora[name].budgets
        assert others and budgets == ({first} if method in few else {first, *others}), (name, method)


def test_a_method_gets_cells_with_the_budgets_that_it_names(tmp_path):
    cells = list(cells_of(grid_of("distill", tmp_path)))
    found = {m: {c.facts["budget"] for c in cells if c.facts["method"] == m} for m in ("birdnet", "birdnet_linear")}
    assert found == {"birdnet": {"all"}, "birdnet_linear": {"5"}}


def test_budgets_are_shown_from_the_smallest_on_and_all_labels_last():
    assert by_size(["5", "1", "10", "all", "2"]) == ["1", "2", "5", "10", "all"]
    assert by_size([50, 5]) == [5, 50] and by_size(["10%", "all", "1%"]) == ["1%", "10%", "all"]


def test_a_budget_is_a_number_a_class_or_a_part_of_all_labels():
    assert [labels_of(b) for b in ("all", "5", "5%")] == [[], ["labels_per_class=5"], ["label_fraction=0.05"]]


def test_a_study_on_toys_fills_every_cell_of_its_grid(toy_corpus, tmp_path):
    cfg = compose(
        "run", [f"data={toy_corpus.parent}", f"out={tmp_path / 'out'}"], recipes() / "few_labels" / "recipe.yaml"
    )
    toy = {
        "what": "Toys.",
        "corpus": toy_corpus.name,
        "overrides": "data.batch_size=16 trainer.max_steps=2",
        "folds": ["split.folds=3"],
        "budgets": {"2": [0], "all": [0]},
        "pretraining": {"ssl": "pretrain objective=simclr"},
    }
    chosen = ("scratch", "finetune")
    with open_dict(cfg):
        cfg.corpora, cfg.methods = {"toy": toy}, {name: cfg.methods[name] for name in chosen}
        cfg.methods.finetune["first_budget_only"] = True
    study(cfg)
    out = tmp_path / "out"
    entries = {p.stem: json.loads(p.read_text()) for p in (out / "cells").glob("*.json")}
    assert {e["status"] for e in entries.values()} == {"done"}, entries
    assert len(entries) == 1 + 2 + 1
    table = pd.read_csv(out / "table.csv")
    assert set(table.method) == {"mel, linear", *chosen}
    assert table[(table.method == "scratch")].difference.isna().all()
    fine = table[(table.method == "finetune") & (table.budget == "2")].iloc[0]
    assert fine.cells == 1 and fine.low <= fine.difference <= fine.high
    assert (out / "toy.png").exists() and "minus scratch" in (out / "table.md").read_text()
    times = {p: p.stat().st_mtime_ns for p in (out / "cells").glob("*")}
    study(cfg)
    assert times == {p: p.stat().st_mtime_ns for p in (out / "cells").glob("*")}
    with open_dict(cfg):  # what is done is shown from the journal alone, also where the pretrained encoder is not
        cfg.out, cfg.journal, cfg.hours = str(tmp_path / "elsewhere"), str(out / "cells"), 0
    study(cfg)
    assert (tmp_path / "elsewhere" / "table.csv").read_text() == (out / "table.csv").read_text()
    assert times == {p: p.stat().st_mtime_ns for p in (out / "cells").glob("*")}
    missing = next((out / "cells").glob("toy,2,finetune*.json"))
    missing.unlink()
    cfg.hours = None
    study(cfg)  # what is missing gets its encoder first
    assert missing.exists() and (tmp_path / "elsewhere" / "runs" / "toy,ssl,0" / "model.safetensors").exists()


def test_what_would_fail_after_the_first_cell_is_refused_before_it(tmp_path):
    with pytest.raises(AudiorepError, match="is not there: set data="):
        check(grid_of("few_labels", tmp_path))
    for corpus in ("fsdd", "finch_bird0", "esc10"):
        (tmp_path / corpus).mkdir()
        (tmp_path / corpus / "labels.csv").touch()
    check(grid_of("few_labels", tmp_path))
    with pytest.raises(AudiorepError, match="starts_from=other"):
        check(grid_of("few_labels", tmp_path, "methods.finetune.starts_from=other"))
    grid = grid_of("few_labels", tmp_path, "hours=0")
    with open_dict(grid.cfg):
        grid.cfg.methods = {"scratch": grid.cfg.methods.scratch}
    with pytest.raises(AudiorepError, match="no cell has ended"):
        study(grid.cfg)


def test_the_difference_is_paired_over_folds_and_means_over_draws():
    def said(right, fold, draw):
        truth = np.arange(60) % 3
        p = np.eye(3)[np.where(np.random.default_rng([fold, draw, 1]).random(60) < right, truth, (truth + 1) % 3)]
        return Predictions(truth, p, np.array([f"{fold}-{i // 6}" for i in range(60)]))

    ours, theirs = ({(f, d): said(right, f, d) for f in range(3) for d in range(2)} for right in (0.9, 0.5))
    found = difference(ours, theirs, balanced_accuracy)
    ones = np.ones((1, 60))
    by_hand = np.mean([balanced_accuracy(ours[k], ones)[0] - balanced_accuracy(theirs[k], ones)[0] for k in ours])
    assert found["difference"] == pytest.approx(by_hand, abs=0.02) and 0 < found["low"] < found["difference"]
    assert difference(ours, ours, balanced_accuracy) == {} and difference({}, theirs, balanced_accuracy) == {}


def test_folds_with_other_numbers_of_classes_are_judged_apart_and_averaged():
    def said(fold: int, classes: int, seed: int) -> Predictions:
        rng = np.random.default_rng([fold, seed])
        truth = np.arange(24) % classes
        return Predictions(
            truth, rng.random((24, classes)) + 0.7 * np.eye(classes)[truth] * seed, np.arange(24) + 100 * fold
        )

    ours, theirs = ({(fold, 0): said(fold, classes, seed) for fold, classes in enumerate((3, 4, 3))} for seed in (1, 0))
    found = difference(ours, theirs, balanced_accuracy)

    def score(given, *folds):
        parts = [given[fold, 0] for fold in folds]
        joined = Predictions(
            *(np.concatenate([getattr(p, name) for p in parts]) for name in ("truth", "score", "group"))
        )
        return balanced_accuracy(joined, np.ones((1, len(joined.truth))))[0]

    by_hand = (2 * (score(ours, 0, 2) - score(theirs, 0, 2)) + score(ours, 1) - score(theirs, 1)) / 3
    assert found["difference"] == pytest.approx(by_hand) and 0 < found["low"] < by_hand < found["high"]
    other = {(0, 0): said(0, 5, 1)}
    assert difference(ours, other, balanced_accuracy) == {}
