"""The study of detectors: a cell a fold, and a table of means over folds."""

import pytest

from audiorep.composing import compose, recipes
from audiorep.errors import AudiorepError
from audiorep.study.detection import cells_of, markdown, shown


def recipe(data):
    return compose("run", [f"data={data}"], recipes() / "detect_song" / "recipe.yaml")


def test_a_cell_a_fold_and_a_missing_corpus_is_named(tmp_path):
    with pytest.raises(AudiorepError, match=r"finch_bird0.*labels\.csv is not there"):
        list(cells_of(recipe(tmp_path), tmp_path))
    for name in recipe(tmp_path).corpora:
        (tmp_path / name).mkdir()
        (tmp_path / name / "labels.csv").touch()
    cells = list(cells_of(recipe(tmp_path), tmp_path))
    assert len({cell.name for cell in cells}) == 15 and all(str(tmp_path) not in cell.command for cell in cells)
    assert compose("train", [*cells[0].overrides, "out=x"]).objective._target_.endswith("Frames")


def test_the_table_holds_means_over_folds_of_what_was_run(tmp_path):
    one = {"test/event_f1": 0.9, "test/event_f1/low": 0.8, "test/event_f1/high": 1.0, "test/event_f1/a": 0.5}
    two = {"test/event_f1": 0.7, "test/event_f1/low": 0.6, "test/event_f1/high": 0.8}
    done = {str(i): {"corpus": "finch_bird0", "metrics": m} for i, m in enumerate((one, two))}
    text = markdown(recipe(tmp_path), done)
    assert ".800 (.700 .900)" in text and "| 2 |" in text and "gy6or6" not in text
    assert "| a |" in text and "| .500 |" in text and shown([one, two], "test/event_f1/a") == ".500"
