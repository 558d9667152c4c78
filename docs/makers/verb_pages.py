"""What the page of a verb takes from the code: its summary, what its function says that it leaves, and its keys."""

import ast
import inspect
import re
from pathlib import Path

from links import ROOT

from audiorep.cli import VERBS, help_text
from audiorep.composing import configs, options


def source_of(verb: str) -> Path:
    """The config of a verb; of public corpora what they share."""
    return configs() / "public" / "_base.yaml" if verb == "get" else configs() / f"{verb}.yaml"


def summary(verb: str) -> str:
    """What a verb is for and what it leaves: its line of `audiorep`, the head of its config, its function's docstring."""
    tree = ast.parse((ROOT / "audiorep" / "verbs" / f"{verb}.py").read_text(encoding="utf-8"))
    function = next(part for part in tree.body if isinstance(part, ast.FunctionDef) and part.name == verb)
    says = inspect.cleandoc(ast.get_docstring(function) or "").replace("Returns:\n    ", "Returns ")
    head = re.match(r"(?:# (?!@).*\n)*", source_of(verb).read_text(encoding="utf-8"))
    about = " ".join(line.removeprefix("# ") for line in (head.group() if head else "").splitlines())
    about = "" if about.rstrip(".").lower() == VERBS[verb].lower() else f"{about}\n\n"
    return f"**`audiorep {verb}`: {VERBS[verb]}.**\n\n{about}{says}\n"


def keys_of(text: str) -> list[tuple[str, str, str]]:
    """The keys of a config as it is written: dotted name, default, comment; comments above a key come before its own."""
    rows: list[tuple[str, str, str]] = []
    open_keys: list[tuple[int, str]] = []
    above: list[str] = []
    began = False
    for line in text.splitlines():
        comment = re.fullmatch(r"\s*# ?(.*)", line)
        key = re.fullmatch(r"(\s*)([\w.-]+):(?:\s+(.*?))?(?:\s+#\s*(.*))?", line)
        if comment and began:
            above.append(comment.group(1))
        if key is None:
            continue
        began = True
        indent, name, default, says = len(key.group(1)), key.group(2), key.group(3) or "", key.group(4) or ""
        if default.startswith("# "):
            default, says = "", default[2:]
        open_keys = [(depth, part) for depth, part in open_keys if depth < indent] + [(indent, name)]
        dotted = ".".join(part for _, part in open_keys)
        if not dotted.startswith("defaults"):
            rows.append((dotted, default, " ".join([*above, says]).strip()))
        above = []
    return rows


def cell(text: str) -> str:
    """A cell of a table; nothing in it is Markdown."""
    return re.sub(r"([|*_<>])", r"\\\1", text)


def key_tables(verb: str) -> str:
    """The keys of a verb, the groups that it is made of with what each may be, and all that --help says."""
    source = source_of(verb)
    text = source.read_text(encoding="utf-8")
    lines = ["| key | default | |", "|---|---|---|"]
    lines += [
        f"| `{name}` | {'needed' if default == '???' else f'`{default}`' if default else ''} | {cell(says)} |"
        for name, default, says in keys_of(text)
    ]
    if groups := re.findall(r"^  - (\w+): (\w+)", text, re.MULTILINE):
        lines += ["", "| part | default | may be |", "|---|---|---|"]
        lines += [
            f"| `{group}=` | `{default}` | {', '.join(f'`{option}`' for option in options(group))} |"
            for group, default in groups
        ]
    said = "\n".join(f"    {line}" if line else "" for line in help_text(verb, source).splitlines())
    lines += ["", f'??? note "audiorep {verb} --help"', "", "    ```yaml", said, "    ```"]
    return "\n".join(lines) + "\n"


def verbs() -> str:
    """All verbs, in the order of the way through."""
    lines = ["| verb | |", "|---|---|", *(f"| [{verb}]({verb}.md) | {cell(says)} |" for verb, says in VERBS.items())]
    return "\n".join(lines) + "\n"
