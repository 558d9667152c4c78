"""The comparison from end to end on a toy corpus: cells, yardsticks, differences, table, picture, and going on."""

import numpy as np
import pytest
from omegaconf import OmegaConf

from audiorep.cli import main
from audiorep.composing import compose, recipes
from audiorep.errors import AudiorepError
from audiorep.evaluate.metrics import Predictions, balanced_accuracy, paired_difference
from audiorep.study.cells import read_journal
from audiorep.study.comparison import Study, cells_of, compare, difference
from audiorep.study.markdown import three

OBJECTIVES = {path.stem for path in (recipes().parent / "configs" / "objective").glob("*.yaml")}


def recipe(*overrides):
    return compose("run", list(overrides), recipes() / "ssl_comparison" / "recipe.yaml")


OTHER_STUDIES = {
    f"audiorep.objectives.{name}" for name in ("semi", "mixmatch", "peers", "self_distill", "distill", "frames")
}
"""Modules of objectives that train a classifier with few labels, from a teacher, or of every moment, which this study does
not compare."""


def module_of(name: str) -> str:
    """Where the class of an objective is defined, looked for in its config and in those that it builds on."""
    cfg = OmegaConf.load(recipes().parent / "configs" / "objective" / f"{name}.yaml")
    target = OmegaConf.select(cfg, "objective._target_")
    if target is not None:
        return target.rpartition(".")[0]
    bases = [entry for entry in cfg.defaults if isinstance(entry, str) and entry != "_self_"]
    (found,) = {module_of(base) for base in bases}
    return found


def of_another_study(name: str) -> bool:
    return name in ("weak_labels", "domain_adversarial_supervised") or module_of(name) in OTHER_STUDIES


def test_the_recipe_names_every_objective_and_no_other():
    cfg = recipe("data=x")
    named = {name for track in cfg.tracks.values() for name in track.objectives}
    assert named == {name for name in OBJECTIVES if not of_another_study(name)}


def test_what_is_left_to_other_studies_is_known_by_its_class():
    assert all(
        map(of_another_study, ("fixmatch", "mean_teacher", "mixmatch", "co_teaching", "self_distill", "distill"))
    )
    assert not any(map(of_another_study, ("simclr", "moco", "supcon", "supervised", "dinov2", "domain_adversarial")))


def test_every_cell_composes(tmp_path):
    cfg = recipe("data=x")
    study = Study(cfg.corpora, cfg.tracks, 400, tmp_path, tmp_path, tmp_path)
    cells = list(cells_of(study))
    assert len({cell.name for cell in cells}) == len(cells) > 200
    for cell in cells[:: len(cells) // 12]:
        made = compose("pretrain", [*cell.overrides, "out=x"])
        assert made.trainer.max_steps in (1, 400) and made.evaluation.predictions
    assert cells[0].name == "fsdd,cnn,yardstick,0" and str(tmp_path) not in cells[0].command


@pytest.mark.slow  # many processes; tests/study/test_grid.py runs a small study by default
def test_a_comparison_on_toys_journals_every_cell_and_says_what_was_refused(toy_corpus, tmp_path, capsys):
    toy = {
        "what": "Toys.",
        "corpus": toy_corpus.name,
        "seeds": [0],
        "judge": "knn/accuracy",
        "beside": ["linear/accuracy"],
    }
    arguments = [
        "run", "ssl_comparison", f"data={toy_corpus.parent}", f"out={tmp_path / 'out'}", "steps=3",
        "~corpora.fsdd", "~corpora.esc10", "~corpora.finch_bird0", "~tracks.vit",
        f"+corpora.toy={{what: Toys, corpus: {toy['corpus']}, seeds: [0], judge: knn/accuracy, beside: [linear/accuracy], "
        "skip: [], overrides: ['data.batch_size=16']}",
        "tracks.cnn.objectives=[simclr,domain_adversarial]",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0, capsys.readouterr().err
    journal = read_journal(tmp_path / "out" / "cells")
    assert {name: entry["status"] for name, entry in journal.items()} == {
        "toy,cnn,yardstick,0": "done", "toy,cnn,simclr,0": "done", "toy,cnn,domain_adversarial,0": "refused",
    }  # fmt: skip
    assert "data.domain" in journal["toy,cnn,domain_adversarial,0"]["message"]
    entry = journal["toy,cnn,simclr,0"]
    mean, low, high = entry["against"]["mel"]
    yardstick = journal["toy,cnn,yardstick,0"]["metrics"]
    assert mean == pytest.approx(entry["metrics"]["knn/accuracy"] - yardstick["mel/knn/accuracy"], abs=1e-4)
    assert low <= mean <= high and entry["cpu_seconds"] > 0
    assert (tmp_path / "out" / "cells" / "toy,cnn,yardstick,0.npz").exists() and str(tmp_path) not in entry["command"]
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "| simclr | 1 |" in text and "| domain_adversarial | refused |" in text and "| mel | 1 |" in text
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 5000


def test_the_difference_pairs_rows_over_draws(tmp_path):
    rng = np.random.default_rng(0)
    truth, group = rng.integers(0, 3, 60), rng.integers(0, 6, 60)
    scores = {name: rng.random((2, 60, 3)) for name in ("run", "mel")}
    for folder, key in (("run", "linear@1"), ("mel", "mel/linear@1")):
        arrays = {
            key: scores[folder].astype(np.float16),
            "row": np.arange(60),
            "truth": truth,
            "group": group.astype(str),
        }
        np.savez(tmp_path / f"{folder}.npz", **arrays, classes=np.array(list("abc")))
    found = difference(tmp_path / "run.npz", tmp_path / "mel.npz", "mel", "linear@1/balanced_accuracy")
    with pytest.raises(AudiorepError, match="no predictions of knn"):
        difference(tmp_path / "run.npz", tmp_path / "mel.npz", "mel", "knn/balanced_accuracy")
    each = [
        paired_difference(*([Predictions(truth, scores[n][i], group)] for n in ("run", "mel")), balanced_accuracy)[0]
        for i in range(2)
    ]
    assert found[0] == pytest.approx(np.mean(each), abs=1e-6) and found[1] < found[0] < found[2]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("corpora.fsdd.judge=knn/marco_f1", "corpora.fsdd.judge=knn/marco_f1.*macro_f1"),
        ("hours=abc", "hours=abc"),
        ("steps=0", "steps=0"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_cell(tmp_path, override, message):
    (tmp_path / "fsdd").mkdir()
    (tmp_path / "fsdd" / "labels.csv").write_text("path\n")
    with pytest.raises(AudiorepError, match=message):
        compare(
            recipe(f"data={tmp_path}", f"out={tmp_path / 'out'}", override, "~corpora.esc10", "~corpora.finch_bird0")
        )


def test_numbers_lose_their_leading_zero_and_no_other():
    assert [three(x) for x in (0.5, -0.25, 110.7, 10.05, float("nan"))] == [".500", "-.250", "110.700", "10.050", ""]


def test_a_corpus_that_is_not_there_is_refused_before_any_cell(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["run", "ssl_comparison", f"data={tmp_path}", f"out={tmp_path / 'o'}"])
    assert ended.value.code == 2 and "fsdd" in capsys.readouterr().err
    assert OmegaConf.is_config(recipe("data=x"))
