"""A study runs every cell once, journals it, goes on where it stopped, and says what each ended with."""

import json

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
        return {**cell.facts, "status": status}

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
    assert sorted(ran) == ["c2", "c3"] and entries["c2"]["status"] == "failed"


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
