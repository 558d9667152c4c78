"""All benchmarks against peers, or some of them, into a table, a CSV and a picture.

python -m benchmarks [quick=true] [only=MODULE,MODULE] [out=FOLDER] [rounds=5] [resume=true]

quick: less work and fewer rounds, to see that everything runs. only: files of benchmarks/, without .py. out: where tables go;
unless said, a full run goes to benchmarks/results, any other to runs/bench. resume: keep what a stopped run has measured.
"""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from audiorep.console import console, progress_bar
from audiorep.errors import AudiorepError
from audiorep.files import write_text
from benchmarks import report
from benchmarks.harness import OURS, Case, Result, Times, measure, said

HERE = Path(__file__).parent
Cases = Callable[[bool], Iterable[Case]]
DEFAULTS = {"quick": "false", "only": "", "out": "", "rounds": "5", "resume": "false"}
LIMIT_S, QUICK_LIMIT_S = 60.0, 1.0
MEASURED = "measured.jsonl"


def modules(only: Sequence[str] = ()) -> dict[str, Cases]:
    """The files of this folder that have `cases`, by name.

    Raises:
        AudiorepError: one of `only` is not among them.
    """
    names = sorted(path.stem for path in HERE.glob("*.py") if "\ndef cases(" in path.read_text(encoding="utf-8"))
    if wrong := [name for name in only if name not in names]:
        raise AudiorepError(f"only={wrong[0]}: there is no such benchmark; there are {', '.join(names)}")
    return {name: import_module(f"benchmarks.{name}").cases for name in only or names}


def settings(given: Sequence[str]) -> dict[str, str]:
    """key=value, over `DEFAULTS`."""
    found = dict(DEFAULTS)
    for text in given:
        key, _, value = text.partition("=")
        if key not in found:
            raise AudiorepError(f"{text}: no such key; there are {', '.join(found)}")
        found[key] = value
    if not found["rounds"].isdigit() or int(found["rounds"]) < 1:
        raise AudiorepError(f"rounds={found['rounds']}: a whole number, 1 at least")
    return found


def run(
    cases: Mapping[str, Cases], out: Path, quick: bool, rounds: int, resume: bool, told: Mapping[str, str]
) -> list[Result]:
    """Measure the cases of every module; tables are written after each of them.

    A module or case that fails does not stop the others.
    """
    results: list[Result] = []
    kept = read(out / MEASURED, quick) if resume else {}
    limit_s = QUICK_LIMIT_S if quick else LIMIT_S
    with progress_bar("benchmarks") as show:
        for done, (module, make) in enumerate(cases.items()):
            show(done, len(cases))
            try:
                for case in make(quick):
                    results.append(
                        kept.get((module, case.work, case.threads)) or measure(case, module, rounds, limit_s)
                    )
                    tell(results[-1])
                    lines = [json.dumps({"quick": quick, **asdict(one)}) for one in results]
                    write_text(out / MEASURED, "\n".join([*lines, ""]))
            except Exception as error:  # inputs that cannot be made
                note = said(error)
                results.append(Result(module, module, "", 0.0, 1, None, None, "", {OURS: Times(note=note)}, note))
                tell(results[-1])
            report.write(results, out, told)
        show(len(cases), len(cases))
    return results


def tell(result: Result) -> None:
    """A result in the terminal, a line a peer."""
    for cells in report.cells_of(result):
        console.print("  ".join(cell for cell in cells if cell), highlight=False, markup=False)


def read(path: Path, quick: bool) -> dict[tuple[str, str, int], Result]:
    """What a stopped run has measured, but for what failed, by module, work and threads; nothing where there is none."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        facts = json.loads(line)
        if facts.pop("quick") == quick and not facts["failed"]:
            sides = {name: Times(**times) for name, times in facts.pop("sides").items()}
            found[facts["module"], facts["work"], facts["threads"]] = Result(**facts, sides=sides)
    return found


def main(given: Sequence[str]) -> int:
    """Run; 1 where a case failed."""
    try:
        asked = settings(given)
        quick, resume = asked["quick"] == "true", asked["resume"] == "true"
        only = [name for name in asked["only"].split(",") if name]
        out = Path(asked["out"] or (Path("runs/bench") if quick or only else HERE / "results"))
        told = report.about(" ".join(["python -m benchmarks", *given]))
        if quick:
            told["short form"] = "to see that everything runs; ratios of little work say little"
        results = run(modules(only), out, quick, 2 if quick else int(asked["rounds"]), resume, told)
    except AudiorepError as error:
        console.print(str(error), highlight=False, markup=False)
        return 2
    console.print(f"{out / report.TABLE}", highlight=False)
    return int(any(result.failed for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
