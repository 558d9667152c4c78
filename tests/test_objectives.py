"""Objectives as a user meets them: the table, a made-up one in one YAML, resumed runs, and refusals before training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hydra.utils import instantiate
from safetensors.torch import load_file
from test_cli import TINY, refused, run
from toy import RATE_HZ, tone

from audiorep import cli, composing
from audiorep.batch_size import BATCH
from audiorep.checkpoint import Checkpoint
from audiorep.composing import compose
from audiorep.errors import AudiorepError
from audiorep.objectives.base import Setting
from audiorep.verbs import pretrain as verb

SMALL = [item for item in TINY if "projector" not in item]
SMALL += ["logger=none", "evaluation.protocol=[health]"]


EXPERIMENTS = sorted(str(p.relative_to("configs/experiment"))[:-5] for p in Path("configs/experiment").rglob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_makes_an_objective(experiment):
    cfg = compose("pretrain", ["corpus=x", "out=x", f"experiment={experiment}", "frontend.sample_rate_hz=8000"])
    objective = instantiate(cfg.objective, encoder=instantiate(cfg.encoder))
    objective.prepare(
        Setting(
            10**6,
            BATCH if cfg.data.batch_size == "auto" else cfg.data.batch_size,
            {"global": 2, "local": 2},
            epochs=9.0,
        )
    )
    assert experiment in ("small", "gpu") or experiment == f"large/{cfg.chosen.objective}"


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory) -> Path:
    """Three recordings of 40 tones, cut into unlabelled rows of half a second."""
    folder = tmp_path_factory.mktemp("long")
    lines = ["path,start_s,end_s,label"]
    for recording in range(3):
        wave = np.concatenate([tone(i % 4, 40 * recording + i) for i in range(40)])
        soundfile.write(folder / f"{recording}.wav", wave, RATE_HZ, subtype="PCM_16")
        lines += [f"{recording}.wav,{i / 2},{i / 2 + 0.5}," for i in range(40)]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "rows.csv"


def test_a_made_up_objective_of_existing_parts_is_one_yaml(toy_corpus, tmp_path, monkeypatch):
    configs = tmp_path / "configs"
    shutil.copytree("configs", configs)
    (configs / "objective" / "slow_barlow.yaml").write_text(
        """# @package _global_
about: {what: Barlow Twins against a slow teacher, source: made up, needs: two views, choose: never}
objective:
  _target_: audiorep.objectives.joint.JointEmbedding
  projector: {_target_: audiorep.heads.Mlp, _partial_: true, hidden: 64, outputs: 32}
  predictor: {_target_: audiorep.heads.Mlp, _partial_: true, hidden: 64, outputs: 32}
  teacher: {_target_: audiorep.teachers.Ema, _partial_: true, momentum: 0.9}
  loss: {_target_: audiorep.losses.redundancy.BarlowTwins}
