"""The keys that were given, as Hydra's grammar wants them: quoted, split, and multiplied by a sweep."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from audiorep.errors import AudiorepError

PATHS = frozenset({
    "corpus", "recordings", "annotations", "out", "mirror", "model", "init", "golden", "data", "journal", "embeddings",
    "detections", "times", "thresholds", "store", "encoder.weights", "encoder.architecture", "teacher.model", "query",
    "novel_to", "index", "data.store", "calibration.answers",
})  # fmt: skip
"""Keys whose values are paths, or addresses of databases."""

TEXTS = frozenset({"train", "pretrain", "first", "second", "noise", "token"})
"""Keys whose values are keys of another verb, such as train="split.folds=5 trainer.max_steps=400", or secrets."""

IN_NAMES = str.maketrans({"/": "-", "=": "-", "'": None})
"""What stands in the name of a run's folder for what overrides may hold."""


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
            yield list(job), ",".join(item for item in job if item.split("=")[0] in swept).translate(IN_NAMES)
