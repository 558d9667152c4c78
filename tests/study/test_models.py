"""The study of models: what is made is made once, each is asked, and the table holds the figures of metrics.json."""

import json

import pytest
from omegaconf import open_dict

from audiorep.composing import compose, recipes
from audiorep.errors import AudiorepError
from audiorep.study.models import MADE, makings, questions, study


def few_shot(tmp_path, data, *overrides):
    return compose(
        "run", [f"data={data}", f"out={tmp_path / 'out'}", *overrides], recipes() / "few_shot" / "recipe.yaml"
    )


def test_every_command_of_the_recipe_is_one_that_the_verbs_take(tmp_path):
    cfg = few_shot(tmp_path, tmp_path, "birdnet=a/folder")
    cells = [*makings(cfg, tmp_path), *questions(cfg, tmp_path, tmp_path)]
    assert [cell.name for cell in cells if cell.facts["model"] == "birdnet"] == ["birdnet,five", "birdnet,twenty"]
    for cell in cells:
        compose(cell.verb, [*cell.overrides, "out=x"])
        assert str(tmp_path) not in cell.command
    assert not [c for c in questions(few_shot(tmp_path, tmp_path), tmp_path, tmp_path) if c.facts["model"] == "birdnet"]


@pytest.mark.slow  # many processes; tests/study/test_grid.py runs a small study by default
def test_a_study_on_toys_makes_its_models_and_asks_them(toy_corpus, tmp_path):
    cfg = few_shot(tmp_path, toy_corpus.parent)
    small = "objective=simclr transductive=true trainer.max_steps=2 data.batch_size=16 encoder.width=8 encoder.dim=16"
    with open_dict(cfg):
        cfg.corpus = toy_corpus.name
        cfg.models = {"a": {"what": "A", "corpus": toy_corpus.name, "make": small}}
        cfg.questions = {"q": "${episodes} evaluation.protocols.fewshot.ways=3 evaluation.protocols.fewshot.episodes=9"}
        cfg.columns = {"one": "fewshot@3-way-1-shot/accuracy"}
    study(cfg)
    out = tmp_path / "out"
    metrics = json.loads((out / "cells" / "a,q.json").read_text())["metrics"]
    table = (out / "table.md").read_text()
    for prefix, what in (("", "A"), ("mel/", "mel, mean and deviation"), ("random/", "an untrained encoder")):
        score = f"{metrics[f'{prefix}fewshot@3-way-1-shot/accuracy']:.3f}".lstrip("0")
        row = next(line for line in table.splitlines() if line.startswith(f"| {what} |"))
        assert score in row
    times = {p: p.stat().st_mtime_ns for p in (out / "cells").glob("*")}
    study(cfg)
    assert times == {p: p.stat().st_mtime_ns for p in (out / "cells").glob("*")}
    for path in (out / "runs" / f"a,{MADE}").glob("model.safetensors"):
        path.unlink()
    study(cfg)  # what was made is gone: made again, and not asked again
    now = {p: p.stat().st_mtime_ns for p in (out / "cells").glob("*")}
    assert now[out / "cells" / f"a,{MADE}.json"] > times[out / "cells" / f"a,{MADE}.json"]


def test_what_no_study_can_be_made_of_is_refused(toy_corpus, tmp_path):
    with pytest.raises(AudiorepError, match="is not there: set data="):
        study(few_shot(tmp_path, tmp_path))
    cfg = few_shot(tmp_path, toy_corpus.parent)
    with open_dict(cfg):
        cfg.corpus, cfg.models = toy_corpus.name, {"a": {"what": "A", "make": "x=1", "model": "b"}}
    with pytest.raises(AudiorepError, match=r"models\.a: say make= or model=, and not both"):
        study(cfg)
    with open_dict(cfg):
        cfg.models = {"a": {"what": "A", "model": str(tmp_path / "none")}}
    with pytest.raises(AudiorepError, match="no question was answered; a,(five|twenty)"):
        study(cfg)
