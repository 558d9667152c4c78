"""Pages with what they include, and with what is made from the code.

``<!-- made: keys embed -->`` becomes what the maker `keys` gives for `embed`; ``<!-- include: FILE -->`` the page FILE of the
repository, its headings one lower. Nothing is written twice: the site has no text of its own that the code knows.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import format_pages
import method_pages
import verb_pages
from links import ROOT, included

MAKERS: Mapping[str, Callable[..., str]] = {
    "summary": verb_pages.summary,
    "verbs": verb_pages.verbs,
    "keys": verb_pages.key_tables,
    "objectives": method_pages.objectives,
    "others": method_pages.others,
    "selectors": method_pages.selectors,
    "formats": format_pages.formats,
    "writers": format_pages.writers,
}

MADE = re.compile(r"^<!-- made: (\w+)((?: \w+)*) -->$", re.MULTILINE)
INCLUDE = re.compile(r"^<!-- include: (\S+) -->$", re.MULTILINE)


def whole(page: Path) -> str:
    """A page with what it includes."""

    def content(found: re.Match[str]) -> str:
        file = ROOT / found.group(1)
        return included(file, page.parent) if file.exists() else "*Not measured yet.*"

    return INCLUDE.sub(content, page.read_text(encoding="utf-8"))


def filled(text: str) -> str:
    """A text with what is made."""
    return MADE.sub(lambda found: MAKERS[found.group(1)](*found.group(2).split()), text)
