"""Where the runs of a command take place: here, or as jobs of a cluster that SLURM shares out."""

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from audiorep.errors import AudiorepError

log = logging.getLogger(__name__)

INSTALL = "pip install 'audiorep[slurm]'"


@dataclass(frozen=True)
class Task:
    """One run of a verb: the config at `source` with `overrides`. `name`: in a sweep; `out`: instead of the config's own."""

    verb: str
    overrides: tuple[str, ...]
    source: Path
    name: str | None = None
    out: str | None = None

    def compose(self) -> Any:
        """The config of this run."""
        from audiorep.composing import compose

        cfg = compose(self.verb, list(self.overrides), self.source)
        if self.out is not None:
            cfg.out = self.out
        return cfg


@dataclass(frozen=True)
class Ended:
    """What a run returned: its exit status and, of many verbs, its metrics."""

    task: Task
    status: int
    metrics: dict[str, float] | None


def perform(task: Task) -> Ended:
    """Run a task in this process."""
    from audiorep.rehearsal import set_aside

    function = getattr(import_module(f"audiorep.verbs.{task.verb}"), task.verb)
    cfg = task.compose()
    with set_aside(cfg):
        result = function(cfg)
    return Ended(task, result if isinstance(result, int) else 0, result if isinstance(result, dict) else None)


@dataclass(frozen=True)
class Here:
    """One task after the other, in this process."""

    def __call__(self, tasks: list[Task]) -> Iterator[Ended]:
        yield from map(perform, tasks)


@dataclass(frozen=True)
class Slurm:
    """Each task as a job, through submitit; see configs/launcher/slurm.yaml for what the keys mean."""

    partition: str | None = None
    account: str | None = None
    hours: float = 24.0
    gpus: int = 0
    cpus: int = 4
    mem_gb: float | None = 16
    at_once: int = 16
    more: dict[str, Any] = field(default_factory=dict)
    folder: str = "runs/jobs"
    wait: bool = True
    cluster: str = "slurm"

    def __call__(self, tasks: list[Task]) -> Iterator[Ended]:
        try:
            import submitit
        except ImportError as error:
            raise AudiorepError(f"launcher=slurm needs submitit ({error}): {INSTALL}") from error
        if self.cluster == "slurm" and shutil.which("sbatch") is None:
            raise AudiorepError("launcher=slurm: there is no sbatch here; start this on a machine that submits jobs")
        tasks = [replace(task, out=place(task)) for task in tasks]  # a wrong key is said now, not by every job
        folder = Path(self.folder).absolute()
        try:
            executor = submitit.AutoExecutor(folder / "%j", cluster=self.cluster)
            executor.update_parameters(**self.parameters(tasks[0].verb))
            with executor.batch():
                jobs = {executor.submit(Attempt(), task): task for task in tasks}
        except (ValueError, RuntimeError, submitit.core.utils.FailedSubmissionError) as error:
            raise AudiorepError(f"launcher=slurm: {str(error).splitlines()[0]}") from error
        log.info(
            "submitted %d job(s): %s; what they print is in %s", len(jobs), ", ".join(j.job_id for j in jobs), folder
        )
        if self.wait:
            yield from self.ended(submitit, jobs)

    def parameters(self, verb: str) -> dict[str, Any]:
        """Submitit's names of what a job needs."""
        wanted = {
            "name": f"audiorep-{verb}",
            "timeout_min": round(60 * self.hours),
            "gpus_per_node": self.gpus,
            "cpus_per_task": self.cpus,
            "mem_gb": self.mem_gb,
            "slurm_partition": self.partition,
            "slurm_account": self.account,
            "slurm_array_parallelism": self.at_once,
            "slurm_additional_parameters": dict(self.more) or None,
        }
        return {name: value for name, value in wanted.items() if value is not None}

    def ended(self, submitit: Any, jobs: dict[Any, Task]) -> Iterator[Ended]:
        """The jobs as they end.

        Raises:
            AudiorepError: after the last, that some failed.
        """
        failed = []
        for job in submitit.helpers.as_completed(list(jobs), poll_frequency=1):
            error, name = job.exception(), jobs[job].name or job.job_id
            answer = (
                job.result() if error is None else AudiorepError(f"ended without an answer: {error}".splitlines()[0])
            )
            if isinstance(answer, AudiorepError):
                failed.append(f"{name}: {answer} (see {job.paths.stderr})")
                log.warning("failed: %s", failed[-1])
            else:
                yield answer
        if failed:
            raise AudiorepError(f"{len(failed)} of {len(jobs)} job(s) failed; {failed[0]}")


class Attempt:
    """A task in a job: returns how it ended, or what it says is wrong."""

    def __call__(self, task: Task) -> Ended | AudiorepError:
        from audiorep.console import set_up_logging

        set_up_logging()
        try:
            return perform(task)
        except AudiorepError as error:
            return error

    def checkpoint(self, task: Task) -> Any:
        """What submitit submits when a job's time is up or another job takes its place: the same, to go on with."""
        import submitit

        if "resume" not in task.compose():
            return submitit.helpers.DelayedSubmission(self, task)
        kept = tuple(override for override in task.overrides if not override.startswith("overwrite="))
        return submitit.helpers.DelayedSubmission(self, replace(task, overrides=(*kept, "resume=true")))


def place(task: Task) -> str | None:
    """The folder or file `out` of a task, the same for whoever runs it."""
    out = task.compose().get("out")
    return None if out is None else str(Path(out).absolute())
