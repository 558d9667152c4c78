"""Thresholds by folds: every label calibrates a classifier that did not learn from it, and a last one learns from all."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from audiorep.cli import main
from audiorep.evaluate.calibrate import fit_temperature

QUICK = "split.folds=3 data.batch_size=16 trainer.max_steps=4 logger=none"


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    return ended.value.code or 0


def answers(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "answers.npz", allow_pickle=False) as file:
        return dict(file)


def card(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())["training"]


@pytest.fixture(scope="module")
def crossed(toy_corpus, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("crossed") / "a run" / "out"
    code = run("run", "cross_calibration", f"corpus={toy_corpus}", f"out={out}", f"train={QUICK}", "labels_per_class=9")
    assert code == 0
    return out


def test_each_label_is_kept_from_one_classifier_and_none_from_the_last(crossed):
    folds = [answers(crossed / f"fold_{fold}") for fold in range(3)]
    held = [np.flatnonzero(fold["side"] == 2) for fold in folds]
    assert sum(map(len, held)) == 36 == len(set(np.concatenate(held).tolist()))
    for rows, fold in zip(held, range(3), strict=True):
        assert card(crossed / f"fold_{fold}")["labelled_rows"] == 36 - len(rows)
        assert np.bincount(folds[fold]["truth"][rows], minlength=4).min() >= 1  # of every class
    assert card(crossed / "classifier")["labelled_rows"] == 36
    assert not (answers(crossed / "classifier")["side"] == 2).any()
    assert "calibration_rows" not in card(crossed / "classifier") and "calibrated_on" in card(crossed / "classifier")


def test_temperature_and_thresholds_are_those_of_the_others_answers(crossed):
    folds = [answers(crossed / f"fold_{fold}") for fold in range(3)]
    logits = np.concatenate([fold["logits"][fold["side"] == 2] for fold in folds])
    truth = np.concatenate([fold["truth"][fold["side"] == 2] for fold in folds])
    thresholds = json.loads((crossed / "classifier" / "thresholds.json").read_text())
    assert thresholds["temperature"] == pytest.approx(fit_temperature(logits, truth), rel=1e-4)
    assert [found["positives"] for found in thresholds["classes"].values()] == [9] * 4
    metrics = json.loads((crossed / "classifier" / "metrics.json").read_text())
    assert metrics["calibration/rows"] == 36 and "test/ece" in metrics
    assert "each trained without a part of the labels" in (crossed / "classifier" / "report.html").read_text()


def test_the_same_command_trains_nothing_again(crossed, toy_corpus):
    made = {path: path.stat().st_mtime_ns for path in crossed.rglob("*.safetensors")}
    assert len(made) == 4
    code = run(
        "run", "cross_calibration", f"corpus={toy_corpus}", f"out={crossed}", f"train={QUICK}", "labels_per_class=9"
    )
    assert code == 0 and made == {path: path.stat().st_mtime_ns for path in crossed.rglob("*.safetensors")}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["train=calibration.fraction=0.5"], "cross_calibration keeps labels back by itself"),
        (["folds=1"], "calibration.folds=1: at least 2"),
        (["folds=few"], "folds=few: a number is needed here"),
    ],
)
def test_what_makes_no_sense_is_refused(keys, said, toy_corpus, tmp_path, capsys):
    assert run("run", "cross_calibration", f"corpus={toy_corpus}", f"out={tmp_path / 'out'}", *keys) != 0
    told = " ".join(capsys.readouterr().err.split())
    assert said in told and "Traceback" not in told


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["calibration.answers=begun"], "fold_0 was not trained to its end"),
        (["calibration.folds=3", "calibration.fold=3"], "must lie between 0 and 2"),
        (["calibration.folds=3", "calibration.column=group"], "give one of them"),
        (["calibration.answers=nowhere"], "holds no fold_*"),
        (["calibration.folds=2", "objective=frames"], "whole recordings"),
    ],
)
def test_train_refuses_folds_that_are_none_before_it_trains(keys, said, toy_corpus, tmp_path, capsys, monkeypatch):
    (tmp_path / "begun" / "fold_0").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    more = QUICK.split() + keys
    assert run("train", f"corpus={toy_corpus}", f"out={tmp_path / 'out'}", *more) != 0
    told = " ".join(capsys.readouterr().err.split())
    assert said in told and "Traceback" not in told
    assert not (tmp_path / "out" / "last.ckpt").exists() and not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize(("rows", "labels"), [(92, 9), (96, 2)])
def test_answers_about_other_rows_or_labels_are_refused_before_training(
    rows, labels, crossed, toy_corpus, tmp_path, capsys
):
    other = toy_corpus.with_name("other.csv")
    other.write_text("\n".join(toy_corpus.read_text().splitlines()[: 1 + rows]) + "\n")
    keys = [*QUICK.split(), f"calibration.answers={crossed}", f"labels_per_class={labels}"]
    assert run("train", f"corpus={other}", f"out={tmp_path / 'out'}", *keys) != 0
    told = " ".join(capsys.readouterr().err.split())
    assert "is about other rows or classes than this training has" in told
    assert not (tmp_path / "out" / "last.ckpt").exists()


def test_rows_may_have_several_labels(toy_corpus, tmp_path):
    rows = pd.read_csv(toy_corpus)
    rows["path"] = [str(toy_corpus.parent / name) for name in rows["path"]]
    rows["label"] = rows["label"].where(rows.index % 3 > 0, rows["label"] + "|up").replace("up|up", "up")
    rows.to_csv(tmp_path / "several.csv", index=False)
    keys = f"train={QUICK} labels.multilabel=true labels.complete=true"
    assert run("run", "cross_calibration", f"corpus={tmp_path / 'several.csv'}", f"out={tmp_path / 'out'}", keys) == 0
    folds = [answers(tmp_path / "out" / f"fold_{fold}") for fold in range(3)]
    held = np.concatenate([np.flatnonzero(fold["side"] == 2) for fold in folds])
    assert len(held) == len(set(held.tolist())) == card(tmp_path / "out" / "classifier")["labelled_rows"]
    thresholds = json.loads((tmp_path / "out" / "classifier" / "thresholds.json").read_text())
    truth = folds[0]["truth"][held]
    assert (
        thresholds["multilabel"] and [v["positives"] for v in thresholds["classes"].values()] == truth.sum(0).tolist()
    )
    assert (truth.sum(1) == 2).any() and truth.shape[1] == 4
