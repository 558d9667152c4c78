"""Several processes train through the verbs as one does on the joined batch; where one fails, all end with one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from multiprocessing import Pipe, active_children, get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
import torch.distributed as dist
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file
from test_cli import refused
from toy import RATE_HZ, tone

from audiorep import learner
from audiorep.checkpoint import Checkpoint
from audiorep.composing import compose
from audiorep.distributed import rank
from audiorep.errors import AudiorepError
from audiorep.processes import join, listen, part, start, verdict
from audiorep.training import check_world
from audiorep.verbs.pretrain import pretrain
from audiorep.verbs.train import train

WORLD, STEPS = 2, 6
VERBS = {"pretrain": pretrain, "train": train}
SMALL = [
    "encoder.width=8", "encoder.dim=32", f"trainer.max_steps={STEPS}", "trainer.precision=32-true", "data.batch_size=16",
    "data.workers=0", "trainer.health_every=2", "trainer.log_every=1", "trainer.accelerator=cpu", "optimizer=sgd",
    "optimizer.lr=0.01", "evaluation.settings.resamples=5",
]  # fmt: skip
HEADS = ["objective.projector.hidden=32", "objective.projector.outputs=16", "evaluation.protocol=[knn]"]
CASES = {
    "simclr": ["pretrain", "objective=simclr", *HEADS],
    "byol": ["pretrain", "objective=byol", *HEADS, "objective.predictor.hidden=32", "objective.predictor.outputs=16"],
    "augmented": ["pretrain", "objective=simclr", "views=specaugment", *HEADS],
    "supervised": ["train", "objective=supervised", "mix=mixup", "calibration.least=5"],
}
"""Contrast over the joined batch, a teacher, draws of masks and noise, labels that are mixed."""

ALIKE = 5e-3
"""Part of the way travelled by which rounding may lead the weights astray."""


def composed(name: str, corpus: Path, out: Path, *more: str):
    verb, *keys = CASES[name]
    return verb, compose(verb, [f"corpus='{corpus}'", f"out='{out}'", *SMALL, *keys, *more])


def serve(number: int, port: int, asked, answers) -> None:
    """Train what is asked for as one of two processes, which meet anew for every training."""
    torch.set_num_threads(1)
    store, meeting = dist.TCPStore("127.0.0.1", port, is_master=False), 0
    averaged = learner.average_gradients
    while (given := asked.get()) is not None:
        verb, cfg, apart = given
        learner.average_gradients = (lambda parameters: None) if apart else averaged
        meeting += 1
        try:
            join(cfg, number, store=dist.PrefixStore(str(meeting), store), rank=number, world_size=WORLD)
            answers.put(VERBS[verb](cfg))
        except Exception:
            answers.put(traceback.format_exc())
        finally:
            part()


@pytest.fixture(scope="module")
def pair():
    """Train on two processes; returns what each returns."""
    context, store = get_context("spawn"), dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    asked, answers = ([context.Queue() for _ in range(WORLD)] for _ in range(2))
    processes = [
        context.Process(target=serve, args=(n, store.port, asked[n], answers[n]), daemon=True) for n in range(WORLD)
    ]
    for process in processes:
        process.start()

    def ask(verb: str, cfg, apart: bool = False) -> list:
        cfg.trainer.devices = WORLD
        for queue in asked:
            queue.put((verb, cfg, apart))
        return [queue.get(timeout=280) for queue in answers]

    yield ask
    for queue in asked:
        queue.put(None)
    for process in processes:
        process.join(20)


@pytest.fixture(scope="module")
def alone(toy_corpus, tmp_path_factory):
    """Runs of one process, by case: their folders, with a copy of the checkpoint after every step."""
    done: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in done:
            done[name] = out = tmp_path_factory.mktemp(name) / "one"
            with pytest.MonkeyPatch.context() as patched:
                save = Checkpoint.save

                def kept(self, step, state, setting):
                    save(self, step, state, setting)
                    shutil.copy(self.path, out.parent / f"{step}.ckpt")

                patched.setattr(Checkpoint, "save", kept)
                verb, cfg = composed(name, toy_corpus, out, "trainer.checkpoint_every_s=0")
                VERBS[verb](cfg)
        return done[name]

    return of


def weights(path: Path) -> dict[str, torch.Tensor]:
    state = torch.load(path, weights_only=True)["state"]["weights"]
    return {name: value.double() for name, value in state.items() if value.is_floating_point()}


def astray(one: Path, several: Path) -> float:
    """How far the weights of a run end from those of another, as a part of the way that these went from step 1 on."""
    first, last, found = weights(one.parent / "1.ckpt"), weights(one / "last.ckpt"), weights(several / "last.ckpt")
    assert found.keys() == last.keys()
    far = [sum(float((a[name] - last[name]).square().sum()) for name in last) for a in (found, first)]
    assert far[1] > 0.0
    return (far[0] / far[1]) ** 0.5


def curves(out: Path) -> pd.DataFrame:
    (path,) = (out / "logs" / "csv").glob("version_*/metrics.csv")
    return pd.read_csv(path).set_index("step").drop(columns="windows_per_s")


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one_on_the_joined_batch(name, toy_corpus, alone, pair, tmp_path):
    out = tmp_path / "two"
    first, second = pair(*composed(name, toy_corpus, out))
    assert isinstance(first, dict) and first and second == {}, (first, second)
    one = alone(name)
    assert astray(one, out) < ALIKE
    pd.testing.assert_frame_equal(curves(out), curves(one), rtol=2e-3, atol=2e-4)
    names = [{path.name for path in folder.iterdir()} for folder in (out, one)]
    assert names[0] == names[1] and "model.safetensors" in names[0]
    assert first.keys() == json.loads((one / "metrics.json").read_text()).keys()


@pytest.mark.parametrize("name", ["simclr", "byol", "supervised"])
def test_processes_that_each_hold_a_part_of_the_weights_train_as_one_too(name, toy_corpus, alone, pair, tmp_path):
    one, out = alone(name), tmp_path / "two"
    out.mkdir()
    shutil.copy(one.parent / "3.ckpt", out / "last.ckpt")
    first, second = pair(*composed(name, toy_corpus, out, "resume=true", "trainer.strategy=fsdp"))
    assert isinstance(first, dict) and second == {}, (first, second)
    assert astray(one, out) < ALIKE
    for key, value in load_file(one / "model.safetensors").items():
        torch.testing.assert_close(load_file(out / "model.safetensors")[key], value, rtol=1e-3, atol=1e-4)
    states = [torch.load(path / "last.ckpt", weights_only=True)["state"]["optimizers"] for path in (one, out)]
    for wanted, found in zip(*(state[0]["state"].values() for state in states), strict=True):
        momentum = [state["momentum_buffer"] for state in (wanted, found)]
        assert float((momentum[1] - momentum[0]).norm()) <= 0.02 * float(momentum[0].norm()) + 1e-6


def test_objectives_that_need_whole_weights_between_steps_are_refused_parts(toy_corpus, pair, tmp_path):
    given = [f"corpus='{toy_corpus}'", f"out='{tmp_path}'", *SMALL, "objective=deepcluster", "objective.clusters=4"]
    answers = pair("pretrain", compose("pretrain", [*given, "trainer.strategy=fsdp", "overwrite=true"]))
    assert all("looks at the whole corpus between epochs" in answer for answer in answers), answers


def test_processes_that_do_not_average_are_found_out(toy_corpus, alone, pair, tmp_path):
    verb, cfg = composed("simclr", toy_corpus, tmp_path / "two")
    pair(verb, cfg, apart=True)
    assert astray(alone("simclr"), tmp_path / "two") > 0.05


def test_what_one_process_began_two_go_on_with(toy_corpus, alone, pair, tmp_path):
    one, out = alone("byol"), tmp_path / "two"
    out.mkdir()
    shutil.copy(one.parent / "3.ckpt", out / "last.ckpt")
    first, _ = pair(*composed("byol", toy_corpus, out, "resume=true"))
    assert isinstance(first, dict), first
    assert astray(one, out) < ALIKE
    assert curves(out).index.tolist() == [4, 5, 6]


def test_a_window_that_only_one_of_them_cannot_decode_holds_up_nobody(pair, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    lines = ["path,start_s,end_s,label,group"]
    for i in range(32):
        soundfile.write(folder / f"{i:02d}.flac", tone(i % 4, i, 2.0), RATE_HZ)
        lines.append(f"{i:02d}.flac,1.4,1.9,{'abcd'[i % 4]},g{i % 5}")
    broken = folder / "07.flac"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    (folder / "toy.csv").write_text("\n".join(lines) + "\n")
    out = tmp_path / "out"
    first, second = pair(*composed("simclr", folder / "toy.csv", out, "data.batch_size=8"))
    assert isinstance(first, dict) and second == {}, (first, second)
    assert pd.read_csv(out / "quarantine.csv")["path"].map(lambda path: Path(path).name).tolist() == ["07.flac"]
    losses = curves(out)["loss"]
    assert len(losses) == STEPS and np.isfinite(losses).all()


def test_a_collapse_stops_all_with_one_line(toy_corpus, tmp_path, capsys):
    keys = [
        f"corpus={toy_corpus}",
        f"out={tmp_path / 'out'}",
        *SMALL,
        *HEADS,
        "+collapse.rankme=1000",
        "collapse.patience=2",
    ]
    before = active_children()
    line = refused(capsys, "pretrain", *keys, "trainer.devices=2")
    assert "the representation collapsed: rankme" in line and "at step 4" in line
    assert set(active_children()) <= set(before)


@pytest.mark.slow
def test_torchrun_starts_them_too(toy_corpus, alone, tmp_path):
    out = tmp_path / "out"
    given = [*SMALL, *CASES["simclr"][1:], f"corpus={toy_corpus}", f"out={out}", "trainer.devices=2"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "audiorep"]
    done = subprocess.run([*torchrun, "pretrain", *given], capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    assert astray(alone("simclr"), out) < ALIKE and done.stderr.count("wrote ") == 1


def die(cfg: DictConfig) -> dict[str, float]:
    """A training whose second process is killed while the first waits for it."""
    if rank():
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()
    return {}


@pytest.mark.slow
def test_one_that_is_killed_takes_the_others_along(tmp_path):
    cfg = OmegaConf.create({"out": str(tmp_path), "trainer": {"accelerator": "cpu"}})
    before = active_children()
    with pytest.raises(AudiorepError, match="process 1 of 2 died"):
        start(die, cfg, 2)
    assert set(active_children()) <= set(before)


def test_of_two_failures_the_cause_is_told_and_not_its_consequence():
    (first, a), (second, b) = Pipe(duplex=False), Pipe(duplex=False)
    a.send(RuntimeError("connection closed by peer"))
    b.close()
    with pytest.raises(AudiorepError, match="process 1 of 2 died"):
        verdict(listen([first, second], None))
    c, d = Pipe(duplex=False), Pipe(duplex=False)
    d[1].send({"loss": 1.0})
    began = time.monotonic()
    assert (
        listen([c[0], d[0]], 0.1) == {1: {"loss": 1.0}} and time.monotonic() - began < 1.0
    )  # interrupted, one stays silent
    c[1].send({"loss": 2.0})
    d[1].send({})
    assert verdict(listen([c[0], d[0]], None)) == {"loss": 2.0}


def test_what_cannot_be_shared_out_is_refused(toy_corpus, tmp_path, capsys, monkeypatch):
    keys = ["pretrain", f"corpus={toy_corpus}", f"out={tmp_path / 'out'}", *SMALL, *HEADS]
    assert "data.batch_size=16 must be a multiple of the 3" in refused(capsys, *keys, "trainer.devices=3")
    assert "trainer.devices=0: a whole number from 1" in refused(capsys, *keys, "trainer.devices=0")
    assert "torchrun --nnodes 2" in refused(capsys, *keys, "trainer.nodes=2")
    assert "there are: auto, ddp, fsdp" in refused(capsys, *keys, "trainer.strategy=zero")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "torchrun started 2 processes" in refused(capsys, *keys)
    assert "leave torchrun away" in refused(capsys, "embed", "model=x", "recordings=x")
    assert "leave torchrun away" in refused(capsys, *keys, "-m", "seed=1,2")
    monkeypatch.undo()
    with pytest.raises(AudiorepError, match="pretrain and train, and in the stages"):
        check_world(composed("simclr", toy_corpus, tmp_path, "trainer.devices=2")[1])
