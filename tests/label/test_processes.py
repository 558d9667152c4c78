"""Several processes at one store, and one that is killed: what was acknowledged is there."""

import signal
import subprocess
import sys
from pathlib import Path

from audiorep.label.answer import Answer
from audiorep.label.journal import add_answer, answers_since
from audiorep.label.store import open_store

WRITER = Path(__file__).with_name("writer.py")


def writer(address: str, prefix: str, threads: int, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, WRITER, address, prefix, str(threads), str(count)], stdout=subprocess.PIPE, text=True
    )


def test_every_answer_that_was_acknowledged_before_sigkill_is_in_the_store(address, store, clips):
    process = writer(address, "k", 4, 10**6)
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(60)]
    process.send_signal(signal.SIGKILL)
    told += process.stdout.readlines()
    assert process.wait() == -signal.SIGKILL
    acknowledged = {int(line.split()[0]): line.split()[1] for line in told if line.endswith("\n")}
    assert len(acknowledged) >= 60

    again = open_store(address)  # as after a restart; it looks for damage
    kept = {answer.id: answer.key for answer in answers_since(again)}
    assert {id: kept.get(id) for id in acknowledged} == acknowledged
    assert len(kept) <= len(acknowledged) + 4  # at most one more a thread: stored, and killed before it could say so
    assert add_answer(again, Answer("after", clips[0], "ann", "skip")).id > max(kept)
    again.close()


def test_processes_that_send_the_same_answers_store_them_once(address, store, clips):
    processes = [writer(address, "same", 2, 10) for _ in range(2)]
    told = [set(process.communicate()[0].splitlines()) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    stored = {f"{answer.id} {answer.key}" for answer in answers_since(store)}
    assert told == [stored] * 2
    assert len(stored) == 20
