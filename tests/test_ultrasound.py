"""Bats at 384 kHz, recorded as they are or slowed down ten times: the same numbers from index to selection table."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile
from test_cli import run

from audiorep.data.guano import write_guano

RATE_HZ, CALL, FILE = 384_000, 3_840, 38_400
"""10 ms calls in files of 100 ms, in samples."""


def sweep(kind: int, seed: int) -> np.ndarray:
    """A call that falls from 90 to 30 kHz, or stays near 45."""
    t = np.arange(CALL) / RATE_HZ
    begin, end = ((90e3, 30e3), (46e3, 44e3))[kind]
    phase = 2 * np.pi * (begin * t + (end - begin) * t**2 / (2 * t[-1]))
    rng = np.random.default_rng([seed, kind])
    return 0.3 * rng.uniform(0.5, 1.0) * np.hanning(CALL) * np.sin(phase + rng.uniform(0, 6))


def corpus(folder: Path, expansion: int) -> Path:
    """Twenty-four calls in six recordings; the table counts seconds of the sound."""
    folder.mkdir()
    rows = []
    for i in range(6):
        wave = 0.003 * np.random.default_rng(i).standard_normal(FILE)
        for j in range(4):
            first = 2_001 + 9_000 * j
            wave[first : first + CALL] += sweep((i + j) % 2, 10 * i + j)
            rows.append([f"{i}.wav", first / RATE_HZ, (first + CALL) / RATE_HZ, ["fall", "flat"][(i + j) % 2]])
        path = folder / f"{i}.wav"
        soundfile.write(path, wave, RATE_HZ // expansion, subtype="PCM_16")
        if expansion > 1:
            write_guano(path, path, {"TE": str(expansion), "Samplerate": str(RATE_HZ)})
    table = pd.DataFrame(rows, columns=["path", "start_s", "end_s", "label"])
    table.to_csv(folder / "rows.csv", index=False)
    return folder / "rows.csv"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What every verb on the way leaves of both."""
    out = {}
    for expansion in (1, 10):
        folder = tmp_path_factory.mktemp("bats")
        rows = corpus(folder / "in", expansion)
        assert run("index", f"recordings={rows}", f"out={folder / 'corpus.csv'}") == 0
        keys = [
            "objective=supervised", "split.folds=3", "encoder.width=8", "encoder.dim=32", "trainer.max_steps=12",
            "trainer.precision=32-true", "data.batch_size=8", "data.workers=0", "calibration.fraction=0",
            "evaluation.settings.resamples=20",
        ]  # fmt: skip
        assert run("train", f"corpus={folder / 'corpus.csv'}", f"out={folder / 'run'}", *keys) == 0
        embedding = [f"model={folder / 'run'}", f"recordings={folder / 'in'}", "hop_s=0.005"]
        assert run("embed", *embedding, f"out={folder / 'emb'}") == 0
        assert run("convert", f"recordings={folder / 'corpus.csv'}", "to=raven", f"out={folder / 'raven'}") == 0
        out[expansion] = folder
    return out


def test_rate_window_and_hop_follow_the_sound_not_the_file(results):
    for folder in results.values():
        card = json.loads((folder / "run" / "config.json").read_text())
        assert card["sample_rate_hz"] == RATE_HZ and card["window_s"] <= 0.02, card
        table = pd.read_csv(folder / "corpus.csv")
        assert (np.rint(table["start_s"] * RATE_HZ) == np.tile(2_001 + 9_000 * np.arange(4), 6)).all()


def test_slowed_down_recordings_train_the_same_model_and_get_the_same_scores(results):
    a, b = (json.loads((folder / "run" / "metrics.json").read_text()) for folder in results.values())
    assert a.keys() == b.keys() and all(a[k] == pytest.approx(b[k], rel=1e-6, nan_ok=True) for k in a)


def test_embeddings_and_their_times_are_the_same_to_the_sample(results):
    a, b = (pq.read_table(folder / "emb" / "embeddings.parquet").to_pandas() for folder in results.values())
    assert len(a) == len(b) and (a["start_s"] == b["start_s"]).all()
    np.testing.assert_array_equal(np.rint(a["start_s"] * RATE_HZ) % (0.005 * RATE_HZ), 0)
    np.testing.assert_allclose(np.stack(a["embedding"]), np.stack(b["embedding"]), rtol=1e-5, atol=1e-6)


def test_selection_tables_hold_the_times_and_the_band_of_the_sound(results):
    for folder in results.values():
        lines = (folder / "raven" / "in" / "3.Table.1.selections.txt").read_text().splitlines()
        cells = dict(zip(lines[0].split("\t"), lines[2].split("\t"), strict=True))
        assert float(cells["Begin Time (s)"]) == pytest.approx(11_001 / RATE_HZ, abs=5e-7)
        assert float(cells["High Freq (Hz)"]) == RATE_HZ / 2
