"""Fixtures that several tests share: a tiny corpus made on the spot, and the real corpora where they are at hand."""

import os
from pathlib import Path

import pytest
import soundfile
import torch
from toy import RATE_HZ, tone

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", min(2, os.cpu_count() or 1))))


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
