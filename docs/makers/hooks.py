"""The hook of mkdocs: brings pages of the repository into the site, and fills in what is made from the code.

``<!-- made: keys embed -->`` becomes what the maker `keys` gives for `embed`; ``<!-- include: FILE -->`` the page FILE of the
repository, its headings one lower. Nothing is written twice: the site has no text of its own that the code knows.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import format_pages
import method_pages
import verb_pages
from links import DOCS, ROOT, included, linked, moved, place
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

BESIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "recipes/README.md", "README.md")
"""Pages of the repository that are in the site whether or not one links to them."""

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


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to, and pages from beside the folder."""
    pages = [DOCS / file.src_uri for file in files.documentation_pages()]
    for file in sorted(linked([*pages, *(ROOT / name for name in BESIDE)], whole)):
        if not file.is_relative_to(DOCS) and file.is_relative_to(ROOT):
            if file.suffix == ".md":
                files.append(File.generated(config, place(file), content=moved(whole(file), file)))
            else:
                files.append(File.generated(config, place(file), abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Include, move links, and fill in what is made."""
    source = DOCS / page.file.src_uri
    if source.exists():
        markdown = moved(whole(source), source)
    return MADE.sub(lambda found: MAKERS[found.group(1)](*found.group(2).split()), markdown)
