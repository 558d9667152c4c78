"""Recordings on a Ray cluster, or on a Ray of this machine's own: Ray Data's actors take the place of processes."""

import logging
import pickle
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from audiorep.apply.local import TRIES
from audiorep.apply.parts import Job, Outcome, Work, do
from audiorep.errors import AudiorepError

INSTALL = "pip install 'audiorep[ray]'"


@dataclass(frozen=True)
class Ray:
    """`workers` actors, each with a model of its own, take one recording after the other.

    Recordings and `out` must lie under the same paths on every machine, and audiorep be installed there. Where an actor
    dies, its recording is tried once more; where that dies too, the recording is left out.

    Args:
        address: of a running cluster, or "auto" for the one of this machine; None: one is started here, and ended.
        cpus, gpus: that an actor needs, maybe a part of a GPU.
    """

    workers: int = 1
    address: str | None = None
    cpus: float = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise AudiorepError(f"workers={self.workers}: at least one is needed")

    def __call__(self, jobs: list[Job], work: Work) -> Generator[Outcome]:
        try:
            import ray
        except ImportError as error:
            raise AudiorepError(f"engine=ray needs Ray ({error}): {INSTALL}") from error
        ours = not ray.is_initialized()
        if ours:
            try:
                ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError) as error:
                raise AudiorepError(f"engine.address={self.address}: {error}") from error
        try:
            yield from self.run(ray, jobs, work)
        finally:
            if ours:
                ray.shutdown()

    def run(self, ray: Any, jobs: list[Job], work: Work) -> Generator[Outcome]:
        """Do all jobs on the Ray that is connected; those that an actor took along when it died, once more."""
        missed = dict(enumerate(jobs))
        for _ in range(TRIES):
            for row in self.rows(ray, list(missed), jobs, work) if missed else ():
                if row["error"]:
                    raise AudiorepError(row["error"])
                rows = None if row["reason"] else row["rows"]
                yield Outcome(missed.pop(row["number"]), rows, row["seconds"], row["reason"])
        for job in missed.values():
            yield Outcome(job, None, 0.0, f"the actor at work on it died, {TRIES} times")

    def rows(self, ray: Any, numbers: list[int], jobs: list[Job], work: Work) -> Iterator[dict[str, Any]]:
        """How each of the numbered jobs ended, as it ends; nothing of one whose actor died."""
        context = ray.data.DataContext.get_current()
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a dead actor is told of by the journal
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # a block is one recording, and `run` misses it
        data = ray.data.from_items([{"number": number} for number in numbers], override_num_blocks=len(numbers))
        pool = ray.data.ActorPoolStrategy(size=min(self.workers, len(numbers)), max_tasks_in_flight_per_actor=1)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")  # it has no other name for retries
            told = data.map(
                Actor,
                fn_constructor_args=(jobs, ray.cloudpickle.dumps(work)),
                compute=pool,
                num_cpus=self.cpus,
                num_gpus=self.gpus,
                max_restarts=-1,
                max_task_retries=0,
            )
        return iter(told.iter_rows())


class Actor:
    """Does jobs in a process of Ray's; `sealed` is the work as it came from there."""

    def __init__(self, jobs: list[Job], sealed: bytes) -> None:
        self.jobs = jobs
        self.work: Callable[[], Work] = cache(lambda: pickle.loads(sealed))  # noqa: S301 - our own bytes

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        number: int = row["number"]
        told = {"number": number, "rows": 0, "seconds": 0.0, "reason": "", "error": ""}
        try:
            outcome = do(self.jobs[number], self.work())
        except Exception as error:  # raised here, Ray would take it for a lost block
            return told | {"error": str(error) if isinstance(error, AudiorepError) else traceback.format_exc()}
        return told | {"rows": outcome.rows or 0, "seconds": outcome.seconds, "reason": outcome.reason}
