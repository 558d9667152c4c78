"""The configs: what each names is there and takes what it is given, every key is read by somebody, and told to the user."""

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from audiorep.cli import SOURCES, VERBS
from audiorep.composing import configs, recipes

FILES = sorted([*configs().rglob("*.yaml"), *recipes().rglob("*.yaml")])
OWN = [verb for verb in VERBS if verb not in SOURCES]
"""Verbs whose keys stand in configs/VERB.yaml."""

SHARED = [configs() / group / "default.yaml" for group in ("data", "trainer", "evaluation")]
"""Keys that several verbs share."""

ALONE = ("engine", "format", "launcher", "learner", "loss", "mix", "pool", "resampler", "task", "transfer")
"""Groups of parts that can be made without a model; contracts elsewhere make the others, and take a step with them."""


def name_of(path: Path) -> str:
    return str(path.relative_to(configs().parent))


def nodes(config: Any) -> Iterator[dict[str, Any]]:
    """Every part that a config names, wherever it stands."""
    if isinstance(config, dict):
        if "_target_" in config:
            yield config
        for value in config.values():
            yield from nodes(value)
    elif isinstance(config, list):
        for value in config:
            yield from nodes(value)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_what_a_config_names_is_there_and_takes_what_it_is_given(path):
    config = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    for node in nodes(config):
        if node is config and path.name == "recipe.yaml":  # a procedure is called with the whole config
            assert callable(get_object(node["_target_"]))
        elif "." in str(node["_target_"]):
            made = get_object(node["_target_"])
            given = {key: value for key, value in node.items() if not key.startswith("_")}
            inspect.signature(made).bind_partial(*node.get("_args_", ()), **given)  # TypeError: no such parameter


@pytest.mark.parametrize("group", ALONE)
def test_every_option_of_a_group_can_be_made(group):
    options = sorted((configs() / group).glob("*.yaml"))
    assert options
    for path in options:
        config = OmegaConf.load(path)
        if "workers" in config:  # of an engine: as the verb has it
            config.workers = 2
        assert instantiate(config, _convert_="all") is not None, path


# ------------------------------------------------------------------ what is read


def chain(node: ast.expr) -> tuple[str, str]:
    """``cfg.a["b"].c`` as ("cfg", "a.b.c"); ("", "") for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Attribute):
            parts.append(node.attr)
        elif isinstance(node.slice, ast.Constant):
            parts.append(str(node.slice.value))
        else:
            return "", ""
        node = node.value
    return (node.id, ".".join(reversed(parts))) if isinstance(node, ast.Name) else ("", "")


@cache
def source(module: str) -> ast.Module | None:
    path = Path(__file__).parents[1] / (module.replace(".", "/") + ".py")
    return ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else None


@cache
def imported(module: str) -> frozenset[str]:
    """Modules of audiorep that one imports, at its top or within a function."""
    found: set[str] = set()
    for node in ast.walk(source(module) or ast.Module([], [])):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("audiorep"):
            found |= {str(node.module), *(f"{node.module}.{one.name}" for one in node.names)}
    return frozenset(found)


@cache
def spoken(module: str) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """What a module reads of a config (``cfg.a.b``), the texts in it, and all names that it gets, takes or tells."""
    read, texts, names = set(), set(), set()
    for node in ast.walk(source(module) or ast.Module([], [])):
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Load):
            root, path = chain(node)
            read |= {path} if root == "cfg" else set()
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
        if isinstance(node, ast.arg):
            names.add(node.arg)
    return frozenset(read), frozenset(texts), frozenset(names)


@cache
def readers(verb: str) -> frozenset[str]:
    """The modules that a verb needs."""
    todo, seen = [f"audiorep.verbs.{verb}"], set()
    while todo:
        if (module := todo.pop()) not in seen:
            seen.add(module)
            todo += imported(module)
    return frozenset(seen)


INTERPOLATED = {key for path in FILES for key in re.findall(r"\$\{([\w.]+)\}", path.read_text(encoding="utf-8"))}
"""Keys that other keys are set from."""


def keys_in(config: Any, prefix: str = "") -> Iterator[str]:
    """The dotted names of all keys but those of parts, which `instantiate` hands over."""
    for key, value in config.items():
        if isinstance(value, dict) and value and "_target_" not in value:
            yield from keys_in(value, f"{prefix}{key}.")
        elif key not in ("defaults", "_target_"):
            yield f"{prefix}{key}"


def is_read(key: str, verb: str) -> bool:
    """Whether a verb's modules read a key: by its whole name, or with all of its section and then by its own name."""
    told = [spoken(module) for module in readers(verb)]
    read, texts, names = (frozenset().union(*part) for part in zip(*told, strict=True))
    if key in read | texts | INTERPOLATED or any(path.startswith(f"{key}.") for path in read):
        return True
    section, _, name = key.rpartition(".")
    whole = section in read or (section.rpartition(".")[0] in read and section.rpartition(".")[2] in texts)
    return bool(section) and whole and name in names | texts


