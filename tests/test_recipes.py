"""The recipes in rounds, each from end to end on a toy corpus: by one command, again without work, and refused rightly."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from audiorep.cli import main
from audiorep.errors import AudiorepError
from audiorep.files import write_text
from audiorep.model import load_model
from audiorep.overrides import words
from audiorep.procedures import common

QUICK = "split.folds=3 data.batch_size=16 trainer.max_steps=3 logger=none"


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["run", *arguments])
    return ended.value.code


def rounds(out):
    return json.loads((out / "rounds.json").read_text())["rounds"]


@pytest.fixture(scope="module")
def asked(toy_corpus):
    return [f"corpus={toy_corpus}", "labels_per_class=4", f"train={QUICK}"]


@pytest.mark.parametrize(
    ("name", "keys", "first", "last"),
    [
        ("pseudo_label_rounds", ["rounds=2", "threshold=0.5"], "0", "2"),
        (
            "pseudo_label_rounds",
            [
                "rounds=1",
                "threshold=0.5",
                "ensemble={_target_: audiorep.semi.rounds.bagging, _partial_: true, members: 3}",
            ],
            "0",
            "1",
        ),
        ("pseudo_label_rounds", ["rounds=1", "threshold=0.0", "frozen=false", "most_per_class=2"], "0", "1"),
        ("co_training", ["rounds=2"], "0", "2"),
        ("co_training", ["rounds=1", "frozen=false", "first=frontend.f_max_hz=1500", "threshold=0.0"], "0", "1"),
        ("label_propagation", [], "given labels", "propagated labels"),
        ("label_propagation", ["frozen=false", "alpha=null"], "given labels", "propagated labels"),
        ("noisy_student", ["students=['', 'encoder.width=40']"], "teacher", "student_2"),
        (
            "pretrain_finetune",
            ["pretrain=objective=simclr data.batch_size=16 trainer.max_steps=3"],
            "classifier",
            "from_scratch",
        ),
    ],
)
def test_a_recipe_runs_leaves_its_rounds_and_does_nothing_twice(name, keys, first, last, asked, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(name, *asked, f"out={out}", *keys) == 0, capsys.readouterr().err
    found = rounds(out)
    assert str(next(iter(found[0].values()))) == first and str(next(iter(found[-1].values()))) == last
    assert all(0.0 <= row["test/balanced_accuracy"] <= 1.0 for row in found)
    made = {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}
    assert run(name, *asked, f"out={out}", *keys) == 0
    assert rounds(out) == found and made == {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}


@pytest.mark.parametrize("name, unit", [("label_propagation", True), ("pseudo_label_rounds", False)])
def test_a_frozen_encoder_leaves_a_classifier_that_says_what_the_table_says(name, unit, asked, toy_corpus, tmp_path):
    pretrained, out = tmp_path / "pretrained", tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", f"corpus={toy_corpus}", f"out={pretrained}", *words(QUICK), "evaluation.protocol=[]"])
    assert not ended.value.code
    keys = [f"unit_length={unit}".lower(), *(["rounds=1"] if name == "pseudo_label_rounds" else [])]
    assert run(name, *asked, *keys, f"init={pretrained}", f"out={out}") == 0
    metrics = json.loads((out / "classifier" / "metrics.json").read_text())
    assert (out / "classifier" / "thresholds.json").exists()
    assert metrics["test/cmap"] == pytest.approx(rounds(out)[-1]["test/cmap"], abs=1e-6)
    model, _, _ = load_model(out / "classifier")
    z = torch.randn(3, model.encoder.dim)
    seen = z / z.square().sum(1, keepdim=True).sqrt() if unit else z
    assert torch.allclose(model.classifier(z), seen @ model.classifier.weight.T + model.classifier.bias, atol=1e-4)


def test_guesses_stay_on_the_training_side_and_true_test_labels_are_never_learned(asked, tmp_path, toy_corpus):
    out = tmp_path / "out"
    assert run("pseudo_label_rounds", *asked, f"out={out}", "rounds=1", "threshold=0.0", "frozen=false") == 0
    before = pd.read_csv(out / "round_0" / "labels.csv", keep_default_na=False)
    after = pd.read_csv(out / "round_1" / "labels.csv", keep_default_na=False)
    truth = pd.read_csv(toy_corpus)["label"]
    train = before.audiorep_side == "train"
    assert (before.label[train] != "").sum() == 16 and (after.label[train] != "").all()
    assert (after.label[~train] == truth[~train]).all() and (after.audiorep_draws[~train] == 0).all()
    row = rounds(out)[1]
    assert row["kept"] == train.sum() - 16
    guessed = train & (before.label == "")
    assert row["kept_accuracy"] == pytest.approx((after.label[guessed] == truth[guessed]).mean())


def test_a_budget_is_spent_once_however_many_stages_there_are(monkeypatch, tmp_path):
    seen: list[str] = []
    spent = ("label_fraction=0.25", "labels.least=3", "calibration.column=side", "calibration.rows=[c]", "split.fold=1")
    task = SimpleNamespace(
        out=tmp_path, seed=0, overrides=(*spent, "optimizer.lr=0.01"), known=SimpleNamespace(classes=["a"])
    )
    monkeypatch.setattr(common, "write_manifest", lambda task, labels, draws, path: write_text(path, "label"))
    monkeypatch.setattr(common, "run_stage", lambda verb, overrides, out, of: seen.extend(overrides))
    monkeypatch.setattr(common, "read_probabilities", lambda folder, classes: np.ones((1, 1)))
    (tmp_path / "round_0").mkdir()
    common.Network(task)(np.zeros(1, int), np.ones(1, int), "round_0")
    assert "optimizer.lr=0.01" in seen and not set(seen) & set(spent)
    assert [text.split("=")[1] for text in seen if text.startswith("calibration.column")] == [common.SIDE]


def test_a_round_without_a_guess_that_is_sure_says_so(asked, tmp_path, capsys):
    keys = ["threshold=0.999999999999", "rounds=1", "classifier=false", f"out={tmp_path / 'out'}"]
    assert run("pseudo_label_rounds", *asked, *keys) == 0
    assert [row["kept"] for row in rounds(tmp_path / "out")] == [0.0, 0.0]
    assert (
        "round 1: no guess was surer than threshold=0.999999999999, so it learned from the given labels alone"
        in capsys.readouterr().err
    )


def test_another_task_in_the_same_folder_is_refused(asked, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("label_propagation", *asked, f"out={out}") == 0
    assert run("label_propagation", *asked, f"out={out}", "k=3") == 2
    assert "was begun with k=10, not 3" in capsys.readouterr().err


def test_a_word_that_is_no_override_is_named():
    assert words("a=1 b=[x,y]") == ["a=1", "b=[x,y]"]
    with pytest.raises(AudiorepError, match="'seed' in"):
        words("a=1 seed")


def test_a_key_that_train_does_not_have_is_named_with_the_nearest(asked, tmp_path, capsys):
    asked = [*asked[:-1], "train=splitt.folds=3"]
    assert run("label_propagation", *asked, f"out={tmp_path / 'out'}") == 2
    assert "splitt.folds" in capsys.readouterr().err
