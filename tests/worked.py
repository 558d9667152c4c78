"""The worked examples of docs/extending.md: their blocks of code, written into a copy of the repository."""

import re
from collections.abc import Iterator
from pathlib import Path

BLOCK = re.compile(r'^```(\w+) title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def blocks(text: str) -> Iterator[tuple[str, str, str]]:
    """(language, file, code) of every block that says which file it is."""
    for found in BLOCK.finditer(text):
        yield found.group(1), found.group(2), found.group(3)


def write_into(root: Path, text: str) -> list[Path]:
    """Write the files of a page's blocks below `root`, and change those that a diff changes; returns what was written new."""
    new = []
    for language, name, code in blocks(text):
        file = root / name
        if language == "diff":
            file.write_text(changed(file.read_text(encoding="utf-8"), code), encoding="utf-8")
            continue
        assert not file.exists(), f"{name} is in the repository already"
        file.write_text(code, encoding="utf-8")
        new.append(file)
    return new


def changed(text: str, diff: str) -> str:
    """A text with the lines that begin with + put behind the one line before them that begins with a space."""
    before, *added = diff.splitlines()
    assert before[0] == " " and added and all(line[0] == "+" for line in added)
    assert text.count(before[1:] + "\n") == 1, f"no single line {before[1:]!r}"
    return text.replace(before[1:] + "\n", "\n".join([before[1:], *(line[1:] for line in added)]) + "\n")
