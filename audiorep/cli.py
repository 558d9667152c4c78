"""audiorep VERB key=value ...: every verb is configs/VERB.yaml and one function."""

import difflib
import errno
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from audiorep import __version__
from audiorep.composing import compose, configs, nearest, options, recipes
from audiorep.errors import AudiorepError, Interrupted
from audiorep.overrides import jobs, quoted, quoted_each

VERBS = {
    "demo": "everything below on a built-in corpus, in a few minutes",
    "get": "a public corpus by its name, with its licence",
    "index": "recordings and annotations -> one manifest",
    "convert": "annotations of one format to another: Raven, Audacity, BirdNET, crowsetta, hoplite ...",
    "check": "find what is wrong with a corpus before it costs a night",
    "pack": "a corpus decoded once, so that every later run reads it many times faster",
    "objectives": "what there is to train with, what each needs and when to choose it",
    "pretrain": "learn an encoder, as a rule without labels",
    "train": "a call classifier from labels, few or many, with thresholds",
    "run": "a recipe: a whole procedure of several runs, by one command",
    "active": "which clips to ask about: strategies compared on known labels",
    "label": "a page in the browser that asks which call a clip holds, and learns from the answers",
    "relink": "find recordings again that were moved since they were labelled",
    "evaluate": "score an encoder beside mel statistics and an untrained one",
    "embed": "an embedding for every window of any recordings",
    "search": "what in such embeddings sounds like a clip, or like nothing known, to look at and listen to",
    "detect": "the calls in any recordings: tables for Raven, Audacity, BirdNET and others",
    "summarise": "detections -> calls per hour by hour of day, date, week and site, with intervals and pictures",
    "export": "one folder to share: weights, ONNX, card, golden clip",
}

JOINED = frozenset({"pretrain", "train"})
"""Verbs that torchrun may start on several processes."""

WORKFLOW = """\
audiorep {version}: learn representations of sound, above all animal sound
  audiorep VERB key=value ...

{verbs}

The way through, with your own recordings:

  audiorep index    recordings=my_recordings out=corpus.csv
  audiorep check    corpus=corpus.csv
  audiorep pretrain corpus=corpus.csv out=runs/first
  audiorep label    corpus=corpus.csv model=runs/first out=labels
  audiorep train    corpus=labels/labels.csv init=runs/first objective=fixmatch out=runs/calls
  audiorep export   model=runs/calls out=my_classifier
  audiorep detect   model=my_classifier recordings=more_recordings out=detections to=raven
  audiorep embed    model=my_classifier recordings=more_recordings out=embeddings
  audiorep search   embeddings=embeddings query=call.wav out=hits

audiorep VERB --help shows a verb's keys and what they may be. audiorep VERB -m key=a,b sweeps.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits with 0, with 2 on bad input, with 130 when interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        width = max(map(len, VERBS))
        verbs = "\n".join(f"  {name:{width}}  {what}" for name, what in VERBS.items())
        print(WORKFLOW.format(version=__version__, verbs=verbs), end="")
        return
    if arguments[0] == "--version":
        print(__version__)
        return
    try:
        status = run(arguments[0], arguments[1:])
    except AudiorepError as error:
        print(f"audiorep: {error}", file=sys.stderr)
        status = 130 if isinstance(error, Interrupted) else 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        print(f"audiorep: cannot write: {error.strerror}; free some space or choose another out=", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("audiorep: interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)


def run(verb: str, arguments: list[str]) -> int:
    """Compose the verb's config and call its function; returns the exit status."""
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise AudiorepError(f"there is no verb '{verb}'{hint} `audiorep` alone lists them")
    source, arguments = SOURCES.get(verb, config_of)(verb, arguments)
    if "--help" in arguments or "-h" in arguments:
        print(help_text(verb, source))
        return 0
    launcher, arguments = launcher_of(arguments)
    sweep = [argument for argument in arguments if argument in ("-m", "--multirun")]
    quote = quoted_each if sweep else quoted
    overrides = [quote(argument) for argument in arguments if argument not in ("-m", "--multirun")]
    if wrong := next((argument for argument in overrides if "=" not in argument and argument[:1] != "~"), None):
        raise AudiorepError(f"'{wrong}' is no key=value; see audiorep {verb} --help")
    if "TORCHELASTIC_RUN_ID" in os.environ and (verb not in JOINED or sweep):
        raise AudiorepError(
            f"torchrun starts one run of audiorep {' or '.join(sorted(JOINED))}; other verbs, recipes and -m start the "
            "processes of a training themselves: leave torchrun away and set trainer.devices"
        )
    from audiorep.console import set_up_logging
    from audiorep.launch import Task

    set_up_logging()
    tasks = [Task(verb, tuple(job), source, name) for job, name in jobs(verb, overrides, bool(sweep))]
    if sweep:
        parent = Path(tasks[0].compose().out)
        tasks = [replace(task, out=str(parent / str(task.name))) for task in tasks]
    status, results = 0, {}
    for ended in launcher(tasks):
        status = max(status, ended.status)
        if ended.task.name is not None and ended.metrics is not None:
            from audiorep.study.sweep import record

            results[ended.task.name] = ended.metrics
            record(results, parent)
    return status


