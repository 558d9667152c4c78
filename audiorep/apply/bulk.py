"""The same work for each of many recordings, in a table of all of them; a stopped start is gone on with."""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from audiorep.apply.local import HERE
from audiorep.apply.parts import Engine, Job, Work, tables_of, write_rows
from audiorep.errors import AudiorepError
from audiorep.journal import Journal

JOURNAL, PARTS = "journal.jsonl", "parts"


def process(
    paths: list[Path],
    work: Work,
    out: Path,
    settings: Mapping[str, Any],
    joined: str,
    engine: Engine = HERE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[tuple[Path, str]]:
    """Do `work` for every recording into ``out/joined``; go on where an earlier start stopped, on whichever engine.

    Each recording's rows are a part file, written whole or not at all, and a line of ``out/journal.jsonl``, which only
    this process writes; the parts are joined at the end in the order of `paths`. The table is the same to the byte
    however many processes there were, and memory does not grow with the length of a recording.

    Args:
        settings: what must be the same to go on.
        joined: name of the table in `out`.

    Returns:
        what could not be decoded and was left out, with the reasons, in the order of `paths`.

    Raises:
        AudiorepError: nothing could be decoded; an earlier start had other settings.
    """
    with Journal(out / JOURNAL, settings) as journal:
        if (out / joined).exists() and not (out / PARTS).exists() and all(map(journal.ended, paths)):
            return left_out(paths, journal)
        jobs = [Job(path, part_of(path, out)) for path in paths]
        waiting = [job for job in jobs if not (journal.done(job.path) and job.part.exists())]
        already = len(jobs) - len(waiting)
        progress(already, len(jobs))
        with closing(engine(waiting, work)) as outcomes:
            for done, outcome in enumerate(outcomes, already + 1):
                seconds = round(outcome.seconds, 3)
                if outcome.rows is None:
                    journal.add(outcome.job.path, "failed", reason=outcome.reason, seconds=seconds)
                else:
                    journal.add(outcome.job.path, "done", rows=outcome.rows, seconds=seconds)
                progress(done, len(jobs))
        failed = left_out(paths, journal)
    if len(failed) == len(paths):
        raise AudiorepError(
            f"none of {len(paths)} recording(s) could be used; the first: {failed[0][0]}: {failed[0][1]}"
        )
    lost = {path for path, _ in failed}
    write_rows(out / joined, (rows for job in jobs if job.path not in lost for rows in tables_of(job.part)))
    shutil.rmtree(out / PARTS)
    return failed


def part_of(path: Path, out: Path) -> Path:
    """Where the rows of a recording are until all are joined."""
    return out / PARTS / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:24]}.parquet"


def left_out(paths: list[Path], journal: Journal) -> list[tuple[Path, str]]:
    """The recordings that failed, and why."""
    entries = [(path, journal.entries[str(path)]) for path in paths]
    return [(path, str(entry["reason"])) for path, entry in entries if entry["status"] == "failed"]
