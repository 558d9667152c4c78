"""A study runs every cell once, journals it, goes on where it stopped, and says what each ended with."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from audiorep.errors import AudiorepError
from audiorep.study import cells as module
from audiorep.study.cells import Cell, read_journal, run_cell, run_cells

CELLS = [Cell(f"c{i}", "pretrain", [f"seed={i}"], {"seed": i}) for i in range(4)]


@pytest.fixture()
def ran(monkeypatch):
    """Names of the cells that were run; c2 fails once, c3 is refused."""
    names = []

    def pretend(cell, out, threads, digest):
        names.append(cell.name)
        status = {"c2": "failed" if names.count("c2") == 1 else "done", "c3": "refused"}.get(cell.name, "done")
        return {**cell.facts, "command": cell.command, "status": status}

    monkeypatch.setattr(module, "run_cell", pretend)
    return names


def test_every_cell_is_run_once_and_journalled(ran, tmp_path):
    told = []
    entries = run_cells(CELLS, tmp_path / "j", tmp_path, dict, told=lambda *what: told.append(what))
    assert sorted(ran) == ["c0", "c1", "c2", "c3"] and told[0] == (0, 4, "") and told[-1][:2] == (4, 4)
    assert read_journal(tmp_path / "j") == entries
    assert {name: entry["status"] for name, entry in entries.items()} == {
        "c0": "done", "c1": "done", "c2": "failed", "c3": "refused",
    }  # fmt: skip


def test_a_second_start_runs_only_what_is_missing_or_failed(ran, tmp_path):
    run_cells(CELLS[:3], tmp_path / "j", tmp_path, dict)
    ran.clear()
    entries = run_cells(CELLS, tmp_path / "j", tmp_path, dict)
    assert sorted(ran) == ["c2", "c3"] and entries["c2"]["status"] == "failed" and entries["c3"]["status"] == "refused"
    run_cells(CELLS, tmp_path / "j", tmp_path, dict)
    assert sorted(ran) == ["c2", "c2", "c3", "c3"]  # what was refused for a full disk, say, is asked again


def test_a_cell_with_other_settings_is_run_again_and_cells_of_other_studies_are_left_out(ran, tmp_path):
    run_cells(CELLS[:2], tmp_path / "j", tmp_path, dict)
    ran.clear()
    changed = replace(CELLS[0], command="pretrain trainer.max_steps=4000")
    entries = run_cells([changed], tmp_path / "j", tmp_path, dict)
    assert ran == ["c0"] and list(entries) == ["c0"] and entries["c0"]["command"] == changed.command


@pytest.mark.parametrize("counts", [{"workers": 0}, {"threads": 0}])
def test_without_workers_or_threads_nothing_can_run(tmp_path, counts):
    with pytest.raises(AudiorepError, match="at least one of each"):
        run_cells(CELLS, tmp_path / "j", tmp_path, dict, **counts)


def test_output_that_cannot_be_digested_fails_its_cell_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(module.subprocess, "run", lambda *args, **named: SimpleNamespace(returncode=0, stdout=""))

    def digest(cell, out):
        if cell.name == "c1":
            raise KeyError("macro_f1")
        return {"metrics": {}}

    entries = run_cells(CELLS, tmp_path / "j", tmp_path, digest)
    assert [entries[f"c{i}"]["status"] for i in range(4)] == ["done", "failed", "done", "done"]
    assert "macro_f1" in entries["c1"]["message"] and read_journal(tmp_path / "j") == entries


def test_no_cell_is_started_after_the_hours_are_over(ran, tmp_path):
    assert run_cells(CELLS, tmp_path / "j", tmp_path, dict, hours=0.0) == {} and ran == []


def test_two_cells_of_one_name_are_refused(tmp_path):
    with pytest.raises(AudiorepError, match="same name"):
        run_cells([CELLS[0], CELLS[0]], tmp_path / "j", tmp_path, dict)


def test_a_broken_journal_names_the_file(tmp_path):
    (tmp_path / "c0.json").write_text("{")
    with pytest.raises(AudiorepError, match=r"c0\.json"):
        read_journal(tmp_path)


def test_a_cell_that_refuses_its_input_keeps_the_reason(tmp_path):
    cell = Cell("x", "pretrain", [f"corpus={tmp_path / 'none.csv'}"], {"seed": 0})
    entry = run_cell(cell, tmp_path / "x", 1, lambda cell, out: {})
    assert entry["status"] == "refused" and "none.csv" in entry["message"] and entry["seed"] == 0
    json.dumps(entry)
