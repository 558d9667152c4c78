"""The same work for many recordings: resumed, in several processes and on Ray, with some that die."""

import importlib.util
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from test_cli import refused, run
from test_journal import content, recordings
from toy import PARTS, RATE_HZ, model_of
from works import SCHEMA, Opened, numbers, open_nothing

from audiorep.apply.bulk import process
from audiorep.apply.local import HERE, Local
from audiorep.apply.on_ray import Ray
from audiorep.encoders.cnn import SmallCnn
from audiorep.errors import AudiorepError
from audiorep.model import ModelInfo, save_model

with_ray = [pytest.mark.ray, pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is not installed")]
ENGINES = [pytest.param(Local(2), id="processes"), pytest.param(Ray(2), id="ray", marks=with_ray)]
deadly = partial(numbers, deadly=True)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One Ray for all tests that want one."""
    if not importlib.util.find_spec("ray"):
        yield
        return
    import ray

    here = {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}  # where the work of these tests is found
    ray.init(num_cpus=2, runtime_env=here, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    yield
    ray.shutdown()


def files(folder: Path, *texts: str) -> list[Path]:
    """A file a text; their names do not rise, so that only the order of the list can be the order of the rows."""
    folder.mkdir(parents=True)
    paths = [folder / f"{len(texts) - i}.txt" for i in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths


def rows(out: Path) -> list[tuple[str, int]]:
    return [(row["path"], row["number"]) for row in pq.read_table(out / "rows.parquet").to_pylist()]


def journalled(out: Path) -> dict[str, list[dict]]:
    lines = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()[1:]]
    return {Path(name).name: [x for x in lines if x["unit"] == name] for name in {x["unit"] for x in lines}}


def test_rows_stand_in_the_order_given_and_a_recording_may_have_none(tmp_path):
    paths = files(tmp_path / "in", "0", "3", "x", "0", "1", "0")
    failed = process(paths, numbers, tmp_path / "out", {}, "rows.parquet")
    assert failed == [(paths[2], "no number")]
    assert rows(tmp_path / "out") == [("5.txt", 0), ("5.txt", 1), ("5.txt", 2), ("2.txt", 0)]
    told = journalled(tmp_path / "out")
    assert [told[path.name][0].get("rows") for path in paths] == [0, 3, None, 0, 1, 0]
    assert process(paths, numbers, tmp_path / "out", {}, "rows.parquet") == failed


def test_nothing_found_anywhere_is_an_empty_table_and_nothing_readable_is_refused(tmp_path):
    process(files(tmp_path / "in", "0", "0"), numbers, tmp_path / "out", {}, "rows.parquet")
    found = pq.read_table(tmp_path / "out" / "rows.parquet")
    assert len(found) == 0 and found.schema == SCHEMA
    with pytest.raises(AudiorepError, match=r"none of 2 .*2.txt: no number"):
        process(files(tmp_path / "bad", "x", "y"), numbers, tmp_path / "none", {}, "rows.parquet")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_worker_that_is_killed_loses_and_doubles_nothing(engine, tmp_path):
    paths = files(tmp_path / "in", "5", "3 once", "x", "9 always", "0", "6 once", "2", "1")
    seen = []
    failed = process(paths, deadly, tmp_path / "out", {}, "rows.parquet", engine, lambda *at: seen.append(at))
    assert [path.name for path, _ in failed] == ["6.txt", "5.txt"]
    assert failed[0][1] == "no number" and "died, 2 times" in failed[1][1]
    assert seen == [(done, 8) for done in range(9)]
    assert all(len(lines) == 1 for lines in journalled(tmp_path / "out").values())
    process([path for path in paths if path.name != "5.txt"], numbers, tmp_path / "one", {}, "rows.parquet", HERE)
    assert rows(tmp_path / "out") == rows(tmp_path / "one") and len(rows(tmp_path / "one")) == 5 + 3 + 6 + 2 + 1
    assert (tmp_path / "out" / "rows.parquet").read_bytes() == (tmp_path / "one" / "rows.parquet").read_bytes()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_not_the_recordings_fault_ends_all_and_can_be_gone_on_with(engine, tmp_path):
    paths = files(tmp_path / "in", "2", "full", "1", "4")
    with pytest.raises(AudiorepError, match="the disk is full"):
        process(paths, numbers, tmp_path / "out", {}, "rows.parquet", engine)
    assert not multiprocessing.active_children() and not (tmp_path / "out" / "rows.parquet").exists()
    paths[1].write_text("3")
    assert process(paths, numbers, tmp_path / "out", {}, "rows.parquet", engine) == []
    assert [name for name, _ in rows(tmp_path / "out")] == ["4.txt"] * 2 + ["3.txt"] * 3 + ["2.txt"] + ["1.txt"] * 4


@pytest.mark.parametrize("engine", ENGINES)
def test_work_that_cannot_be_opened_elsewhere_is_told(engine, tmp_path):
    with pytest.raises(AudiorepError, match="model=x: no such file"):
        process(
            files(tmp_path / "in", "2", "1", "4"), Opened(open_nothing), tmp_path / "out", {}, "rows.parquet", engine
        )


def test_processes_that_never_begin_are_not_started_for_ever(tmp_path):
    paths = files(tmp_path / "in", "2", "1", "4")
    with pytest.raises(AudiorepError, match="end before they begin, with status 7"):
        process(paths, Opened(os._exit, (7,)), tmp_path / "out", {}, "rows.parquet", Local(2))
    assert not multiprocessing.active_children()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save_model(model_of(SmallCnn(width=8, dim=32)), PARTS, ModelInfo(RATE_HZ, 0.5), out)
    return out


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=with_ray)])
def test_two_workers_leave_the_bytes_of_one(engine, model, tmp_path):
    recordings(tmp_path / "in", 8)
    given = ["embed", f"model={model}", f"recordings={tmp_path / 'in'}", "hop_s=0.1"]
    assert run(*given, f"out={tmp_path / 'one'}") == 3
    assert run(*given, f"out={tmp_path / 'two'}", "workers=2", f"engine={engine}") == 3
    assert content(tmp_path / "two") == content(tmp_path / "one")


def gone_within(seconds: float, group: int) -> None:
    """Wait for the last process of a group; fail where it stays."""
    end = time.monotonic() + seconds
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < end:
            os.killpg(group, 0)
            time.sleep(0.05)


def test_ctrl_c_ends_every_process_and_resume_goes_on(model, tmp_path):
    recordings(tmp_path / "in", 60)
    given = ["embed", f"model={model}", f"recordings={tmp_path / 'in'}", "hop_s=0.004"]
    out = tmp_path / "two"
    command = [sys.executable, "-m", "audiorep", *given, f"out={out}", "workers=2"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs would not hear it
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heard)
    while not list(out.glob("parts/[!.]*")):
        time.sleep(0.01)
        assert started.poll() is None, started.stderr.read()
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does
    said = started.communicate(timeout=30)[1]
    assert started.returncode == 130 and "interrupted" in said and "Traceback" not in said
    gone_within(5, started.pid)
    assert not (out / "embeddings.parquet").exists()
    assert run(*given, f"out={out}", "resume=true") == 3
    assert run(*given, f"out={tmp_path / 'one'}") == 3
    assert content(out) == content(tmp_path / "one")


def test_wrong_engines_are_refused(model, tmp_path, capsys, monkeypatch):
    recordings(tmp_path / "in", 2)
    given = ["embed", f"model={model}", f"recordings={tmp_path / 'in'}", f"out={tmp_path / 'out'}"]
    assert "workers=0: at least one is needed" in refused(capsys, *given, "workers=0")
    assert "there are: local, ray" in refused(capsys, *given, "engine=spark")
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'audiorep[ray]'" in refused(capsys, *given, "engine=ray", "workers=2")