def own_keys(path: Path) -> list[str]:
    """Of a verb, or of what verbs share, as they stand in the whole config (configs/data is `@package _global_`)."""
    package = f"{path.parent.name}." if path in SHARED and path.parent.name != "data" else ""
    return [package + key for key in keys_in(OmegaConf.to_container(OmegaConf.load(path), resolve=False))]


@pytest.mark.parametrize("verb", OWN)
def test_a_verb_reads_every_key_of_its_config(verb):
    """Where a verb changes the default of a key that others read too, as `demo` does, that key is theirs."""
    shared = tuple(key for path in SHARED for key in own_keys(path))
    keys = [
        key for key in own_keys(configs() / f"{verb}.yaml") if not f"{key}.".startswith(tuple(f"{k}." for k in shared))
    ]
    assert [key for key in keys if not is_read(key, verb)] == []


@pytest.mark.parametrize("path", SHARED, ids=name_of)
def test_some_verb_reads_every_key_that_verbs_share(path):
    named = ("evaluation.protocols.", "evaluation.token_protocols.")  # chosen by their names in evaluation.protocol
    unread = [key for key in own_keys(path) if not any(is_read(key, verb) for verb in ("train", "pretrain"))]
    assert [key for key in unread if not key.startswith(named)] == []


def test_a_key_that_nobody_reads_is_found():
    assert not is_read("seeed", "pretrain") and not is_read("trainer.max_stepps", "pretrain")
    assert not is_read("classes_of_labels", "label") and is_read("host", "label") and not is_read("host", "embed")


# ------------------------------------------------------------------ what is told


def untold(text: str) -> list[str]:
    """Keys without a comment on their line, on the line above, or on the line of the section that they stand in."""
    found, sections, above, aside = [], [], False, None
    for number, line in enumerate(text.splitlines()):
        indent = len(line) - len(line.lstrip())
        key = re.match(r" *(\w+):(.*)", line)
        if aside is not None and (indent > aside or not line.strip()):
            continue
        aside = indent if key and key[1] == "defaults" else None
        if key and aside is None:
            sections = [(depth, told) for depth, told in sections if depth < indent]
            told = " #" in line or above or any(told for _, told in sections)
            sections.append((indent, told))
            if not told and key[2].split(" #")[0].strip() and key[1] != "_target_":
                found.append(key[1])
        above = line.lstrip().startswith("#") and number > 1
    return found


@pytest.mark.parametrize("path", [*(configs() / f"{verb}.yaml" for verb in OWN), *SHARED], ids=name_of)
def test_every_key_is_told_to_the_user(path):
    assert untold(path.read_text(encoding="utf-8")) == []


def test_a_key_that_is_not_told_is_found():
    text = (
        "# What it is.\n\ndefaults:\n  - a: b\nlow: 1\nhigh: 2 # told\npart: # told\n  inner: 3\nother:\n  inner: 4\n"
    )
    assert untold(text) == ["low", "inner"]


GROUPS = sorted(
    path.name for path in configs().iterdir() if path.is_dir() and path.name not in ("experiment", "public")
)


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_says_what_it_is(group):
    """In its first line, which --help shows, or as `about`, of which `audiorep objectives` makes a table."""
    for path in sorted((configs() / group).glob("*.yaml")):
        text = path.read_text(encoding="utf-8").removeprefix("# @package _global_\n")
        assert text.startswith("# ") or "\nabout:" in f"\n{text}", path


def test_no_option_is_left_that_no_verb_knows():
    verbs = "\n".join(
        path.read_text(encoding="utf-8") for path in [*configs().glob("*.yaml"), *recipes().rglob("*.yaml")]
    )
    parts = "\n".join(path.read_text(encoding="utf-8") for path in (configs() / "objective").rglob("*.yaml"))
    named = set(re.findall(r"- (?:override )?/?(\w+)(?:@\w+)?:", verbs + parts)) | {"launcher", "public", "experiment"}
    assert set(GROUPS) <= named
