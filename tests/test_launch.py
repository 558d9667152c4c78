"""Runs as jobs: submitted with what they need, really run, their results and failures brought back."""

import re
import sys

import pyarrow.parquet as pq
import pytest
import torch
from test_cli import refused, run
from test_journal import recordings
from toy import PARTS, RATE_HZ, model_of

from audiorep.composing import configs
from audiorep.encoders.cnn import SmallCnn
from audiorep.launch import Attempt, Task
from audiorep.model import ModelInfo, save_model

submitit = pytest.importorskip("submitit")
SBATCH = """#!/bin/sh
cat "$1" > "{seen}"
echo Submitted batch job 42
"""


@pytest.fixture
def embedding(tmp_path) -> list[str]:
    """A command that takes a moment."""
    torch.manual_seed(0)
    save_model(model_of(SmallCnn(width=8, dim=32)), PARTS, ModelInfo(RATE_HZ, 0.5), tmp_path / "model")
    recordings(tmp_path / "in", 4)
    jobs = ["launcher=slurm", f"launcher.folder={tmp_path / 'jobs'}"]
    return ["embed", f"model={tmp_path / 'model'}", f"recordings={tmp_path / 'in'}", f"out={tmp_path / 'out'}", *jobs]


def test_a_job_runs_in_a_process_of_its_own_and_its_status_comes_back(embedding, tmp_path, capsys):
    assert run(*embedding, "launcher.cluster=local", "launcher.mem_gb=null") == 3  # one recording is broken
    assert len(pq.read_table(tmp_path / "out" / "embeddings.parquet"))
    assert "submitted 1 job(s)" in capsys.readouterr().err
    (said,) = (tmp_path / "jobs").glob("*/*.err")
    assert "3 of 4 recording(s)" in said.read_text()


def test_a_sweep_of_jobs_goes_to_folders_of_their_own_and_one_failure_leaves_the_others(embedding, tmp_path, capsys):
    keys = [key for key in embedding if not key.startswith("out=")]
    said = refused(capsys, *keys, f"out={tmp_path / 'out'}", "-m", "hop_s=0.5,1e-8,0.25", "launcher.cluster=debug")
    assert "1 of 3 job(s) failed; hop_s-1e-08: hop_s=1e-08 is shorter than a sample" in said
    rows = {f"hop_s-{hop}": pq.read_metadata(tmp_path / "out" / f"hop_s-{hop}" / "embeddings.parquet").num_rows
            for hop in ("0.5", "0.25")}  # fmt: skip
    assert rows["hop_s-0.25"] > rows["hop_s-0.5"] > 0


def test_sbatch_is_told_what_a_job_needs(embedding, tmp_path, monkeypatch):
    seen, programs = tmp_path / "seen", tmp_path / "bin"
    programs.mkdir()
    for name in ("sbatch", "srun"):
        (programs / name).write_text(SBATCH.format(seen=seen))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    needs = ["partition=gpu", "account=birds", "hours=1.5", "gpus=8", "cpus=32", "mem_gb=64", "at_once=3", "wait=false"]
    given = [f"launcher.{need}" for need in needs]
    assert run(*embedding, *given, "+launcher.more.qos=long") == 0
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", seen.read_text(), re.MULTILINE))
    wanted = {"partition": "gpu", "account": "birds", "time": "90", "gpus-per-node": "8", "cpus-per-task": "32"}
    assert {key: asked.get(key) for key in wanted} == wanted
    assert asked["mem"] == "64GB" and asked["qos"] == "long" and asked["job-name"] == "audiorep-embed"
    assert not (tmp_path / "out").exists()


def test_a_job_whose_time_is_up_is_submitted_again_to_go_on(tmp_path):
    task = Task("embed", ("model=m", "recordings=r", "overwrite=true"), configs() / "embed.yaml", out=str(tmp_path))
    (again,) = Attempt().checkpoint(task).args
    assert again.compose().resume and not again.compose().overwrite and again.out == str(tmp_path)
    index = Task("index", ("recordings=r", "out=o.csv"), configs() / "index.yaml")
    assert Attempt().checkpoint(index).args == (index,)


def test_wrong_launchers_are_refused(embedding, capsys, monkeypatch, tmp_path):
    keys = embedding[:4]
    assert "launcher=slum does not exist, did you mean 'slurm'?" in refused(capsys, *keys, "launcher=slum")
    assert "no key 'partitoin', did you mean 'partition'?" in refused(capsys, *embedding, "launcher.partitoin=x")
    assert "hours=long: a number is needed" in refused(capsys, *embedding, "launcher.hours=long")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no sbatch here" in refused(capsys, *embedding)
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert "pip install 'audiorep[slurm]'" in refused(capsys, *embedding)
