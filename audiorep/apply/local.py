"""Recordings on this machine."""

from collections.abc import Generator
from dataclasses import dataclass

from audiorep.apply.parts import Job, Outcome, Work, do


@dataclass(frozen=True)
class Local:
    """One recording after the other, in this process."""

    def __call__(self, jobs: list[Job], work: Work) -> Generator[Outcome]:
        for job in jobs:
            yield do(job, work)


HERE = Local()
