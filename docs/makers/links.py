"""Where a file of the repository stands in the site, and links between its pages.

Pages link to each other as files of the repository do, so that they can be read there too. Whatever a page links to comes
into the site with it, pages and other files alike.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

ELSEWHERE = {"README.md": "repository.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files that have another name in the site."""

LINK = re.compile(r"(!?\[[^\]\n]*\]\()([^)\s]+)(\))")
FENCE = re.compile(r"^\s*(```|~~~)")


def prose(text: str) -> Iterator[tuple[str, bool]]:
    """Stretches of a page in order, and whether each is text (or a block of code)."""
    inside, lines = False, list[tuple[str, bool]]()
    for line in text.splitlines(keepends=True):
        fence = bool(FENCE.match(line))
        lines.append((line, not (inside or fence)))
        inside ^= fence
    for is_text, stretch in groupby(lines, key=lambda line: line[1]):
        yield "".join(line for line, _ in stretch), is_text


def outside_code(text: str) -> str:
    """A text with its inline code blanked, as long as it was; links around code stay links."""
    return re.sub(r"`(?:(?!\n\n)[^`])*`", lambda code: "x" * len(code.group()), text)


def targets(text: str) -> list[str]:
    """What a page links to, without addresses of other hosts and places within itself."""
    found = [LINK.finditer(outside_code(part)) for part, is_text in prose(text) if is_text]
    links = [link.group(2) for part in found for link in part]
    return [link for link in links if not re.match(r"\w+:|#", link)]


def file_of(page: Path, link: str) -> Path:
    """The file that a link of a page means."""
    return (page.parent / link.partition("#")[0]).resolve()


def place(file: Path) -> str:
    """Where a file of the repository stands in the site."""
    inside = file.relative_to(DOCS if file.is_relative_to(DOCS) else ROOT).as_posix()
    return ELSEWHERE.get(inside, inside) if not file.is_relative_to(DOCS) else inside


def linked(pages: Iterable[Path], read: Callable[[Path], str]) -> set[Path]:
    """All files that can be reached from pages by links, the pages themselves included; `read` gives a page's text."""
    found: set[Path] = set()
    left = list(pages)
    while left:
        file = left.pop()
        if file in found:
            continue
        found.add(file)
        if file.suffix == ".md":
            left += [to for link in targets(read(file)) if (to := file_of(file, link)).is_file()]
    return found


def relinked(text: str, page: Path, address: Callable[[Path], str]) -> str:
    """The text of a page with each link to a file that is there as `address` gives it."""

    def to(link: re.Match[str]) -> str:
        file = file_of(page, link.group(2))
        if re.match(r"\w+:|#", link.group(2)) or not file.is_file():
            return link.group()
        anchor = "".join(link.group(2).partition("#")[1:])
        return f"{link.group(1)}{address(file)}{anchor}{link.group(3)}"

    def changed(part: str) -> str:
        places = {link.start(2) for link in LINK.finditer(outside_code(part))}
        return LINK.sub(lambda link: to(link) if link.start(2) in places else link.group(), part)

    return "".join(changed(part) if is_text else part for part, is_text in prose(text))


def moved(text: str, page: Path) -> str:
    """The text of a page with its links as the site needs them."""
    folder = Path(place(page)).parent
    return relinked(text, page, lambda file: os.path.relpath(place(file), folder))


def included(file: Path, folder: Path) -> str:
    """The text of a page for a page in another folder of the repository: its links made so, its headings one lower."""
    text = relinked(file.read_text(encoding="utf-8"), file, lambda target: os.path.relpath(target, folder))
    return "".join(re.sub(r"^#", "##", part, flags=re.MULTILINE) if is_text else part for part, is_text in prose(text))
