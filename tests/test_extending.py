"""The worked examples of docs/extending.md, followed to the letter in a copy of the repository."""

import os
import shutil
import subprocess
import sys

import pytest
from links import DOCS, ROOT
from worked import blocks, changed, write_into


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The repository with the examples in it."""
    root = tmp_path_factory.mktemp("examples")
    for name in ("audiorep", "configs", "tests"):
        shutil.copytree(ROOT / name, root / name)
    (root / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    write_into(root, (DOCS / "extending.md").read_text(encoding="utf-8"))
    return root


def called(copy, *command):
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", *command], cwd=copy, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_the_examples_keep_the_contracts(copy):
    # each contract by its own file, as far as it takes no other process
    files = [
        "tests/objectives/test_decorrelate.py", "tests/objectives/test_objective_contract.py",
        "tests/encoders/test_two_convolutions.py", "tests/encoders/test_encoders.py", "tests/augment/test_reverse.py",
        "tests/augment/test_augment_contract.py", "tests/select/test_density.py", "tests/select/test_selector_contract.py",
        "tests/data/formats/test_sonic_visualiser.py",
    ]  # fmt: skip
    names = "decorrelate or two_convolutions or everse or density or sonic"
    status, said = called(copy, "pytest", "-o", "addopts=", "--import-mode=importlib", "-q", "-k", names, *files)
    assert status == 0, said
    assert int(said.rsplit(" passed", 1)[0].split()[-1]) >= 40, said


def test_the_examples_are_written_as_the_rest_is(copy):
    new = [
        name
        for language, name, _ in blocks((DOCS / "extending.md").read_text(encoding="utf-8"))
        if language == "python"
    ]
    assert len(new) == 10
    for command in (["check"], ["format", "--check"]):
        status, said = called(copy, "ruff", *command, *new)
        assert status == 0, said


def test_a_line_is_put_behind_the_one_that_is_named():
    assert changed("a\nb\nc\n", " b\n+d\n+e\n") == "a\nb\nd\ne\nc\n"
    with pytest.raises(AssertionError, match="no single line"):
        changed("a\na\n", " a\n+b\n")
