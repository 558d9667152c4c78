"""The documentation: commands compose, the tutorial runs, links lead somewhere, what is made from the code is whole."""

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from fill import INCLUDE, MADE, MAKERS, filled, whole
from licences import canonical, project
from links import DOCS, ROOT, file_of, linked, moved, place, prose, targets
from method_pages import asked
from test_cli import run
from toy import RATE_HZ, tone
from verb_pages import keys_of, source_of
from worked import blocks

from audiorep import __version__
from audiorep.catalogue import entries, markdown
from audiorep.cli import JOINED, SOURCES, VERBS, config_of, launcher_of
from audiorep.composing import compose, configs, flatten
from audiorep.errors import AudiorepError
from audiorep.overrides import jobs, quoted, quoted_each

PAGES = sorted(DOCS.rglob("*.md"))
BESIDE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "recipes/README.md")]
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def lines_of(text: str) -> Iterator[list[str]]:
    """The words of every line of the shell blocks of a page, comments left out."""
    for block in SHELL.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def commands(text: str) -> list[list[str]]:
    """What `audiorep` is given in the shell blocks of a page, by torchrun too."""
    out = []
    for words in lines_of(text):
        if words[0] == "audiorep":
            out.append(words[1:])
        out += [words[k + 2 :] for k, pair in enumerate(pairwise(words)) if pair == ("-m", "audiorep")]
    return [command for command in out if command]


def mentions(text: str) -> list[list[str]]:
    """What `audiorep` is given in inline code; what "..." stands for is left out."""
    found = re.findall(r"`audiorep (\w+ [^`]*=[^`]*)`", " ".join(part for part, is_text in prose(text) if is_text))
    words = [shlex.split(command.replace("\n", " ")) for command in found]
    return [
        [word for word in command if word != "..." and not word.endswith("=NAME")]
        for command in words
        if command[0] in VERBS
    ]


def check(command: list[str], complete: bool) -> None:
    """Compose a command as the CLI does, of a sweep its first run; not `complete`: keys that it needs are filled in."""
    verb, *arguments = command
    assert verb in VERBS, f"no verb {verb}"
    source, arguments = SOURCES.get(verb, config_of)(verb, arguments)
    _, arguments = launcher_of(arguments)
    sweep = bool({"-m", "--multirun"} & set(arguments))
    given = [(quoted_each if sweep else quoted)(argument) for argument in arguments if "=" in argument]
    assert len(given) + sweep == len(arguments), f"no key=value in {arguments}"
    job = list(next(iter(jobs(verb, given, sweep)))[0])
    for _ in range(5):
        try:
            compose(verb, job, source)
            return
        except AudiorepError as error:
            needed = re.search(r" needs ([\w.]+)=", str(error))
            if complete or needed is None:
                raise
            job.append(f"{needed.group(1)}=x")


def unseen(pages: list[Path], of: str) -> list[tuple[str, list[str]]]:
    """The commands of pages, those with the same keys once."""
    out: dict[str, tuple[str, list[str]]] = {}
    extending = (DOCS / "extending.md").read_text(encoding="utf-8")
    not_yet = {
        Path(name).stem for language, name, _ in blocks(extending) if language == "yaml"
    }  # the reader's own parts
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for command in commands(text) if of == "blocks" else mentions(text):
            command = [word for word in command if word.partition("=")[2] not in not_yet]
            keys = [word if re.match(r"\w+=[a-z_]+$", word) else word.partition("=")[0] for word in command]
            out.setdefault(" ".join(keys), (page.name, command))
    return list(out.values())


@pytest.mark.parametrize("of", ["blocks", "mentions"])
def test_every_command_composes(of):
    found = unseen([*BESIDE, *PAGES], of)
    assert len(found) > 20
    wrong = []
    for page, command in found:
        try:
            check(command, complete=of == "blocks")
        except (AudiorepError, AssertionError) as error:
            wrong.append(f"{page}: audiorep {' '.join(command)}: {error}")
    assert not wrong, "\n".join(wrong)


def test_a_wrong_key_in_the_docs_would_be_seen():
    with pytest.raises(AudiorepError, match="there is no key"):
        check(["embed", "model=m", "recordings=r", "hop=0.25"], complete=True)
    with pytest.raises(AudiorepError, match="does not exist"):
        check(["pretrain", "objective=simclear"], complete=False)
    assert commands("```sh\naudiorep check a=1 \\\n  b=2 # c=3\n```\n") == [["check", "a=1", "b=2"]]


def test_every_target_of_make_is_there():
    rules = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    words = [words for page in [*BESIDE, *PAGES] for words in lines_of(page.read_text(encoding="utf-8"))]
    asked_for = {line[1] for line in words if line[0] == "make"}
    assert asked_for and asked_for <= rules


