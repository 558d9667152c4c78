"""Recordings on this machine, in this process or in several."""

import os
import signal
import time
import traceback
from collections import Counter, deque
from collections.abc import Generator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

from audiorep.apply.parts import Job, Outcome, Work, do
from audiorep.errors import AudiorepError

TRIES = 2
"""How often a recording is begun whose worker dies."""

SPAWN = get_context("spawn")


@dataclass(frozen=True)
class Local:
    """One recording after the other in this process, or in `workers` others, each with its share of the cores.

    A process that dies, whatever the cause, is replaced, and its recording is tried once more by another; where that
    dies too, the recording is left out.
    """

    workers: int = 1

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise AudiorepError(f"workers={self.workers}: at least one is needed")

    def __call__(self, jobs: list[Job], work: Work) -> Generator[Outcome]:
        if self.workers == 1 or len(jobs) < 2:
            yield from (do(job, work) for job in jobs)
        else:
            yield from in_processes(jobs, work, min(self.workers, len(jobs)))


HERE = Local()


class Worker:
    """A process that does jobs, one at a time. `job`: the one it has; `ready`: it has opened what it works with."""

    def __init__(self, work: Work, threads: int) -> None:
        self.link, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=serve, args=(theirs, threads), daemon=True)
        self.process.start()
        theirs.close()  # held open here it would not tell that the process has died
        self.job: Job | None = None
        self.ready, self.began = False, time.monotonic()
        self.give(work)

    def give(self, thing: Work | Job) -> None:
        """Send something; that nobody is there any more is found out by listening."""
        try:
            self.link.send(thing)
        except (BrokenPipeError, ConnectionResetError):
            return

    def take(self, waiting: deque[Job]) -> None:
        """Begin the next job, if there is one."""
        self.job, self.began = waiting.popleft() if waiting else None, time.monotonic()
        if self.job is not None:
            self.give(self.job)

    def stop(self) -> None:
        """Kill the process; nothing that it has not told of counts."""
        self.process.kill()
        self.process.join()
        self.link.close()


def in_processes(jobs: list[Job], work: Work, count: int) -> Generator[Outcome]:
    """Do all jobs in `count` processes.

    Raises:
        AudiorepError: processes die again and again before they have begun; and whatever `work` raises but `AudioError`.
    """
    threads = max(1, (os.cpu_count() or 1) // count)
    waiting, deaths = deque(jobs), Counter[Job]()
    left, stillborn = len(jobs), 0
    workers: list[Worker] = []
    try:
        workers += [Worker(work, threads) for _ in range(count)]
        while left:
            heard = wait([worker.link for worker in workers])
            for worker in [worker for worker in workers if worker.link in heard]:
                try:
                    answer = worker.link.recv()
                except (EOFError, OSError):
                    worker.process.join(5)
                    status = worker.process.exitcode
                    worker.stop()
                    workers.remove(worker)
                    stillborn = 0 if worker.ready else stillborn + 1
                    if stillborn > count:
                        raise AudiorepError(f"worker processes end before they begin, with status {status}") from None
                    workers.append(Worker(work, threads))
                    if worker.job is None:
                        continue
                    deaths[worker.job] += 1
                    if deaths[worker.job] < TRIES:
                        waiting.appendleft(worker.job)
                        continue
                    reason = f"the process at work on it died, {TRIES} times, the last with status {status}"
                    answer = Outcome(worker.job, None, time.monotonic() - worker.began, reason)
                else:
                    worker.ready = True
                    worker.take(waiting)
                if isinstance(answer, Exception):
                    raise answer
                if isinstance(answer, Outcome):
                    yield answer
                    left -= 1
    finally:
        for worker in workers:
            worker.stop()


def serve(link: Connection, threads: int) -> None:
    """Do the jobs that come through `link`, with the work that comes first, until nobody sends any more."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches every process of a terminal; the first ends the others
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before anything that counts is loaded
    try:
        work: Work = link.recv()
        link.send(None)
        while True:
            link.send(do(link.recv(), work))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        error.add_note(traceback.format_exc())
        link.send(error)
