"""Predictions of the test side, kept: plain arrays, the same decisions in half the bits, and runs compared by them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from audiorep.cli import main
from audiorep.errors import AudiorepError
from audiorep.evaluate.metrics import Predictions, accuracy, cmap, paired_difference
from audiorep.evaluate.predictions import in_half, read_predictions, write_predictions
from audiorep.evaluate.protocol import Protocol, Sides, evaluate, knn, linear

TINY = [
    "encoder.width=8", "encoder.dim=32", "trainer.max_steps=2", "trainer.precision=32-true", "data.batch_size=16",
    "data.workers=0", "objective.projector.hidden=32", "objective.projector.outputs=16", "logger=none",
    "evaluation.settings.resamples=20", "evaluation.settings.k=5",
]  # fmt: skip


def run(*arguments: object) -> int:
    """Exit status of a command in this process."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def pretrained(toy_corpus, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("predictions") / "run"
    assert run("pretrain", f"corpus={toy_corpus}", f"out={out}", "evaluation.predictions=true", *TINY) == 0
    return out


def test_a_run_leaves_what_every_probe_said_of_every_test_row(pretrained, toy_corpus):
    held, metrics = load(pretrained / "predictions.npz"), json.loads((pretrained / "metrics.json").read_text())
    frame, rows = pd.read_csv(toy_corpus), held["row"]
    assert set(held) == {"row", "truth", "group", "classes"} | {
        prefix + name for prefix in ("", "mel/", "random/") for name in ("knn", "linear", "linear@1", "linear@5")
    }
    assert held["classes"][held["truth"]].tolist() == frame["label"][rows].tolist()
    assert held["group"].tolist() == frame["group"][rows].tolist()
    for name, scores in held.items():
        if name not in ("row", "truth", "group", "classes"):
            assert scores.dtype == np.float16 and scores.shape[-2:] == (len(rows), 4)
            right = [(draw.argmax(1) == held["truth"]).mean() for draw in scores.reshape(-1, len(rows), 4)]
            assert len(right) == (3 if "@" in name else 1)
            assert np.mean(right) == pytest.approx(metrics[f"{name}/accuracy"])


def test_two_encoders_are_compared_on_the_same_samples(pretrained):
    held = read_predictions(pretrained / "predictions.npz")
    (ours,), (mel,) = held["linear"], held["mel/linear"]
    difference, low, high = paired_difference([ours], [mel], accuracy, 50)
    assert low <= difference <= high
    ones = np.ones((1, len(ours.truth)))
    assert difference == pytest.approx(float((accuracy(ours, ones) - accuracy(mel, ones))[0]))
    assert len(held["linear@5"]) == 3


def test_nothing_is_left_unasked_and_what_an_earlier_run_left_goes(pretrained, toy_corpus, tmp_path):
    out = tmp_path / "run"
    keys = [f"model={pretrained}", f"corpus={toy_corpus}", f"out={out}", "evaluation.protocol=[knn]", *TINY[-2:]]
    assert run("evaluate", *keys, "evaluation.predictions=true") == 0
    assert (out / "predictions.npz").exists()
    assert run("evaluate", *keys, "overwrite=true") == 0
    assert not (out / "predictions.npz").exists()


def test_the_encoder_can_stand_alone(pretrained, toy_corpus, tmp_path):
    """Without yardsticks its scores are the same, and no others are there."""
    out = tmp_path / "alone"
    keys = ["evaluation.beside=[]", "evaluation.shortcut=[group]", "evaluation.predictions=true", *TINY[-2:]]
    assert run("evaluate", f"model={pretrained}", f"corpus={toy_corpus}", f"out={out}", *keys) == 0
    metrics, whole = (json.loads((folder / "metrics.json").read_text()) for folder in (out, pretrained))
    assert not any(name.startswith(("mel/", "random/")) for name in metrics) and metrics["knn/accuracy"]
    assert {name: metrics[name] for name in whole if name in metrics} == pytest.approx(
        {name: value for name, value in whole.items() if name in metrics}
    )
    assert not any("/" in name for name in load(out / "predictions.npz"))
    assert "no alarm without the yardsticks" in (out / "report.html").read_text()


@pytest.mark.parametrize("beside", [["mel"], ["random"]])
def test_one_yardstick_can_stand_beside(beside, pretrained, toy_corpus, tmp_path):
    keys = [f"evaluation.beside=[{beside[0]}]", "evaluation.protocol=[knn]", *TINY[-2:]]
    assert run("evaluate", f"model={pretrained}", f"corpus={toy_corpus}", f"out={tmp_path / 'one'}", *keys) == 0
    metrics = json.loads((tmp_path / "one" / "metrics.json").read_text())
    assert {name.split("/")[0] for name in metrics} == {"knn", *beside, "split"}