def launcher_of(arguments: list[str]) -> tuple[Any, list[str]]:
    """What runs the command, by ``launcher=NAME`` and ``launcher.KEY=value``, and the other arguments.

    Raises:
        AudiorepError: no such launcher, or it has no such key.
    """
    from audiorep.launch import Here

    own = [argument for argument in arguments if re.match(r"\+?launcher(\.[\w-]+)*=", argument)]
    if not own:
        return Here(), arguments
    name = dict(argument.split("=", 1) for argument in own).get("launcher", "here")
    known = options("launcher")
    if name not in known:
        raise AudiorepError(f"launcher={name} does not exist{nearest(name, known)}; there are: {', '.join(known)}")
    keys = [argument.replace("launcher.", "", 1) for argument in own if not argument.startswith("launcher=")]
    cfg = compose("launcher", keys, configs() / "launcher" / f"{name}.yaml")
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    part = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "chosen"])
    return instantiate(part, _convert_="all"), [argument for argument in arguments if argument not in own]


def config_of(verb: str, arguments: list[str]) -> tuple[Path, list[str]]:
    """The config of a verb, and its arguments as they are."""
    return configs() / f"{verb}.yaml", arguments


def recipe_of(verb: str, arguments: list[str]) -> tuple[Path, list[str]]:
    """The config of the recipe that the first argument names, and the other arguments."""
    known = {path.parent.name: path for path in sorted(recipes().glob("*/recipe.yaml"))}
    return named("recipe", known, configs() / f"{verb}.yaml", verb, arguments)


def corpus_of(verb: str, arguments: list[str]) -> tuple[Path, list[str]]:
    """The config of the public corpus that the first argument names, and the other arguments."""
    known = {path.stem: path for path in sorted((configs() / "public").glob("[!_]*.yaml"))}
    return named("corpus", known, configs() / "public" / "_base.yaml", verb, arguments)


def named(what: str, known: dict[str, Path], unnamed: Path, verb: str, arguments: list[str]) -> tuple[Path, list[str]]:
    """The config whose name the first argument is, and the other arguments; `unnamed`: of help without a name.

    Raises:
        AudiorepError: no name, or an unknown one; tells what there is.
    """
    name = next((argument for argument in arguments if "=" not in argument and not argument.startswith("-")), None)
    if name is None and {"--help", "-h"} & set(arguments):
        return unnamed, arguments
    if name is None:
        firsts = {k: path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for k, path in known.items()}
        listed = "".join(f"\n  {k:{max(map(len, firsts))}}  {first}" for k, first in firsts.items())
        raise AudiorepError(f"audiorep {verb} NAME key=value ...; there are:{listed}")
    if name not in known:
        raise AudiorepError(f"there is no {what} '{name}'{nearest(name, list(known))}; there are: {', '.join(known)}")
    return known[name], [argument for argument in arguments if argument != name]


SOURCES = {"run": recipe_of, "get": corpus_of}
"""Verbs whose config is not configs/VERB.yaml: from verb and arguments to its path and the other arguments."""


def help_text(verb: str, source: Path) -> str:
    """A config with its comments, and the options of every group in it."""
    text = source.read_text(encoding="utf-8")
    lines = [f"audiorep {verb}: {VERBS[verb]}", "", text.rstrip(), ""]
    used = re.findall(r"^  - (\w+): (\w+)", text, re.MULTILINE)
    for group, default in used:
        lines += [f"# {group}={' | '.join(options(group))}   (default: {default})"]
        chosen = configs() / group / f"{default}.yaml"
        if chosen.exists():
            body = chosen.read_text(encoding="utf-8").rstrip()
            indent = "" if body.startswith("# @package _global_") else "  "
            shown = [line for line in body.splitlines() if not line.startswith("# @package")]
            lines += [*([f"{group}:"] if indent else []), *(indent + line for line in shown), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