"""
    )
    monkeypatch.setattr(cli, "configs", lambda: configs)
    monkeypatch.setattr(composing, "configs", lambda: configs)
    out = tmp_path / "run"
    assert run("pretrain", f"corpus={toy_corpus}", f"out={out}", "objective=slow_barlow", *SMALL) == 0
    assert (out / "model.safetensors").exists() and (out / "report.html").exists()


@pytest.mark.parametrize(
    "settings",
    [
        ["objective=deepcluster", "objective.clusters=8"],
        ["objective=moco", "objective.memory.size=64"],
        ["objective=moco", "objective.memory=null"],
        ["objective=info_nce", "positives=clusters", "positives.clusters=8", "positives.from_epoch=1"],
        ["objective=triplet", "mining=scheduled"],
        ["objective=domain_adversarial", "data.domain=group"],
        ["objective=deepcluster", "objective.clusters=8", "data.workers=1"],
    ],
    ids="-".join,
)
def test_a_run_that_was_stopped_in_mid_epoch_ends_in_the_same_weights(settings, toy_corpus, tmp_path, monkeypatch):
    steps = ["trainer.max_steps=9", "trainer.checkpoint_every_s=0"]  # four steps an epoch

    def train(out: Path, *more: str) -> dict[str, torch.Tensor]:
        assert run("pretrain", f"corpus={toy_corpus}", f"out={out}", *SMALL, *settings, *steps, *more) == 0
        return load_file(out / "model.safetensors")

    whole = train(tmp_path / "whole")
    save = Checkpoint.save

    def save_and_die(self, step, state, setting):
        save(self, step, state, setting)
        if step == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", save_and_die)
        patched.setattr(verb.Learner, "save", lambda self: self.checkpoint.save(self.step, self.state(), self.setting))
        status = run("pretrain", f"corpus={toy_corpus}", f"out={tmp_path / 'cut'}", *SMALL, *settings, *steps)
        assert status != 0
    resumed = train(tmp_path / "cut", "resume=true")
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_test_labels_stay_hidden_even_where_the_test_rows_are_heard(toy_corpus, tmp_path, monkeypatch):
    seen = {}

    def look(cfg, model, windows, *rest, **facts):
        seen["label"] = windows.label.copy()
        raise AudiorepError("seen")

    monkeypatch.setattr(verb, "make_learner", look)
    keys = [f"corpus={toy_corpus}", f"out={tmp_path / 'run'}", "objective=supcon", "transductive=true"]
    assert run("pretrain", *keys, *SMALL) == 2
    rows = pd.read_csv(toy_corpus)
    hidden = seen["label"] < 0
    assert 0 < hidden.sum() < len(rows) == len(hidden)
    assert not set(rows["group"][hidden]) & set(rows["group"][~hidden])


def test_labels_that_train_are_told(toy_corpus, tmp_path, capsys):
    out = tmp_path / "run"
    assert run("pretrain", f"corpus={toy_corpus}", f"out={out}", "objective=supcon", *SMALL) == 0
    assert json.loads((out / "config.json").read_text())["training"]["labels_used"] is True
    assert "labels of the training side trained the encoder" in (out / "report.html").read_text()


def test_a_run_without_gradient_stops(toy_corpus, tmp_path, capsys):
    keys = ["objective=triplet", "mining=easy", "mining.eps=5.0", "trainer.log_every=1", "trainer.max_steps=20"]
    message = refused(capsys, "pretrain", f"corpus={toy_corpus}", f"out={tmp_path / 'run'}", *SMALL, *keys)
    assert "no trained parameter had a gradient at 5 looks in a row up to step 5" in message


@pytest.mark.parametrize("positives", ["labels", "clusters"])
def test_every_source_of_positives_trains(positives, toy_corpus, tmp_path):
    more = ["positives.clusters=8", "positives.from_epoch=0"] if positives == "clusters" else []
    command = ["pretrain", f"corpus={toy_corpus}", f"out={tmp_path / 'run'}", "objective=supcon"]
    assert run(*command, f"positives={positives}", *more, *SMALL) == 0


def test_neighbours_in_time_train_without_labels(long_corpus, tmp_path):
    command = ["pretrain", f"corpus={long_corpus}", f"out={tmp_path / 'run'}", "objective=info_nce", "positives=time"]
    assert run(*command, "positives.within_s=1.0", *SMALL) == 0


def test_a_batch_in_pieces_ends_in_the_same_weights(toy_corpus, tmp_path):
    command = ["pretrain", f"corpus={toy_corpus}", "encoder=convnext_mini", *SMALL]
    command = [item for item in command if not item.startswith("encoder.")]
    weights = []
    for pieces in (1, 4):
        out = tmp_path / str(pieces)
        assert run(*command, f"out={out}", f"trainer.accumulate={pieces}", "trainer.max_steps=2") == 0
        weights.append(load_file(out / "model.safetensors"))
    for name, value in weights[0].items():
        torch.testing.assert_close(
            weights[1][name], value, rtol=1e-3, atol=2e-4, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["data.batch_size=1"], "data.batch_size=1: at least 2 windows"),
        (["data.batch_size=500"], "fewer than a batch of 500: lower data.batch_size"),
        (["objective=swav"], "objective.prototypes=64: more than the 16 samples"),
        (["objective=dino"], "objective.prototypes=256: more than the"),
        (["objective=moco", "objective.memory.size=8"], "objective.memory.size=8 is smaller than a batch of 16"),
        (["objective=obow", "objective.words=8"], "objective.words=8 is smaller than a batch"),
        (["objective=deepcluster", "objective.clusters=1000"], "objective.clusters=1000: more than the"),
        (["objective=info_nce", "positives=time"], "no two windows of a recording start within 2 s"),
        (["objective=info_nce", "positives=clusters", "positives.clusters=70"], "fewer than two rows a cluster"),
        (
            ["objective=simclr", "mining=hard"],
            "mining=: the chosen objective has no such part; those that have it: info_nce",
        ),
        (["objective=simclr", "positives=labels"], "those that have it: debiased, domain_contrastive"),
        (["objective=simclr", "views=clean"], "needs 2 view(s) of the kind 'global', and views= makes 1 global"),
        (["objective=info_nce", "views=crop"], "needs 2 view(s) of the kind 'global'"),
        (["objective=vicreg_branches", "views=byol_a"], "needs 1 view(s) of the kind 'other'"),
        (["objective=swav", "encoder=hubert_mini"], "are samples, and their augmentations are for spectrograms"),
        (["frontend=waveform"], "SmallCnn takes a spectrogram and the front-end Waveform gives samples"),
        (["trainer.precision=16-mixed"], "use bf16-mixed"),
        (["trainer.accumulate=4"], "choose encoder=convnext_mini or a ViT"),
        (["trainer.accumulate=0"], "trainer.accumulate=0 must be 1 or more"),
        (["objective=msn", "encoder=small_cnn"], "hides patches, and SmallCnn has none"),
        (["objective=byol", "objective.predictor.outputs=99"], "must equal objective.projector.outputs"),
        (["evaluation.shortcut=[microphone]"], "the corpus has no such column"),
        (["objective=domain_adversarial"], "data.domain knows 0 on the training side: name the column"),
        (["objective=domain_adversarial", "data.domain=place"], "data.domain=place: the corpus has no such column"),
        (["objective=domain_contrastive"], "data.domain=COLUMN"),
        (["objective=domain_negatives", "data.domain=label"], "data.domain=label: that is what"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_refused_before_training(settings, words, toy_corpus, tmp_path, capsys):
    rest = [item for item in SMALL if item.split("=")[0] not in {setting.split("=")[0] for setting in settings}]
    if any("accumulate" in item or "encoder=" in item or "msn" in item for item in settings):
        rest = [item for item in rest if not item.startswith("encoder.")]
    message = refused(capsys, "pretrain", f"corpus={toy_corpus}", f"out={tmp_path / 'run'}", *rest, *settings)
    assert words in message
    assert not (tmp_path / "run" / "last.ckpt").exists() and not (tmp_path / "run" / "model.safetensors").exists()


def test_positives_by_label_without_labels_are_refused(long_corpus, tmp_path, capsys):
    message = refused(
        capsys, "pretrain", f"corpus={long_corpus}", f"out={tmp_path / 'run'}", "objective=supcon", *SMALL
    )
    assert "positives=augmentation" in message
