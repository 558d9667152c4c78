"""audiorep train as a user meets it: from labels to a calibrated classifier; no hidden label tells; one line for errors."""

import json
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from test_cli import refused, run
from toy import RATE_HZ, tone

from audiorep import composing, verdict
from audiorep import known as knowing
from audiorep.checkpoint import Checkpoint
from audiorep.data.budget import Budget
from audiorep.errors import AudiorepError
from audiorep.known import Known
from audiorep.model import load_model
from audiorep.tasks import calls
from audiorep.verbs import train as verb
from audiorep.verbs.export import licence_of

SIZE = ["encoder.width=8", "encoder.dim=32"]
KEYS = [
    "trainer.max_steps=4", "trainer.precision=32-true", "data.batch_size=16", "data.workers=0", "logger=none",
    "trainer.health_every=2", "trainer.log_every=1", "evaluation.settings.resamples=5", "calibration.least=5",
]  # fmt: skip
SMALL = [*SIZE, *KEYS]
SPLIT = ["split.column=group", "split.test=[g5]"]
"""So that hiding labels does not move the split, which weighs groups by their labelled rows."""


def trained(corpus: Path, out: Path, *keys: object, small: list[str] = SMALL, report: bool = False) -> Path:
    """A run, as a rule without drawing a report and without looking up what a key's default would be: that saves half."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(composing, "check_types", lambda *_: None)
        if not report:
            patched.setattr(verdict, "make_report", lambda *_: None)
            patched.setattr(verdict, "write_report", lambda *_: None)
        assert run("train", f"corpus={corpus}", f"out={out}", *small, *keys) == 0
    return out


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same(a: Path, b: Path) -> None:
    one, other = weights(a), weights(b)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def facts(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())["training"]


def rewritten(corpus: Path, folder: Path, change) -> Path:
    """A copy of the manifest with absolute paths, changed."""
    rows = pd.read_csv(corpus, keep_default_na=False)
    rows["path"] = [str(corpus.parent / name) for name in rows["path"]]
    rows = change(rows)
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_csv(folder / "c.csv", index=False)
    return folder / "c.csv"


@pytest.fixture(scope="module")
def classifier(toy_corpus, tmp_path_factory) -> Path:
    keys = [*SIZE, *KEYS, "logger=default", "trainer.max_steps=60", "optimizer.lr=0.01", "data.batch_size=32"]
    return trained(toy_corpus, tmp_path_factory.mktemp("runs") / "run", small=keys, report=True)


@pytest.fixture(scope="module")
def pretrained(toy_corpus, tmp_path_factory) -> Path:
    """An encoder with batch norms and another window and hop than `train` would choose."""
    out = tmp_path_factory.mktemp("runs") / "pretrained"
    more = ["objective=vicreg", "objective.projector.hidden=16", "objective.projector.outputs=16", *SPLIT]
    more += ["window.length_s=0.4", "window.outside=zero", "frontend.hop_s=0.01", "evaluation.protocol=[health]"]
    keys = [key for key in SMALL if not key.startswith("calibration")]
    assert run("pretrain", f"corpus={toy_corpus}", f"out={out}", *keys, *more) == 0
    return out


# ------------------------------------------------------------ what it leaves


def test_train_leaves_model_thresholds_metrics_predictions_and_report(classifier):
    names = {path.name for path in classifier.iterdir()}
    assert names >= {
        "config.yaml", "config.json", "model.safetensors", "thresholds.json", "metrics.json", "report.html",
        "predictions.npz", "golden.wav", "last.ckpt", "logs",
    }  # fmt: skip
    config = json.loads((classifier / "config.json").read_text())
    assert config["classes"] == ["down", "flat", "trill", "up"]
    assert config["training"]["calibration_rows"] == 16 and config["training"]["labelled_rows"] == 48
    assert config["training"]["multilabel"] is False and "init" not in config["training"]
    metrics = json.loads((classifier / "metrics.json").read_text())
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "cmap", "auroc"):
        assert metrics[f"test/{name}/low"] <= metrics[f"test/{name}"] <= metrics[f"test/{name}/high"]
        assert f"mel/test/{name}" in metrics
    assert metrics["test/rows"] == 32 and metrics["calibration/rows"] == 16
    assert metrics["test/accuracy"] > 0.5  # it has learned something
    chosen = json.loads((classifier / "thresholds.json").read_text())
    assert chosen["multilabel"] is False and set(chosen["classes"]) == {"down", "flat", "trill", "up"}
    model, info, _ = load_model(classifier)
    assert model.classifier is not None and tuple(info.classes) == ("down", "flat", "trill", "up")


def test_the_scores_are_those_of_the_saved_model(classifier, toy_corpus):
    """The accuracy of metrics.json, by hand."""
    model, info, _ = load_model(classifier)
    rows = pd.read_csv(toy_corpus)
    truth = rows["label"].map({name: i for i, name in enumerate(info.classes)}).to_numpy()
    wave = np.stack([soundfile.read(toy_corpus.parent / name, dtype="float32")[0] for name in rows["path"]])
    with torch.inference_mode():
        said = model(torch.from_numpy(wave))[1].argmax(1).numpy()
    right = {group: (said == truth)[rows["group"] == group].mean() for group in sorted(set(rows["group"]))}
    metrics = json.loads((classifier / "metrics.json").read_text())
    assert any(
        np.mean([right[a], right[b]]) == pytest.approx(metrics["test/accuracy"]) for a, b in combinations(right, 2)
    )


def test_the_report_judges_the_classifier_and_says_every_note_once(classifier):
    text = (classifier / "report.html").read_text()
    assert "Not judged yet" not in text and "The classifier " in text
    assert text.count("No test row is known to be background") == 1
    assert "None" not in text.partition("<body")[2].partition("<svg")[0]


def test_export_evaluate_and_embed_take_the_classifier(classifier, toy_corpus, tmp_path):
    bundle = tmp_path / "bundle"
    assert run("export", f"model={classifier}", f"out={bundle}") == 0
    assert (bundle / "labels.txt").read_text().split() == ["down", "flat", "trill", "up"]
    assert (bundle / "thresholds.json").read_bytes() == (classifier / "thresholds.json").read_bytes()
    card = (bundle / "README.md").read_text()
    assert "license: unknown" in card and "| None |" not in card and "test/accuracy" in card
    session = onnxruntime.InferenceSession(str(bundle / "model.onnx"))
    assert [output.name for output in session.get_outputs()] == ["embedding", "logits"]
    tables = []
    for i, model in enumerate((classifier, bundle, bundle / "model.onnx")):
        out = tmp_path / f"e{i}"
        assert run("embed", f"model={model}", f"recordings={toy_corpus.parent}", f"out={out}") == 0
        tables.append(np.stack(pq.read_table(out / "embeddings.parquet")["embedding"].to_pylist()))
    assert np.array_equal(tables[0], tables[1])
    assert np.linalg.norm(tables[2] - tables[0]) < 1e-4 * np.linalg.norm(tables[0])
    out = tmp_path / "scores"
    keys = ["evaluation.settings.resamples=5", "evaluation.protocol=[knn]"]
    assert run("evaluate", f"model={classifier}", f"corpus={toy_corpus}", f"out={out}", *keys) == 0
    assert "knn/accuracy" in json.loads((out / "metrics.json").read_text())
    assert "labels of its training side trained the encoder" in (out / "report.html").read_text()


def test_the_card_names_the_licence_that_the_model_or_its_teacher_came_with(classifier, tmp_path):
    for told, given, wanted in (
        ({}, "unknown", "unknown"),
        ({"teacher_licence": "cc-by-nc-4.0"}, "unknown", "cc-by-nc-4.0"),
        ({"licence": "cc-by-4.0", "teacher_licence": "x"}, "unknown", "cc-by-4.0"),
        ({"licence": "cc-by-4.0"}, "mit", "mit"),
    ):
        assert licence_of(given, told) == wanted
    source = tmp_path / "source"
    source.mkdir()
    for name in ("model.safetensors", "golden.wav"):
        (source / name).write_bytes((classifier / name).read_bytes())
    config = json.loads((classifier / "config.json").read_text())
    config["training"] |= {"teacher_licence": "cc-by-nc-4.0"}
    (source / "config.json").write_text(json.dumps(config))
    out = tmp_path / "bundle"
    assert run("export", f"model={source}", f"out={out}") == 0
    assert (out / "README.md").read_text().startswith("---\nlicense: cc-by-nc-4.0\n")
    assert not (out / "thresholds.json").exists()
    meta = onnxruntime.InferenceSession(str(out / "model.onnx")).get_modelmeta().custom_metadata_map
    assert meta["license"] == "cc-by-nc-4.0" and meta["multilabel"] == "false"


# ------------------------------------------------------------ what it starts from


def test_a_pretrained_folder_gives_front_end_encoder_and_window(pretrained, toy_corpus, tmp_path):
    keys = ["transfer=frozen", f"init={pretrained}", *SPLIT, "compress=decibel", "encoder=vit_mini"]
    out = trained(toy_corpus, tmp_path / "run", *keys, small=KEYS)
    old, new = (json.loads((folder / "config.json").read_text()) for folder in (pretrained, out))
    for name in ("frontend", "compress", "encoder", "window_s", "outside", "sample_rate_hz"):
        assert old[name] == new[name], name
    assert (new["window_s"], new["outside"], new["frontend"]["hop_s"]) == (0.4, "zero", 0.01)
    assert new["training"]["init"] == str(pretrained) and new["training"]["encoder"] == "small_cnn"
    before, after = weights(pretrained), weights(out)
    assert set(after) - set(before) == {"classifier.weight", "classifier.bias"}
    for name, value in before.items():  # statistics of the front-end and of batch norms too
        assert torch.equal(value, after[name]), name
    assert not torch.equal(after["classifier.weight"], torch.zeros(()))


def test_a_window_that_is_asked_for_overrules_the_pretrained_one(pretrained, toy_corpus, tmp_path):
    keys = [f"init={pretrained}", "window.length_s=0.3", "window.outside=context"]
    config = json.loads((trained(toy_corpus, tmp_path / "run", *keys, small=KEYS) / "config.json").read_text())
    assert (config["window_s"], config["outside"]) == (0.3, "context")


def test_parts_that_the_pretrained_model_brings_are_said_to_be_left_aside(pretrained, toy_corpus, tmp_path, capsys):
    small = [key for key in SMALL if not key.startswith("encoder")]

    def said(name: str, *keys: str) -> list[str]:
        trained(toy_corpus, tmp_path / name, f"init={pretrained}", *keys, small=small)
        told = " ".join("".join(capsys.readouterr()).split())
        return re.findall(r"(\w+)= is left aside: init= brings its own", told)

    assert said("plain") == []
    assert said("other", "encoder=vit_mini", "frontend.bands=32") == ["frontend", "encoder"]


def test_the_test_rows_that_the_encoder_may_have_seen_are_told(pretrained, toy_corpus, tmp_path):
    out = trained(toy_corpus, tmp_path / "run", f"init={pretrained}", small=KEYS, report=True)
    assert "pretrained with another split of this corpus" in (out / "report.html").read_text()


@pytest.mark.parametrize("transfer", ["full", "layerwise", "last_stages", "frozen", "lora", "adapter"])
def test_every_transfer_trains_what_it_says(transfer, pretrained, toy_corpus, tmp_path):
    more = ["transfer.rank=2"] if transfer == "lora" else []
    out = trained(toy_corpus, tmp_path / "run", f"init={pretrained}", f"transfer={transfer}", *more, small=KEYS)
    before = {
        name.removeprefix("encoder."): v for name, v in weights(pretrained).items() if name.startswith("encoder.")
    }
    after = {name.removeprefix("encoder."): v for name, v in weights(out).items() if name.startswith("encoder.")}
    inside = {name.removeprefix("encoder.").replace("stage.", "") if transfer == "adapter" else name: v
              for name, v in after.items() if ".up." not in name and ".down." not in name}  # fmt: skip
    assert inside.keys() == before.keys()
    moved = {name for name in before if not torch.equal(before[name], inside[name])}
    if transfer in ("frozen", "adapter"):
        assert not moved
        assert (transfer == "adapter") == bool(after.keys() - inside.keys())
    elif transfer == "last_stages":
        assert moved == {"mix.0.weight", "mix.0.bias"}
    elif transfer == "lora":
        assert moved and all(before[name].ndim > 1 for name in moved)
    else:
        assert {"stem.0.weight", "stem.1.running_mean", "mix.0.weight"} <= moved
    model, info, _ = load_model(out)
    assert info.training["transfer"] == transfer and model.classifier is not None
    if transfer == "adapter":  # and trained on
        again = trained(toy_corpus, tmp_path / "again", f"init={out}", "transfer=lora", "transfer.rank=2", small=KEYS)
        assert load_model(again)[1].training["init"] == str(out)


# ------------------------------------------------------------ hidden labels


def known_of(monkeypatch) -> list[Known]:
    """What each of the runs that follow may know."""
    seen: list[Known] = []
    look = knowing.what_is_known

    def watched(cfg, corpus):
        seen.append(look(cfg, corpus))
        return seen[-1]

    monkeypatch.setattr(calls, "what_is_known", watched)
    return seen


@pytest.mark.parametrize(
    "settings",
    [
        ["objective=supervised", "views=background", "data.background=[up]"],
        ["objective=fixmatch", "objective.mask.threshold=0.0", "data.sampler.balance=0.5"],
        ["resampler=random_over", "loss=weighted"],
    ],
    ids=lambda settings: settings[0],
)
def test_labels_outside_the_budget_have_no_effect_on_the_weights(settings, toy_corpus, tmp_path, monkeypatch):
    seen = known_of(monkeypatch)
    keys = [*SPLIT, *settings, "data.background_windows=4"]
    whole = trained(toy_corpus, tmp_path / "whole", *keys, "labels_per_class=6")
    used = np.concatenate([seen[0].train, seen[0].calibration])
    assert len(used) == 24 and len(seen[0].calibration) >= 5
    # without the other labels
    blank = rewritten(
        toy_corpus, tmp_path / "blank",
        lambda rows: rows.assign(label=rows["label"].where(rows.index.isin(used) | (rows["group"] == "g5"), "")),
    )  # fmt: skip
    assert_same(whole, trained(blank, tmp_path / "b", *keys))
    # with others in their place, on the test side too; the same rows are drawn
    rng = np.random.default_rng(0)

    def scramble(rows: pd.DataFrame) -> pd.DataFrame:
        other = pd.Series(rng.permutation(rows["label"].to_numpy()), rows.index)
        return rows.assign(label=rows["label"].where(rows.index.isin(used), other))

    wrong = rewritten(toy_corpus, tmp_path / "wrong", scramble)
    monkeypatch.setattr(knowing, "spend", lambda *_: Budget(np.sort(used)))
    assert_same(whole, trained(wrong, tmp_path / "w", *keys))
    # while a label within it does have one
    some = seen[0].train[:9]
    mapped = {"up": "down", "down": "flat", "flat": "trill", "trill": "up"}
    right = rewritten(
        toy_corpus, tmp_path / "right",
        lambda rows: rows.assign(label=rows["label"].mask(rows.index.isin(some), rows["label"].map(mapped))),
    )  # fmt: skip
    monkeypatch.setattr(knowing, "hold_out", lambda rows, *_: (seen[0].train, seen[0].calibration, ""))
    changed = weights(trained(right, tmp_path / "r", *keys))
    assert any(not torch.equal(value, changed[name]) for name, value in weights(whole).items())


@pytest.mark.parametrize("objective", ["supervised", "mean_teacher"])
def test_rows_that_calibrate_or_test_are_not_trained_on(objective, toy_corpus, tmp_path, monkeypatch):
    seen = known_of(monkeypatch)
    keys = [*SPLIT, f"objective={objective}"]
    whole = trained(toy_corpus, tmp_path / "whole", *keys)
    held = seen[0].calibration
    assert len(held) == 16 and not np.isin(held, seen[0].train).any()

    def other_sounds(rows: pd.DataFrame) -> pd.DataFrame:
        for row in [*held, *np.flatnonzero(rows["group"] == "g5")]:
            path = tmp_path / f"{row}.wav"
            soundfile.write(path, np.random.default_rng(row).normal(0, 0.2, 4000), RATE_HZ, subtype="PCM_16")
            rows.loc[row, "path"] = str(path)
        return rows

    noisy = rewritten(toy_corpus, tmp_path / "noisy", other_sounds)
    again = trained(noisy, tmp_path / "n", *keys)
    assert_same(whole, again)
    a, b = (json.loads((folder / "metrics.json").read_text()) for folder in (whole, again))
    assert a["calibration/temperature"] != b["calibration/temperature"] and a["test/cmap"] != b["test/cmap"]


def test_the_draw_of_labels_has_a_seed_of_its_own(toy_corpus, tmp_path, monkeypatch):
    seen = known_of(monkeypatch)

    def no_further(*_: object) -> None:
        raise AudiorepError("no further")

    monkeypatch.setattr(verb, "start", no_further)
    for i, keys in enumerate((["labels_seed=1"], ["labels_seed=1", "seed=4"], ["seed=1"], ["labels_seed=2"])):
        assert (
            run("train", f"corpus={toy_corpus}", f"out={tmp_path / str(i)}", "labels_per_class=3", *SMALL, *keys) == 2
        )
    assert [known.train.tolist() == seen[0].train.tolist() for known in seen] == [True, True, True, False]


# ------------------------------------------------------------ resume


@pytest.mark.parametrize(
    "settings",
    [
        ["objective=supervised"],
        ["objective=mean_teacher"],
        ["objective=temporal_ensembling"],
        ["objective=flexmatch", "objective.mask.threshold=0.2"],
        ["objective=co_teaching"],
        ["objective=supervised", "mix=cutmix", "objective.dropout=0.3", "INIT", "transfer=layerwise"],
        ["objective=mean_teacher", "INIT", "transfer=lora", "transfer.rank=2"],
        ["resampler=random_over"],
    ],
    ids="-".join,
)
def test_a_run_that_was_stopped_in_mid_epoch_ends_in_the_same_weights(
    settings, pretrained, toy_corpus, tmp_path, monkeypatch
):
    started = "INIT" in settings
    keys = [f"init={pretrained}" if key == "INIT" else key for key in settings]
    keys += ["trainer.max_steps=6", "trainer.checkpoint_every_s=0", "trainer.health_every=100"]
    small = KEYS if started else SMALL
    whole = trained(toy_corpus, tmp_path / "whole", *keys, small=small)
    save, at = Checkpoint.save, 5

    def save_and_die(self, step, state, setting):
        save(self, step, state, setting)
        if step == at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(composing, "check_types", lambda *_: None)
        patched.setattr(Checkpoint, "save", save_and_die)
        patched.setattr(verb.Learner, "save", lambda self: self.checkpoint.save(self.step, self.state(), self.setting))
        assert run("train", f"corpus={toy_corpus}", f"out={tmp_path / 'cut'}", *small, *keys) != 0
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    assert_same(whole, trained(toy_corpus, tmp_path / "cut", *keys, "resume=true", small=small))


def test_a_finished_run_can_be_resumed_and_other_settings_are_refused(toy_corpus, tmp_path, capsys):
    out = trained(toy_corpus, tmp_path / "run", "labels_per_class=5")
    before = weights(out)
    trained(toy_corpus, out, "labels_per_class=5", "resume=true")
    assert all(torch.equal(value, before[name]) for name, value in weights(out).items())
    for key, words in (("labels_per_class=6", "labels_per_class=5, not 6"), ("labels_seed=3", "labels_seed"),
                       ("resampler=random_over", "resampler")):  # fmt: skip
        keys = [f"corpus={toy_corpus}", f"out={out}", *SMALL, "labels_per_class=5", "resume=true", key]
        assert words in refused(capsys, "train", *keys)


def test_overwriting_leaves_no_thresholds_of_the_earlier_run(toy_corpus, tmp_path):
    out = trained(toy_corpus, tmp_path / "run")
    keys = [key for key in SMALL if not key.startswith("calibration")]
    assert run("pretrain", f"corpus={toy_corpus}", f"out={out}", *keys, "overwrite=true", "evaluation.protocol=[]") == 0
    assert not (out / "thresholds.json").exists()


# ------------------------------------------------------------ other corpora, other parts


def several(rows: pd.DataFrame) -> pd.DataFrame:
    """Two labels in some rows, what is absent named in others, and some that say nothing or little."""
    label = rows["label"].copy()
    label[rows.index % 8 == 0] = "up|loud|-down"
    label[rows.index % 8 == 1] = "down|-up|-loud|-flat"
    label[rows.index % 8 == 2] = "flat|-down|-trill"
    label[rows.index % 8 == 3] = "trill|-up|-down|-flat|-loud"
    label[rows.index % 8 == 4] = "up|-trill"
    label[rows.index % 8 == 7] = ""
    return rows.assign(label=label)


@pytest.mark.parametrize("objective", ["supervised", "fixmatch"])
def test_several_labels_with_unknowns_train_and_are_judged_by_cmap(objective, toy_corpus, tmp_path):
    corpus = rewritten(toy_corpus, tmp_path, several)
    out = trained(corpus, tmp_path / "run", "labels.multilabel=true", f"objective={objective}", report=True)
    metrics = json.loads((out / "metrics.json").read_text())
    assert {"test/cmap", "mel/test/cmap", "test/macro_f1", "test/ap/loud"} <= metrics.keys()
    assert "test/accuracy" not in metrics
    assert facts(out)["multilabel"] is True and facts(out)["classes"] == ["down", "flat", "loud", "trill", "up"]
    assert json.loads((out / "thresholds.json").read_text())["multilabel"] is True
    assert "Not judged yet" not in (out / "report.html").read_text()


def test_a_detector_of_one_class_trains_from_present_and_absent(toy_corpus, tmp_path):
    corpus = rewritten(
        toy_corpus, tmp_path, lambda rows: rows.assign(label=np.where(rows["label"] == "trill", "trill", "-trill"))
    )
    out = trained(corpus, tmp_path / "run", "labels.multilabel=true")
    assert facts(out)["classes"] == ["trill"] and "test/cmap" in json.loads((out / "metrics.json").read_text())


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory) -> Path:
    """24 recordings of two seconds with a call somewhere in each; the label is the recording's."""
    folder = tmp_path_factory.mktemp("long")
    lines = ["path,label"]
    for i in range(24):
        wave = 0.01 * np.random.default_rng(i).normal(size=4 * 4000)
        place = (i % 4) * 4000
        wave[place : place + 4000] += tone(i % 4, i)
        soundfile.write(folder / f"{i:02d}.wav", wave, RATE_HZ, subtype="PCM_16")
        lines.append(f"{i:02d}.wav,{['up', 'down', 'flat', 'trill'][i % 4]}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    return folder / "rows.csv"


@pytest.mark.parametrize("pool", ["largest", "log_mean_exp"])
def test_labels_of_whole_recordings_train(pool, long_corpus, tmp_path):
    keys = ["objective=weak_labels", f"pool={pool}", "window.length_s=0.5", "calibration.least=3"]
    out = trained(long_corpus, tmp_path / "run", *keys)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["test/rows"] == 5 and metrics["calibration/rows"] >= 3


@pytest.mark.parametrize(
    "settings",
    [
        ["loss.smoothing=0.1"],
        ["loss=effective"],
        ["loss=focal"],
        ["loss=logit_adjusted"],
        ["loss=weighted"],
        ["mix=mixup"],
        ["mix=cutmix"],
        ["resampler=tomek"],
        ["objective=self_distill"],
        ["objective=mixmatch"],
        ["objective=domain_adversarial_supervised", "data.domain=group"],
        ["label_fraction=0.5", "data.batch_size=128"],
        ["calibration.fraction=0"],
    ],
    ids="-".join,
)
def test_other_parts_train_too(settings, toy_corpus, tmp_path):
    out = trained(toy_corpus, tmp_path / "run", "trainer.max_steps=2", *settings)
    assert "test/balanced_accuracy" in json.loads((out / "metrics.json").read_text())
    thresholds = json.loads((out / "thresholds.json").read_text())
    assert (thresholds["temperature"] == 1.0) or "calibration.fraction=0" not in settings


def test_of_two_peers_both_are_judged_and_the_first_is_kept(toy_corpus, tmp_path):
    out = trained(toy_corpus, tmp_path / "run", "objective=mutual_learning", "optimizer.lr=0.01")
    found = json.loads((out / "metrics.json").read_text())
    scores = [name for name in found if name.startswith("test/") and f"peer/{name}" in found]
    assert {"test/accuracy", "test/macro_f1", "test/macro_f1/low"} <= set(scores)
    assert any(found[name] != found[f"peer/{name}"] for name in scores)
    assert not [name for name in weights(out) if "second" in name or "peer" in name]


def test_classes_of_few_rows_count_as_unlabelled(toy_corpus, tmp_path, capsys):
    def rare(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(label=np.where(rows.index < 3, "boom", rows["label"]))

    corpus = rewritten(toy_corpus, tmp_path, rare)
    out = trained(corpus, tmp_path / "run", "labels.least=4")
    assert facts(out)["classes"] == ["down", "flat", "trill", "up"]
    assert "fewer than labels.least=4 rows count as unlabelled: boom (3)" in capsys.readouterr().err


def test_a_resampler_draws_the_rows_that_it_chose(toy_corpus, tmp_path, monkeypatch):
    """Of classes of unequal size random_over makes equals, of labelled training rows alone."""
    rare = rewritten(
        toy_corpus, tmp_path,
        lambda rows: rows.assign(label=rows["label"].where((rows["label"] != "up") | (rows.index % 16 == 0), "")),
    )  # fmt: skip
    seen = []
    make = verb.make_learner

    def look(cfg, model, windows, *rest, **more):
        seen.append((windows.times, windows.label))
        return make(cfg, model, windows, *rest, **more)

    monkeypatch.setattr(verb, "make_learner", look)
    trained(rare, tmp_path / "run", *SPLIT, "resampler=random_over", "trainer.max_steps=1")
    ((times, label),) = seen
    assert (times[label < 0] == 0).all()
    drawn = [int(times[label == c].sum()) for c in range(4)]
    assert len(set(drawn)) == 1 and (label == 3).sum() < drawn[3]


# ------------------------------------------------------------ what a user may get wrong


def test_classes_that_one_side_lacks_are_named(toy_corpus, tmp_path):
    def change(rows: pd.DataFrame) -> pd.DataFrame:
        label = rows["label"].copy()
        label[(label == "up") & (rows["group"] != "g5")] = "down"
        label[(label == "flat") & (rows["group"] == "g5")] = "down"
        return rows.assign(label=label)

    corpus = rewritten(toy_corpus, tmp_path, change)
    out = trained(corpus, tmp_path / "run", *SPLIT, report=True)
    text = (out / "report.html").read_text().replace("&#39;", "'")
    assert "class 'up' has no label on the training side: it cannot be learned" in text
    assert "class 'flat' has no label on the test side: it is learned" in text
    assert facts(out)["classes"] == ["down", "flat", "trill"]
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["test/rows"] == 12 and "test/recall/flat" not in metrics  # 4 rows of up are not judged


def test_a_class_with_fewer_labels_than_the_budget_is_named(toy_corpus, tmp_path):
    corpus = rewritten(
        toy_corpus, tmp_path, lambda rows: rows.assign(label=rows["label"].mask(rows.index == 1, "rare"))
    )
    out = trained(corpus, tmp_path / "run", *SPLIT, "labels_per_class=4", report=True)
    text = (out / "report.html").read_text()
    assert "fewer than labels_per_class=4 labels on the training side, all are used: rare (1)" in text
    assert facts(out)["labelled_rows"] <= 17


@pytest.mark.parametrize(
    "keys, words",
    [
        (["objective=simclr"], "objective=simclr trains no classifier: use audiorep pretrain objective=simclr"),
        (["objective=supervized"], "did you mean 'supervised'"),
        (["init=nowhere"], "init=nowhere: no config.json there; name the out= folder of pretrain or train, a bundle"),
        (["transfer=frozen"], "transfer=frozen keeps weights as they are, and without init= they are random"),
        (["init=PRETRAINED", "transfer.count=9", "transfer=last_stages"], "SmallCnn has 5 stages"),
        (["init=PRETRAINED", "transfer=lora", "transfer.rank=1000"], "no weight that is wider"),
        (["init=PRETRAINED", "transfer=adapter", "transfer.width=0"], "transfer.width=0"),
        (["init=PRETRAINED", "window.length_s=0.001"], "shorter than n_fft"),
        (["init=PRETRAINED", "window.length_s=1s"], "window.length_s=1s: a number is needed"),
        (["window.length_s=0.001"], "shorter than n_fft"),
        (["transfer=layerwise", "transfer.decay=2"], "transfer.decay=2"),
        (["labels_per_class=0"], "labels_per_class=0: at least one label"),
        (["labels_per_class=five"], "labels_per_class=five: a whole number is needed"),
        (["labels_seed=x"], "labels_seed=x: a whole number is needed"),
        (["label_fraction=half"], "label_fraction=half: a number is needed"),
        (["label_fraction=0.5", "labels_per_class=3"], "give one of them"),
        (["calibration.fraction=1"], "calibration.fraction=1 must lie in [0, 1)"),
        (["calibration.precision=90"], "calibration.precision=90 must lie in (0, 1]"),
        (["loss=focl"], "did you mean 'focal'"),
        (["mix=mixup", "objective=weak_labels"], "mix=: the chosen objective has no such part"),
        (["pool=mean"], "pool=: the chosen objective has no such part"),
        (["resampler=smote"], "resampler=random_over"),
        (["objective=distill"], "train needs teacher.model="),
        (["objective=distill", "teacher.model=nowhere"], "teacher.model=nowhere: there is no such folder or file"),
        (["objective=distill", "teacher.model=FOLDER"], "no config.json there"),
        (["objective=distill", "teacher.model=MANIFEST"], "not an ONNX model"),
        (["objective=fixmatch", "views=calls"], "needs 1 view(s) of the kind"),
        (["objective.dropout=1.5"], "objective.dropout=1.5 must lie in [0, 1)"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_gets_one_clear_line(keys, words, pretrained, toy_corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        composing, "check_types", lambda *_: None
    )  # has its own tests, and takes as long as all the rest
    places = {"MANIFEST": toy_corpus, "PRETRAINED": pretrained, "FOLDER": toy_corpus.parent}
    for name, path in places.items():
        keys = [key.replace(name, str(path)) for key in keys]
    small = KEYS if any(key.startswith(("init=", "encoder=")) for key in keys) else SMALL
    message = refused(capsys, "train", f"corpus={toy_corpus}", f"out={tmp_path / 'run'}", *small, *keys)
    assert words in message
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize(
    "change, keys, words",
    [
        (lambda rows: rows.drop(columns="label"), [], "0 class(es) have labels to train on"),
        (lambda rows: rows.assign(label="up"), [], "1 class(es) have labels to train on, at least 2 are needed"),
        (lambda rows: rows.assign(label="up"), ["labels.multilabel=true"],
         "class 'up' is not known to be absent from any row"),
        (lambda rows: rows.assign(label=np.where(rows["group"] == "g5", rows["label"], "")), SPLIT,
         "class 'down' has no label on the training side"),
        (several, [], "say labels.multilabel=true"),
        (lambda rows: rows.assign(label=np.where(rows.index % 2, "up|down", "flat")), ["labels.multilabel=true"],
         "set labels.complete=true; else say '-down' of some"),
        (lambda rows: rows.assign(label=np.where(rows.index % 2, "up", "")), ["labels.multilabel=true"],
         "at least 1 are needed"),
        (lambda rows: rows.assign(label="-up"), ["labels.multilabel=true"],
         "class 'up' is only ever said to be absent"),
        (several, ["labels.multilabel=true", "resampler=tomek"], "choose resampler=none"),
        (several, ["labels.multilabel=true", "split.by=place"], "split.by=place: the corpus has no such column"),
    ],
)  # fmt: skip
def test_corpora_that_cannot_teach_get_one_clear_line(change, keys, words, toy_corpus, tmp_path, capsys):
    corpus = rewritten(toy_corpus, tmp_path, change)
    message = refused(capsys, "train", f"corpus={corpus}", f"out={tmp_path / 'run'}", *SMALL, *keys)
    assert words in message and not (tmp_path / "run" / "model.safetensors").exists()


def test_a_folder_of_recordings_without_annotations_is_refused(toy_corpus, tmp_path, capsys):
    keys = [f"corpus={toy_corpus.parent}", "format=recordings", f"out={tmp_path / 'run'}", *SMALL]
    assert "0 class(es) have labels to train on" in refused(capsys, "train", *keys)


def test_files_that_cannot_be_decoded_are_left_out_and_named(toy_corpus, tmp_path):
    def change(rows: pd.DataFrame) -> pd.DataFrame:
        soundfile.write(tmp_path / "nan.wav", np.full(4000, np.nan), RATE_HZ, subtype="FLOAT")
        rows.loc[rows.index[:8], "path"] = str(tmp_path / "nan.wav")
        return rows

    corpus = rewritten(toy_corpus, tmp_path, change)
    out = trained(corpus, tmp_path / "run", *SPLIT, "trainer.max_steps=6", report=True)
    text = (out / "report.html").read_text()
    assert "8 row(s) cannot be decoded and are not scored" in text and "left out while training" in text
