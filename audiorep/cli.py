"""audiorep VERB key=value ...: every verb is configs/VERB.yaml and one function."""

import difflib
import errno
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from audiorep import __version__
from audiorep.errors import AudiorepError

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

PATHS = frozenset(
    {"corpus", "recordings", "annotations", "out", "mirror", "model", "init", "golden", "data", "journal", "embeddings"}
    | {
        "detections",
        "times",
        "thresholds",
        "store",
        "encoder.weights",
        "encoder.architecture",
        "teacher.model",
        "query",
    }
    | {"novel_to", "index", "data.store"}
)
"""Keys whose values are paths, or addresses of databases."""

TEXTS = frozenset({"train", "pretrain", "first", "second", "noise", "token"})
"""Keys whose values are keys of another verb, such as train="split.folds=5 trainer.max_steps=400", or secrets."""

IN_NAMES = str.maketrans({"/": "-", "=": "-", "'": None})
"""What stands in the name of a run's folder for what overrides may hold."""

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


def configs() -> Path:
    """Where the configs are: in the installed package, or beside it in a checkout."""
    here = Path(__file__).parent
    return here / "configs" if (here / "configs").is_dir() else here.parent / "configs"


def recipes() -> Path:
    """Where the recipes are, as `configs`."""
    return configs().parent / "recipes"


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
        status = 2
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
    overrides = [
        (quoted_each if sweep else quoted)(argument) for argument in arguments if argument not in ("-m", "--multirun")
    ]
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


def quoted(argument: str) -> str:
    """Paths as they are: Hydra's grammar would stumble over spaces, brackets, umlauts or an equals sign in them."""
    key, found, value = argument.partition("=")
    if not found or key not in PATHS | TEXTS or value in ("null", "") or value[0] in "'\"[":
        return argument
    expanded = str(Path(value).expanduser()) if value.startswith("~") and key in PATHS else value
    escaped = expanded.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"


def quoted_each(argument: str) -> str:
    """As `quoted`, of a sweep: commas stand between paths, but for those within quotes, and `out` is one path."""
    key, _, value = argument.partition("=")
    if key not in PATHS or key == "out" or "," not in value or value[0] in "'\"[":
        return quoted(argument)
    return f"{key}=" + ",".join(quoted(f"{key}={path}").partition("=")[2] for path in value.split(","))


def words(text: str) -> list[str]:
    """The ``key=value`` overrides in one text, split at spaces outside quotes.

    Raises:
        AudiorepError: a word that is none.
    """
    found = shlex.split(text)
    if wrong := next((word for word in found if "=" not in word and not word.startswith("~")), None):
        raise AudiorepError(f"'{wrong}' in \"{text}\" is no key=value")
    return [quoted(word) for word in found]


def jobs(verb: str, overrides: list[str], sweep: bool) -> Iterator[tuple[list[str], str | None]]:
    """The override lists to run: one, or with -m the product of all `key=a,b`, each with a folder name of its own."""
    if not sweep:
        yield overrides, None
        return
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(overrides)
    swept = [str(override.input_line).split("=")[0] for override in parsed if override.is_sweep_override()]
    if not swept:
        raise AudiorepError("-m sweeps over keys with several values, such as objective=simclr,byol; there is none")
    for batch in BasicSweeper.split_arguments(parsed, None):
        for job in batch:
            yield (
                list(job),
                ",".join(item for item in job if item.split("=")[0] in swept).translate(IN_NAMES),
            )


def compose(verb: str, overrides: list[str], source: Path | None = None) -> Any:
    """The verb's config (or the one at `source`) with overrides; errors of Hydra become one line with a suggestion."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    source = source or configs() / f"{verb}.yaml"
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(source.parent.resolve()), version_base="1.3"):
        try:
            cfg = hydra_compose(source.stem, overrides, return_hydra_config=True)
            chosen = {g.split("@")[0]: c for g, c in cfg.hydra.runtime.choices.items() if not g.startswith("hydra")}
            with open_dict(cfg):
                del cfg["hydra"]
                cfg.chosen = chosen
            missing = sorted(OmegaConf.missing_keys(cfg))
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise AudiorepError(explain(source.stem, error, hydra_compose)) from None
        check_types(plain_defaults(source), cfg)
    if missing:
        command = verb if source.stem == verb else f"{verb} {source.parent.name}"
        raise AudiorepError(f"{command} needs {missing[0]}=...; see audiorep {command} --help")
    return cfg


@cache
def plain_defaults(source: Path) -> Any:
    """The config at `source` as it is; Hydra must have been started in its folder."""
    from hydra import compose as hydra_compose

    return hydra_compose(source.stem)


def check_types(defaults: Any, cfg: Any) -> None:
    """Refuse text where the default is a number or true/false."""
    from omegaconf import OmegaConf

    for name in flatten(OmegaConf.to_container(defaults, resolve=False)):
        was, now = (OmegaConf.select(config, name, throw_on_resolution_failure=False) for config in (defaults, cfg))
        if isinstance(was, bool | int | float) and isinstance(now, str):
            wanted = "true or false" if isinstance(was, bool) else "a number"
            raise AudiorepError(f"{name}={now}: {wanted} is needed here, such as {str(was).lower()}")


def explain(config: str, error: Exception, hydra_compose: Any) -> str:
    """Hydra's complaint in one line, with the nearest right spelling."""
    from omegaconf import OmegaConf

    text = str(error)
    known = flatten(OmegaConf.to_container(hydra_compose(config), resolve=False)) + groups()
    if option := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        group, name = option.groups()
        return f"{group}={name} does not exist{nearest(name, options(group))}; there are: {', '.join(options(group))}"
    if key := re.search(r"Could not override '([^']+)'|Key '([^']+)' is not in struct", text):
        name = next(part for part in key.groups() if part)
        if (configs() / name).is_dir():
            return f"{name}=: the chosen objective has no such part; those that have it: {', '.join(with_part(name))}"
        return f"there is no key '{name}'{nearest(name, known)}; --help lists them"
    return text.splitlines()[0]


def with_part(group: str) -> list[str]:
    """The objectives whose config, or a config that it builds on, names a config group."""
    folder = configs() / "objective"
    builds_on = {path.stem: path.read_text(encoding="utf-8") for path in (folder / "parts").glob("*.yaml")}
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.yaml"))}
    whole = {
        name: text + "".join(t for p, t in builds_on.items() if f"parts/{p}" in text) for name, text in texts.items()
    }
    return [name for name, text in whole.items() if f"/{group}:" in text]


def nearest(name: str, known: Sequence[str]) -> str:
    """ ", did you mean X?" where something is near."""
    near = difflib.get_close_matches(name, known, 1, 0.5) or [
        k for k in known if k.split(".")[-1] == name.split(".")[-1]
    ]
    return f", did you mean '{near[0]}'?" if near else ""


def flatten(config: Any, prefix: str = "") -> list[str]:
    """Dotted names of all keys."""
    names = []
    for key, value in config.items() if isinstance(config, dict) else ():
        names += [f"{prefix}{key}", *flatten(value, f"{prefix}{key}.")]
    return names


def groups() -> list[str]:
    """Names of the config groups."""
    return sorted(path.name for path in configs().iterdir() if path.is_dir())


def options(group: str) -> list[str]:
    """What a group may be."""
    return sorted(path.stem for path in (configs() / group).glob("*.yaml"))


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