@pytest.mark.parametrize(
    "key, message",
    [
        ("evaluation.beside=[mfcc]", "evaluation.beside=mfcc is not known; there are: mel, random"),
        (
            "evaluation.protocol=[knm]",
            "evaluation.protocol=knm is not known; there are: knn, linear, health, fewshot, attentive",
        ),
    ],
)
def test_unknown_names_are_refused_before_training(key, message, toy_corpus, tmp_path, capsys):
    assert run("pretrain", f"corpus={toy_corpus}", f"out={tmp_path / 'run'}", key, *TINY) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("encoder", ["small_cnn", "vit_mini"])
def test_probes_of_tokens_are_run_where_they_are_asked_for(encoder, toy_corpus, tmp_path):
    keys = [
        "evaluation.protocol=[attentive,prototypical]",
        "evaluation.predictions=true",
        "evaluation.tokens.per_row=12",
    ]
    keys += [f"evaluation.token_protocols.{name}.fitting.steps=20" for name in ("attentive", "prototypical")]
    tiny = TINY if encoder == "small_cnn" else ["encoder=vit_mini", "encoder.depth=1", "encoder.dim=48", *TINY[2:]]
    out = tmp_path / "run"
    assert run("pretrain", f"corpus={toy_corpus}", f"out={out}", *tiny, *keys) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    for name in ("attentive/accuracy", "prototypical/balanced_accuracy", "attentive/cmap"):
        for prefix in ("", "mel/", "random/"):
            assert metrics[f"{prefix}{name}/low"] <= metrics[prefix + name] <= metrics[f"{prefix}{name}/high"]
    assert {"attentive", "random/attentive", "mel/prototypical"} <= load(out / "predictions.npz").keys()
    assert "Prototypical probe accuracy" in (out / "report.html").read_text()


def test_tokens_that_do_not_fit_are_named_and_the_rest_is_evaluated(pretrained, toy_corpus, tmp_path):
    out = tmp_path / "small"
    keys = ["evaluation.protocol=[knn,attentive]", "evaluation.tokens.memory_gb=0.00001", *TINY[-2:]]
    assert run("evaluate", f"model={pretrained}", f"corpus={toy_corpus}", f"out={out}", *keys) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert "knn/accuracy" in metrics and "attentive/accuracy" not in metrics
    assert "evaluation.tokens.memory_gb" in (out / "report.html").read_text()


def test_half_precision_leaves_every_decision_as_it_was():
    rng = np.random.default_rng(0)
    scores = rng.random((2, 4000, 5)) * 1e-3 + 0.5
    scores[0, :1000, 4] = scores[0, :1000, :4].max(1) + 1e-9
    half = in_half(scores)
    assert half.dtype == np.float16 and (scores.astype(np.float16).argmax(-1) != scores.argmax(-1)).any()
    np.testing.assert_array_equal(half.argmax(-1), scores.argmax(-1))
    np.testing.assert_allclose(half, scores, atol=1.1e-3)
    np.testing.assert_array_equal(in_half(np.eye(3)), np.eye(3))


def test_several_labels_with_unknowns_are_kept_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (40, 3)).astype(np.float32)
    truth[rng.random((40, 3)) < 0.2] = np.nan
    sides = Sides(np.arange(25), np.arange(25, 40), truth, np.repeat(["x", "y", "ü"], [25, 8, 7]), ["a", "b", "c"])
    found = evaluate(
        {"": rng.normal(size=(40, 6)).astype(np.float32)}, sides, Protocol(resamples=0), {"knn": knn, "l": linear}
    )
    write_predictions(found.said, sides, tmp_path / "p.npz")
    held = load(tmp_path / "p.npz")
    np.testing.assert_array_equal(held["truth"], truth[25:])
    assert held["group"].tolist() == ["y"] * 8 + ["ü"] * 7 and held["row"].tolist() == list(range(25, 40))
    (linear_said,) = read_predictions(tmp_path / "p.npz")["linear"]
    assert isinstance(linear_said, Predictions)
    assert float(cmap(linear_said, np.ones((1, 15)))[0]) == pytest.approx(found.scores["linear/cmap"], abs=0.02)


def test_predictions_that_are_not_there_are_named(tmp_path):
    with pytest.raises(AudiorepError, match="evaluation.predictions=true"):
        read_predictions(tmp_path / "predictions.npz")
