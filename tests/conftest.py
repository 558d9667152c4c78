"""Fixtures that several tests share: a tiny corpus made on the spot, and the real corpora where they are at hand."""

import os
from pathlib import Path

import pytest
import soundfile
import torch
from toy import RATE_HZ, tone

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", min(2, os.cpu_count() or 1))))

LONG = (
    *("test_cli", "test_train", "test_objective_contract", "test_collapse_pairs", "test_distributed"),
    *("test_objectives", "test_several_processes", "test_grid", "test_corpora", "test_recipes", "test_docs"),
    *("test_page", "test_bulk", "test_bundle", "test_extending", "test_journal", "test_domain", "test_onnx_verbs"),
)
"""Files that take long are begun first, so that no process is left alone with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of `LONG` first."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="session")
def toy_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 96 clips of four classes in six groups."""
    folder = tmp_path_factory.mktemp("toy")
    lines = ["path,start_s,end_s,label,group"]
    for i in range(96):
        kind, name = i % 4, f"{i:03d}.wav"
        soundfile.write(folder / name, tone(kind, i), RATE_HZ, subtype="PCM_16")
        lines.append(f"{name},0,0.5,{['up', 'down', 'flat', 'trill'][kind]},g{i // 4 % 6}")
    manifest = folder / "toy.csv"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of real corpora named by AUDIOREP_CORPORA; without it the test is skipped."""
    folder = os.environ.get("AUDIOREP_CORPORA")
    if not folder:
        pytest.skip("AUDIOREP_CORPORA is not set")
    return Path(folder).resolve()