# ---- the tutorial, for real

SIZE = ["encoder.width=8", "encoder.dim=32"]
STEPS = [
    "trainer.max_steps=4", "trainer.precision=32-true", "trainer.health_every=2", "data.batch_size=16", "data.workers=0",
    "logger=none",
]  # fmt: skip
EXTRA = {
    "pretrain": [
        *SIZE, *STEPS, "objective.projector.hidden=32", "objective.projector.outputs=16", "window.length_s=0.5",
        "evaluation.protocol=[health]",
    ],
    "train": [
        *STEPS, "calibration.least=5", "calibration.fraction=0.3", "calibration.precision=0.02",
        "evaluation.settings.resamples=5",
    ],
    "run": [f"train=init=runs/encoder objective=fixmatch {' '.join(STEPS)} evaluation.settings.resamples=5", "folds=2"],
    "summarise": ["resamples=20"],
}  # fmt: skip
"""What makes a command of the tutorial a matter of seconds."""


def songs(folder: Path, names: list[str], annotated: bool) -> None:
    """Recordings of eight calls of two kinds each, with Raven tables beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        kinds = [k % 2 for k in range(8)]
        wave = np.concatenate([tone(kind, 8 * number + k) for k, kind in enumerate(kinds)])
        soundfile.write(folder / f"{name}.wav", wave, RATE_HZ, subtype="PCM_16")
        lines = ["Selection\tBegin Time (s)\tEnd Time (s)\tSpecies"]
        lines += [f"{k + 1}\t{k / 2}\t{k / 2 + 0.5}\t{('song', 'call')[kind]}" for k, kind in enumerate(kinds)]
        if annotated:
            (folder / f"{name}.Table.1.selections.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def walked(tmp_path_factory) -> Path:
    """A folder in which the commands of the tutorial were run, one after the other; only the page was not opened."""
    folder = tmp_path_factory.mktemp("tutorial")
    songs(folder / "my_recordings", [f"NORTH_202305{day:02}_06{k:02}00" for day in (14, 15) for k in range(6)], True)
    songs(folder / "more_recordings", ["night", "NORTH_20230516_060000"], False)
    soundfile.write(folder / "call.wav", tone(0, 0), RATE_HZ, subtype="PCM_16")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        for verb, *keys in commands((DOCS / "tutorial.md").read_text(encoding="utf-8")):
            if verb == "label":  # with annotations one does without
                continue
            keys = [key.replace("labels/labels.csv", "corpus.csv") for key in keys]
            assert run(verb, *keys, *EXTRA.get(verb, [])) == 0, (verb, keys)
    return folder


def test_the_tutorial_leaves_what_it_says(walked):
    for name in (
        "corpus.csv", "check.html", "runs/encoder/report.html", "runs/calls/thresholds.json", "runs/calls/report.html",
        "runs/crossed/classifier/thresholds.json",
        "my_classifier/model.onnx", "my_classifier/README.md", "detections/detections.parquet", "summary/summary.html",
        "embeddings/embeddings.parquet", "hits/hits.html", "hits/hits.csv",
    ):  # fmt: skip
        assert (walked / name).stat().st_size, name
    assert list((walked / "detections" / "raven").rglob("*.txt"))


def test_detections_are_a_corpus_to_label(walked):
    assert (
        run("index", f"recordings={walked / 'detections' / 'detections.parquet'}", f"out={walked / 'again.csv'}") == 0
    )


@pytest.mark.parametrize("page", ["docs/tutorial.md", "README.md"])
def test_python_blocks_run_beside_the_model_of_the_tutorial(walked, page, monkeypatch):
    monkeypatch.chdir(walked)
    blocks = PYTHON.findall((ROOT / page).read_text(encoding="utf-8"))
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert blocks and {"path", "start_s", "end_s", "label", "score"} <= set(names["calls"].columns)
    assert names["embeddings"].shape == (8, 32)
    if "chances" in names:
        np.testing.assert_allclose(names["chances"][["call", "song"]].sum(axis=1), 1.0, rtol=1e-4)


# ---- links and pictures


def anchors(page: Path) -> set[str]:
    """The places in a page that can be linked to."""
    heads = re.findall(r"^#+ (.*)$", "".join(part for part, is_text in prose(whole(page)) if is_text), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", head.strip().lower())) for head in heads}


@pytest.mark.parametrize("page", sorted(linked([*PAGES, *BESIDE], whole)), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    if page.suffix != ".md":
        assert page.stat().st_size < 500_000
        return
    text = page.read_text(encoding="utf-8")
    for link in targets(text):
        file = file_of(page, link)
        assert file.exists(), link
        if "#" in link and file.suffix == ".md":
            assert link.partition("#")[2] in anchors(file), link
    for name in INCLUDE.findall(text):
        assert (ROOT / name).is_file() or name.startswith("benchmarks/"), name


def test_links_are_moved_as_their_pages_are():
    page = DOCS / "methods" / "page.md"
    text = "[a](../scale.md#x) `[b](../scale.md)` ![c](../../recipes/README.md) [`d`](https://x.org) `e\nf` "
    text += "[g](../../CHANGELOG.md)"
    wanted = text.replace("../../recipes", "../recipes").replace("../../CHANGELOG", "../changelog")
    assert moved(text, page) == wanted
    assert moved("```\n[a](../CHANGELOG.md)\n```\n", DOCS / "page.md") == "```\n[a](../CHANGELOG.md)\n```\n"
    assert place(ROOT / "recipes" / "README.md") == "recipes/README.md" and place(DOCS / "scale.md") == "scale.md"


def test_pictures_are_small():
    sizes = [path.stat().st_size for path in (DOCS / "images").iterdir()]
    assert max(sizes) < 200_000 and sum(sizes) < 1_000_000


# ---- what is made


def test_every_marker_names_a_maker_and_what_is_made_is_whole():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert all(name in MAKERS for name, _ in MADE.findall(text)), page
        assert len(re.findall("<!-- made", text)) == len(MADE.findall(text)), page
    for what, wanted in {
        "formats": ["raven", "audacity"],
        "writers": ["raven_together"],
        "selectors": ["vaal"],
    }.items():
        table = filled(f"<!-- made: {what} -->").splitlines()
        assert len({line.count("|") - line.count("\\|") for line in table}) == 1
        assert all(f"`{name}`" in "\n".join(table) for name in wanted)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_page_with_all_its_keys(verb):
    text = (DOCS / "verbs" / f"{verb}.md").read_text(encoding="utf-8")
    assert f"<!-- made: summary {verb} -->" in text and f"<!-- made: keys {verb} -->" in text
    assert any(command[0] == verb for command in commands(text)), "an example"
    config = yaml.safe_load(source_of(verb).read_text(encoding="utf-8"))
    rows = keys_of(source_of(verb).read_text(encoding="utf-8"))
    assert [name for name, _, _ in rows] == [name for name in flatten(config) if not name.startswith("defaults")]
    made = filled(f"<!-- made: summary {verb} -->\n\n<!-- made: keys {verb} -->")
    assert VERBS[verb] in made and all(f"| `{name}` |" in made for name, _, _ in rows)


def test_comments_and_defaults_of_keys_are_found():
    text = "# head\ndefaults:\n  - a: b\nx: 1 # one\n# of both\ny: # two\n  z: '#3'\n  w: ??? # four # five\n"
    assert keys_of(text) == [
        ("x", "1", "one"),
        ("y", "", "of both two"),
        ("y.z", "'#3'", ""),
        ("y.w", "???", "four # five"),
    ]


def test_families_name_modules_or_objectives_that_there_are():
    known = {
        path.stem for folder in ("audiorep/objectives", "configs/objective") for path in (ROOT / folder).glob("*.*")
    }
    for page in (DOCS / "methods").glob("*.md"):
        assert set(asked(page.read_text(encoding="utf-8"))) <= known, page


def test_the_menu_holds_every_page():
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert menu["theme"]["font"] is False, "nothing comes from other hosts"

    def pages(node: object) -> list[str]:
        if isinstance(node, str):
            return [node]
        return [page for part in (node.values() if isinstance(node, dict) else node) for page in pages(part)]

    listed = pages(menu["nav"])
    assert sorted(listed) == sorted(
        {path.relative_to(DOCS).as_posix() for path in PAGES} | {"contributing.md", "changelog.md"}
    )


def test_licences_and_citation_are_of_this_version():
    about = project()
    text = (DOCS / "licences.md").read_text(encoding="utf-8")
    missing = [name for name in about["dependencies"] if f"| {canonical(re.split('[<>=[ ]', name)[0])} |" not in text]
    assert not missing, "run: python docs/makers/licences.py"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == about["version"] == __version__ and citation["license"] == about["license"]
    assert set(VERBS) >= JOINED and configs().is_dir()


def test_the_table_in_the_docs_is_what_the_configs_say():
    rows = entries()
    assert all(row.what and row.needs and row.choose and row.source for row in rows)
    assert (DOCS / "objectives.md").read_text(encoding="utf-8") == markdown(rows), (
        "run: audiorep objectives out=docs/objectives.md"
    )


def test_the_verb_shows_the_part_that_is_asked_for(capsys):
    assert run("objectives", "only=queue") == 0
    shown = capsys.readouterr().err
    assert "moco" in shown and "simclr" not in shown
    assert run("objectives", "only=nonesuch") == 2
