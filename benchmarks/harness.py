"""Ours and peers at the same work, in turns, in one process: seconds, their ratio, memory.

A round of a case lets every side do the work once: A B C, A B C ... What else the machine does meets all of them alike,
so the ratio of a round holds where the seconds drift.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from threadpoolctl import threadpool_limits

OURS = "audiorep"
SHORTEST_S = 0.02
"""Work that takes less is done several times a round."""

Side = Callable[[], Any]
Reading = tuple[float, float]
"""Seconds that passed, and seconds that the cores of this process worked."""


@dataclass(frozen=True)
class Case:
    """One piece of work, and who does it.

    Args:
        work: what is done, as it stands in the table.
        unit, amount: what is counted, and how many of it a call of a side does.
        ours, peers: the sides; a peer that is not installed is None.
        beside: sides that are no peers: floors that nobody can beat, and our own plainer ways.
        least, stretch: how many times as fast as the peer ours shall be: what is asked, and what is hoped for.
        against: the peer that `least` and `stretch` speak of; "": all of them.
        agree: whether what ours and a peer returned is the same; None: it cannot be compared.
        threads: of torch, BLAS and OpenMP.
        rounds: that are timed; None: as the run says. Slow sides do fewer, see `measure`.
    """

    work: str
    unit: str
    amount: float
    ours: Side
    peers: Mapping[str, Side | None]
    least: float | None = None
    stretch: float | None = None
    against: str = ""
    agree: Callable[[Any, Any], bool] | None = None
    threads: int = 1
    rounds: int | None = None
    beside: Mapping[str, Side] = field(default_factory=dict)


@dataclass
class Times:
    """Of one side: seconds and core seconds of a call, round by round; the most memory it took on top of what was held.

    note: why there are none.
    """

    seconds: list[float] = field(default_factory=list)
    core_s: list[float] = field(default_factory=list)
    extra_bytes: int | None = None
    note: str = ""

    @property
    def median_s(self) -> float:
        return median(self.seconds)


@dataclass(frozen=True)
class Result:
    """What a case came to. failed: why ours has no times; sides: `OURS` first, then the peers, then what is `beside`."""

    module: str
    work: str
    unit: str
    amount: float
    threads: int
    least: float | None
    stretch: float | None
    against: str
    sides: dict[str, Times]
    failed: str = ""
    beside: Sequence[str] = field(default_factory=list)

    def per_s(self, name: str) -> float:
        """Units a second, by the median."""
        return self.amount / self.sides[name].median_s

    def ratios(self, peer: str, cores: bool = False) -> list[float]:
        """How many times as fast as a peer ours was, round by round; by the seconds that the cores worked, if asked."""
        both = [self.sides[name].core_s if cores else self.sides[name].seconds for name in (peer, OURS)]
        return [theirs / ours for theirs, ours in zip(*both, strict=False)]  # a slow side did fewer rounds

    def asked(self, peer: str) -> tuple[float | None, float | None]:
        """`least` and `stretch`, where they speak of this peer."""
        return (self.least, self.stretch) if self.against in ("", peer) and peer not in self.beside else (None, None)


def read_clock() -> Reading:
    return time.perf_counter(), time.process_time()


def measure(
    case: Case, module: str = "", rounds: int = 5, limit_s: float = 60.0, clock: Callable[[], Reading] = read_clock
) -> Result:
    """Call every side once to warm up and to compare answers, then time them in turns.

    A peer that fails or answers differently is left out, and told of in its note; where ours fails, that is the result.

    Args:
        rounds: that are timed, if the case does not say.
        limit_s: of each side; what is slower is timed in fewer rounds. What takes that long once is not called again: then
            the first call counts.
    """
    given: dict[str, Side | None] = {OURS: case.ours, **case.peers, **case.beside}
    times = {name: Times(note="" if side else "not installed") for name, side in given.items()}
    sides = {name: side for name, side in given.items() if side}
    with threads_of(case.threads), little_garbage():
        firsts = warm_up(case, sides, times, clock)
        repeats = {name: max(1, round(SHORTEST_S / max(times.seconds[0], 1e-6))) for name, times in firsts.items()}
        times.update((name, first) for name, first in firsts.items() if first.seconds[0] > limit_s)
        for _ in range(case.rounds or rounds):
            for name in [name for name in sides if fits(times[name], limit_s)]:
                try:
                    once(sides[name], repeats[name], times[name], clock)
                except Exception as error:
                    times[name] = Times(note=said(error))
                    del sides[name]
    return Result(
        module,
        case.work,
        case.unit,
        case.amount,
        case.threads,
        case.least,
        case.stretch,
        case.against,
        times,
        failed=times[OURS].note,
        beside=list(case.beside),
    )


def fits(times: Times, limit_s: float) -> bool:
    """Whether one round more, as long as the longest, ends within the limit."""
    return not times.seconds or sum(times.seconds) + max(times.seconds) <= limit_s


def warm_up(
    case: Case, sides: dict[str, Side], times: dict[str, Times], clock: Callable[[], Reading]
) -> dict[str, Times]:
    """One call of each side; those that fail or differ go from `sides`, with a note in `times`; all go where ours fails."""
    firsts: dict[str, Times] = {}
    answers: list[Any] = []  # ours comes first
    for name in list(sides):
        firsts[name] = Times()
        try:
            answers.append(once(sides[name], 1, firsts[name], clock))
            if len(answers) > 1 and case.agree and not case.agree(answers[0], answers[-1]):
                times[name].note = "answers differently"
        except Exception as error:
            times[name].note = said(error)
        if times[name].note:
            del sides[name], firsts[name]
        if not answers:
            sides.clear()
            break
    return firsts


def once(side: Side, repeats: int, times: Times, clock: Callable[[], Reading]) -> Any:
    """One round of one side, into its times; returns what the side did."""
    gc.collect()
    held = begin_peak()
    gc.disable()
    try:
        start = clock()
        for _ in range(repeats):
            answer = side()
        end = clock()
    finally:
        gc.enable()
    times.seconds.append((end[0] - start[0]) / repeats)
    times.core_s.append((end[1] - start[1]) / repeats)
    if held is not None:
        times.extra_bytes = max(times.extra_bytes or 0, risen_since(held))
    return answer


@contextmanager
def threads_of(count: int) -> Iterator[None]:
    """So many threads of torch, BLAS and OpenMP inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def little_garbage() -> Iterator[None]:
    """What is there before the block is not looked at when garbage is collected within it, which then takes no time."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def begin_peak() -> int | None:
    """Begin to count the largest memory of this process anew, and what it holds now; None where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return held_bytes("VmRSS")
    except OSError:
        return None


def risen_since(held: int) -> int:
    """By how much the memory of this process rose above what `begin_peak` said. Linux counts pages late: never below 0."""
    return max(0, held_bytes("VmHWM") - held)


def held_bytes(which: str) -> int:
    """Memory of this process as Linux tells it: VmRSS, now; VmHWM, at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(which)).split()[1]) * 1024


def said(error: BaseException) -> str:
    """An error in one line."""
    words = " ".join(str(error).split())
    return f"failed: {type(error).__name__}: {words}"[:200].rstrip(": ")
