"""From the journal to a table, to Markdown and to a picture; and what a sweep leaves."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from omegaconf import OmegaConf

from audiorep.study import sweep
from audiorep.study.figure import draw
from audiorep.study.markdown import three
from audiorep.study.tables import YARDSTICK, markdown, summarise

CORPORA = OmegaConf.create(
    {"birds": {"what": "Two birds.", "judge": "knn/accuracy", "beside": ["linear/accuracy"]}},
)


def entry(objective, seed, score=0.9, low=0.1, status="done", **more):
    shared = {"corpus": "birds", "track": "cnn", "objective": objective, "seed": seed, "status": status}
    if status != "done":
        return shared
    metrics = {"knn/accuracy": score, "linear/accuracy": 0.99, "rankme": 50.0}
    if objective == YARDSTICK:
        return {**shared, "metrics": {f"{y}/{k}": v - 0.3 for y in ("mel", "random") for k, v in metrics.items()}}
    against = {name: [0.2, low, 0.3] for name in ("mel", "random")}
    return {**shared, "metrics": metrics, "against": against, "cpu_seconds": 100.0, "labels_used": False, **more}


ENTRIES = [
    entry(YARDSTICK, 0),
    entry("simclr", 0, 0.8),
    entry("simclr", 1, 0.9),
    entry("byol", 0, 0.7, low=-0.1),
    entry("byol", 1, 0.7),
    entry("supcon", 0, 0.95, labels_used=True),
    entry("msn", 0, status="refused"),
]


@pytest.fixture()
def table():
    return summarise(ENTRIES, CORPORA)


def test_means_over_seeds_best_first_and_yardsticks_among_them(table):
    assert table.objective.tolist() == ["supcon", "simclr", "byol", "mel", "random", "msn"]
    row = table.set_index("objective").loc["simclr"]
    assert row.score == pytest.approx(0.85) and row["score/deviation"] == pytest.approx(np.std([0.8, 0.9], ddof=1))
    assert row.seeds == 2 and row.beats_mel == 2
    assert table.set_index("objective").loc["byol"].beats_mel == 1
    assert table.set_index("objective").loc["mel"].score == pytest.approx(0.6)


def test_the_table_marks_what_beats_mel_with_every_seed_and_who_used_labels(table):
    lines = markdown(table, CORPORA).splitlines()
    of = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    assert of["simclr"].count("**+0.200 (+0.100 +0.300)**") == 2 and ".850 ± .071" in of["simclr"]
    assert "**" not in of["byol"] and "supcon*" in of and "refused" in of["msn"]
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


def test_the_picture_has_a_dot_for_every_objective_that_ended(table, tmp_path):
    draw(table, CORPORA, tmp_path / "a.png")
    picture = imread(tmp_path / "a.png")
    assert picture.std() > 0.05 and picture.shape[0] > 100


def test_nothing_ended_is_an_empty_table():
    assert summarise([], CORPORA).empty


def test_numbers_have_three_digits_and_no_leading_zero():
    assert [three(x) for x in (0.1234, 1.0, float("nan"))] == [".123", "1.000", ""]


def test_a_sweep_leaves_a_table_and_marks_the_highest_rank(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(sweep.console, "print", shown.append)
    ranks = {"a": 10.0, "b": 20.0, "c": 5.0}
    sweep.record({run: {"rankme": rank, "knn/accuracy": 1.0 / rank} for run, rank in ranks.items()}, tmp_path)
    frame = pd.read_csv(tmp_path / "sweep.csv").set_index("run")
    assert frame.loc["b", "rankme"] == 20.0 and set(frame.index) == {"a", "b", "c"}
    assert [row.style for row in shown[0].rows] == [None, "bold", None]
    sweep.record({"a": {}}, tmp_path)  # a run without labels has no scores
    assert [row.style for row in shown[1].rows] == [None]
