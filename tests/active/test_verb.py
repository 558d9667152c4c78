"""audiorep active as a user meets it, and the study of strategies on toys."""

import json

import numpy as np
import pandas as pd
import pytest
from omegaconf import open_dict
from test_cli import refused, run

from audiorep.active.study import makings, simulations, study
from audiorep.composing import compose, options, recipes
from audiorep.errors import AudiorepError

SMALL = ["encoder.width=8", "encoder.dim=16", "seeds=2", "batch=4", "budget=12"]


@pytest.fixture(scope="module")
def model(toy_corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("active") / "model"
    keys = ["encoder.width=8", "encoder.dim=16", "trainer.max_steps=3", "data.batch_size=16", "logger=none"]
    assert (
        run("pretrain", f"corpus={toy_corpus}", f"out={out}", "objective=simclr", "evaluation.protocol=[health]", *keys)
        == 0
    )
    return out


def test_active_leaves_curves_table_picture_and_metrics(toy_corpus, model, tmp_path):
    out, kept = tmp_path / "out", tmp_path / "x.npz"
    given = [f"corpus={toy_corpus}", f"model={model}", f"embeddings={kept}", "selector=margin", *SMALL[2:]]
    assert run("active", *given, f"out={out}") == 0
    assert {p.name for p in out.iterdir()} == {"curves.csv", "curves.png", "table.md", "metrics.json", "config.yaml"}
    curves = pd.read_csv(out / "curves.csv")
    assert set(curves.strategy) == {"margin", "random"} and sorted(set(curves.labels)) == [4, 8, 12]
    assert len(curves) == 2 * 2 * 3
    metrics = json.loads((out / "metrics.json").read_text())
    by_hand = curves[(curves.strategy == "margin") & (curves.labels == 12)].score.mean()
    assert metrics["margin/last"] == pytest.approx(by_hand) and 0 <= metrics["random/area"] <= 1
    first = curves[curves.labels == 4].pivot(index="seed", columns="strategy", values="score")
    np.testing.assert_array_equal(first.margin, first.random)  # both begin with the same random clips
    before = kept.stat().st_mtime_ns
    again = tmp_path / "again"
    assert run("active", *given, f"out={again}") == 0
    assert kept.stat().st_mtime_ns == before
    now = pd.read_csv(again / "curves.csv")
    pd.testing.assert_frame_equal(now[["labels", "score"]], curves[["labels", "score"]])


def test_without_a_model_mel_statistics_are_used(toy_corpus, tmp_path):
    out = tmp_path / "out"
    assert run("active", f"corpus={toy_corpus}", f"out={out}", "beside=[]", "selector=farthest_first", *SMALL) == 0
    assert json.loads((out / "metrics.json").read_text())["farthest_first/last"] > 0


def test_the_whole_network_can_be_the_learner(toy_corpus, model, tmp_path):
    keys = "trainer.max_steps=2 data.batch_size=16 data.workers=0 logger=none evaluation.settings.resamples=2"
    steps = f"learner.overrides='{keys}'"
    out = tmp_path / "out"
    given = ["learner=network", steps, "seeds=1", "batch=8", "budget=16", "beside=[]", "selector=entropy"]
    assert run("active", f"corpus={toy_corpus}", f"model={model}", f"out={out}", *given) == 0
    curves = pd.read_csv(out / "curves.csv")
    assert curves.labels.tolist() == [8, 16] and curves.score.notna().all()
    assert (out / "runs" / "0-entropy" / "16" / "metrics.json").exists()


def test_wrong_input_is_refused_in_one_line(toy_corpus, model, tmp_path, capsys):
    other = tmp_path / "other.npz"
    np.savez(other, embedding=np.zeros((2, 2)), known=np.ones(2, bool), of=np.array("x"))
    (tmp_path / "broken.npz").write_bytes(b"no")
    for more, told in (
        (["beside=[nothing]"], "beside=nothing is no strategy"),
        (["selector=margin", "first=bald"], "needs the probabilities"),
        (["batch=0"], "at least one clip is asked at a time"),
        (["batch=many"], "batch=many: a whole number or auto is needed"),
        (["budget=1000"], "rows can be asked"),
        (["score=loudness"], "score=loudness is none of"),
        ([f"embeddings={other}"], "of another corpus, model or window"),
        ([f"embeddings={tmp_path / 'broken.npz'}"], "no file of embeddings"),
    ):
        given = [
            f"corpus={toy_corpus}",
            f"model={model}",
            f"out={tmp_path / 'out'}",
            "overwrite=true",
            "seeds=1",
            *more,
        ]
        assert told in refused(capsys, "active", *given), more


def recipe(data, tmp_path, *overrides):
    path = recipes() / "active_learning" / "recipe.yaml"
    return compose("run", [f"data={data}", f"out={tmp_path / 'out'}", *overrides], path)


def test_every_command_of_the_recipe_is_one_that_the_verbs_take(tmp_path):
    cfg = recipe(tmp_path, tmp_path, "birdnet=a/folder")
    cells = [*makings(cfg, tmp_path), *simulations(cfg, tmp_path, tmp_path)]
    assert len({cell.name for cell in cells}) == len(cells) == 3 + 3 * 2 * len(cfg.strategies)
    assert set(cfg.strategies) == set(options("selector"))
    for cell in [*cells[:3], *cells[3 :: 2 * len(cfg.strategies)], cells[-1]]:
        compose(cell.verb, [*cell.overrides, "out=x"])
        assert str(tmp_path) not in cell.command
    assert len(list(simulations(recipe(tmp_path, tmp_path), tmp_path, tmp_path))) == 3 * len(cfg.strategies)


@pytest.mark.slow  # many processes; tests/study/test_grid.py runs a small study by default
def test_a_study_on_toys_leaves_table_and_picture_and_goes_on_where_it_stopped(toy_corpus, tmp_path):
    cfg = recipe(toy_corpus.parent, tmp_path)
    with open_dict(cfg):
        cfg.corpora = {"toy": {"what": "Toys.", "corpus": toy_corpus.name, "overrides": ""}}
        small = "trainer.max_steps=2 data.batch_size=16 encoder.width=8 encoder.dim=16 evaluation.protocol=[health]"
        cfg.encoders = {
            "ssl": {"what": "SimCLR", "pretrain": f"objective=simclr {small}"},
            "none": {"what": "-", "model": None},
        }
        cfg.strategies, cfg.shared = {"random": None, "margin": None}, "seeds=2 batch=4 budget=12"
    study(cfg)
    out = tmp_path / "out"
    table = pd.read_csv(out / "table.csv")
    assert table.strategy.tolist() == ["random", "margin"] and set(table.encoder) == {"ssl"}
    assert (out / "curves.png").exists() and "| margin |" in (out / "table.md").read_text()
    curves = pd.read_csv(out / "cells" / "toy,ssl,margin.csv")
    by_hand = np.mean([np.trapezoid(p.score, p.labels) / 8 for _, p in curves.groupby("seed")])
    assert table.area[1] == pytest.approx(by_hand)
    times = {p: p.stat().st_mtime_ns for p in (out / "cells").glob("*")}
    study(cfg)
    assert times == {p: p.stat().st_mtime_ns for p in (out / "cells").glob("*")}
    with open_dict(cfg):
        cfg.corpora.toy.corpus = "elsewhere.csv"
    with pytest.raises(AudiorepError, match="is not there: set data="):
        study(cfg)
