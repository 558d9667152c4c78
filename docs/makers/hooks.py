"""The hook of mkdocs: brings pages of the repository into the site, and fills in what is made from the code."""

from fill import filled, whole
from links import DOCS, ROOT, linked, moved, place
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

BESIDE = ("CONTRIBUTING.md", "CHANGELOG.md", "recipes/README.md", "README.md")
"""Pages of the repository that are in the site whether or not one links to them."""


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
    return filled(markdown)
