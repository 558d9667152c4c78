"""The harness counts right: rounds in turns, ratios round by round, peers that are missing, slow, wrong or broken."""

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch

from audiorep.errors import AudiorepError
from benchmarks import report
from benchmarks.__main__ import main, modules, read, run, settings
from benchmarks.harness import OURS, Case, Result, measure, read_clock
from benchmarks.peers import imported, stand_in


class Watch:
    """A clock that only sides move: one core works half of the time that passes."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, []

    def read(self) -> tuple[float, float]:
        return self.now, self.now / 2.0

    def side(self, name: str, *seconds: float, answer: Any = None) -> Callable[[], Any]:
        """Takes these seconds, one after the other, then the last again and again."""
        left = list(seconds)

        def work() -> Any:
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return answer

        return work


def broken() -> None:
    raise ValueError("no such\nthing")


def test_sides_take_turns_after_a_warm_up_and_ratios_are_those_of_the_rounds():
    watch = Watch()
    ours, theirs = watch.side("ours", 9.0, 1.0, 2.0, 4.0), watch.side("theirs", 9.0, 3.0, 10.0, 8.0)
    found = measure(Case("w", "clips", 8.0, ours, {"peer": theirs}), "m", rounds=3, clock=watch.read)
    assert watch.calls == ["ours", "theirs"] * 4
    assert found.sides[OURS].seconds == [1.0, 2.0, 4.0] and found.sides[OURS].core_s == [0.5, 1.0, 2.0]
    assert found.per_s(OURS) == 4.0 and found.per_s("peer") == 1.0
    assert found.ratios("peer") == [3.0, 5.0, 2.0] == found.ratios("peer", cores=True)
    assert "3 (2 to 5)" in report.table([found], {})


def test_short_work_is_done_several_times_a_round():
    watch = Watch()
    found = measure(Case("w", "clips", 1.0, watch.side("ours", 0.005), {}), rounds=2, clock=watch.read)
    assert len(watch.calls) == 1 + 2 * 4
    assert found.sides[OURS].seconds == pytest.approx([0.005, 0.005])


def test_a_slow_peer_does_fewer_rounds_and_a_very_slow_one_none():
    watch = Watch()
    peers = {"slow": watch.side("slow", 4.0), "slower": watch.side("slower", 11.0)}
    found = measure(Case("w", "clips", 1.0, watch.side("ours", 1.0), peers), rounds=5, limit_s=10.0, clock=watch.read)
    assert [len(times.seconds) for times in found.sides.values()] == [5, 2, 1]
    assert watch.calls.count("slower") == 1
    assert found.ratios("slow") == [4.0, 4.0] and found.ratios("slower") == [11.0]


def test_peers_that_are_missing_broken_or_wrong_are_told_of_and_stop_nobody():
    watch = Watch()
    peers = {
        "missing": None,
        "broken": broken,
        "wrong": watch.side("wrong", 1.0, answer=2),
        "right": watch.side("right", 2.0, answer=1),
    }
    case = Case("w", "clips", 1.0, watch.side("ours", 1.0, answer=1), peers, agree=lambda ours, theirs: ours == theirs)
    found = measure(case, rounds=2, clock=watch.read)
    notes = [times.note for times in found.sides.values()]
    assert notes == ["", "not installed", "failed: ValueError: no such thing", "answers differently", ""]
    assert report.compared(found) == ["right"] and found.ratios("right") == [2.0, 2.0]
    assert watch.calls.count("wrong") == 1


def test_a_side_that_breaks_in_a_later_round_is_left_out():
    watch = Watch()
    once = iter([1, 2])
    found = measure(
        Case("w", "clips", 1.0, watch.side("ours", 1.0), {"tired": lambda: next(once)}), rounds=4, clock=watch.read
    )
    assert found.sides["tired"].note.startswith("failed: StopIteration")
    assert len(found.sides[OURS].seconds) == 4


def test_where_ours_fails_no_peer_is_asked():
    watch = Watch()
    found = measure(Case("w", "clips", 1.0, broken, {"peer": watch.side("peer", 1.0)}), clock=watch.read)
    assert found.failed == "failed: ValueError: no such thing" and watch.calls == []
    assert "failed: ValueError" in report.table([found], {})


def test_threads_are_those_of_the_case_and_go_back_after_it():
    seen: list[int] = []
    before = torch.get_num_threads()
    measure(Case("w", "clips", 1.0, lambda: seen.append(torch.get_num_threads()), {}, threads=2), rounds=1)
    assert set(seen) == {2} and torch.get_num_threads() == before


def test_what_is_asked_is_asked_of_one_peer_or_of_all():
    watch = Watch()
    peers = {"a": watch.side("a", 12.0), "b": watch.side("b", 3.0)}
    one, every = (
        measure(Case("w", "u", 1.0, watch.side("o", 1.0), peers, 10.0, 20.0, against), rounds=1, clock=watch.read)
        for against in ("a", "")
    )
    assert one.asked("a") == (10.0, 20.0) and one.asked("b") == (None, None)
    assert every.asked("b") == (10.0, 20.0)
    table = report.table([every], {"machine": "m"})
    assert "10: yes | 20" in table and "10: **no** | 20" in table and "- machine: m" in table


def test_a_run_writes_tables_and_a_picture_and_goes_on_past_what_fails(tmp_path):
    def good(quick: bool) -> list[Case]:
        return [Case(f"good {quick}", "clips", 1.0, lambda: sum(range(10**4)), {"other": lambda: sum(range(10**5))})]

    def bad(quick: bool) -> list[Case]:
        raise OSError("no disk")

    found = run({"bad": bad, "good": good}, tmp_path, True, 2, False, {"machine": "m"})
    assert [result.failed for result in found] == ["failed: OSError: no disk", ""]
    rows = list(csv.DictReader(io.StringIO((tmp_path / report.ROWS).read_text())))
    assert [row["side"] for row in rows] == [OURS, OURS, "other"] and rows[0]["note"] == "failed: OSError: no disk"
    assert float(rows[2]["ratio"]) > 1.0 and rows[2]["rounds"] == "2"
    assert (tmp_path / report.FIGURE).read_bytes().startswith(b"\x89PNG")
    kept = read(tmp_path / "measured.jsonl", True)
    assert kept["good", "good True", 1] == found[1] and not read(tmp_path / "measured.jsonl", False)
    assert run({"good": good}, tmp_path, True, 2, True, {})[0] == found[1]  # resumed: not measured again


def test_every_module_lists_its_cases():
    found = modules()
    assert {"selection", "clustering", "search"} <= set(found)
    for make in found.values():
        for case in make(True):
            assert isinstance(case, Case) and case.amount > 0
            assert not case.against or case.against in case.peers
            assert case.least is None or case.stretch is None or case.stretch >= case.least


def test_what_cannot_be_asked_for_is_said(capsys):
    with pytest.raises(AudiorepError, match="only=nothing: there is no such benchmark; there are augment, clustering"):
        modules(["nothing"])
    with pytest.raises(AudiorepError, match="fast=true: no such key; there are quick"):
        settings(["fast=true"])
    assert main(["rounds=0"]) == 2


def test_a_stand_in_is_there_for_a_block_only_and_never_before_what_is_installed():
    with stand_in({"no_such": {}, "no_such.part": {"x": 1}, "torch": {}}):
        assert imported("no_such.part").x == 1
        assert imported("torch") is torch
    assert imported("no_such") is None


def test_the_clock_runs():
    first = read_clock()
    sum(range(10**6))
    assert all(after > before for before, after in zip(first, read_clock(), strict=True))


def test_numbers_have_three_digits():
    assert [report.number(x) for x in (15221.0, 827.4, 1.042, 0.00123)] == ["15,200", "827", "1.04", "0.00123"]
    assert Result("m", "w", "u", 1.0, 1, None, None, "", {}).asked("x") == (None, None)
