"""From scores to rows: thresholds by class, windows that touch, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf
from scipy.special import logit

from audiorep.apply.detect import SCHEMA, Detector, Reporting, reporting_of
from audiorep.apply.scores import Scorer
from audiorep.errors import AudiorepError
from audiorep.verbs.detect import formats_of, reporting

RATE = 1000


def scorer(step: int | None = None, hop: int = 500) -> Scorer:
    """Says "loud" with the largest sample of a window (or of each step) as its probability, and "quiet" with .1."""

    def run(waves: np.ndarray) -> np.ndarray:
        parts = (
            waves[:, None] if step is None else waves[:, : waves.shape[1] // step * step].reshape(len(waves), -1, step)
        )
        loud = parts.max(2).clip(0.01, 0.99)
        return logit(np.stack([loud, np.full_like(loud, 0.1)], 2))

    return Scorer(run, RATE, 1000, ("loud", "quiet"), True, step, hop)


def recording(path: Path, loud: list[tuple[float, float, float]], seconds: float = 10.0) -> Path:
    wave = np.zeros(round(seconds * RATE), np.float32)
    for start, end, level in loud:
        wave[round(start * RATE) : round(end * RATE)] = level
    soundfile.write(path, wave, RATE, subtype="FLOAT")
    return path


def rows(path: Path, scorer: Scorer, reporting: Reporting) -> list[tuple]:
    tables = list(Detector(scorer, reporting, 3)(path))
    assert [table.schema for table in tables] == [SCHEMA]
    return [
        (round(r["start_s"], 3), round(r["end_s"], 3), r["label"], round(r["score"], 2)) for r in tables[0].to_pylist()
    ]


def test_windows_that_overlap_and_name_the_same_are_one_call(tmp_path):
    path = recording(tmp_path / "x.wav", [(2.6, 2.7, 0.8), (5.2, 5.3, 0.6), (9.9, 10.0, 0.9)])
    found = rows(path, scorer(), Reporting({"loud": 0.7, "quiet": 0.7}))
    assert found == [(2.0, 3.5, "loud", 0.8), (9.0, 10.0, "loud", 0.9)]
    found = rows(path, scorer(), Reporting({"loud": 0.5}, gap_s=2.0))
    assert found == [(2.0, 6.0, "loud", 0.8), (9.0, 10.0, "loud", 0.9)]


def test_steps_have_hysteresis_gaps_and_a_shortest_length(tmp_path):
    path = recording(tmp_path / "x.wav", [(1.0, 1.1, 0.4), (1.1, 1.2, 0.8), (1.25, 1.3, 0.5), (3.0, 3.01, 0.9)], 4.0)
    assert rows(path, scorer(10), Reporting({"loud": 0.7}, low=0.5)) == [
        (0.995, 1.195, "loud", 0.8), (2.995, 3.005, "loud", 0.9),
    ]  # fmt: skip
    found = rows(path, scorer(10), Reporting({"loud": 0.7}, low=0.5, gap_s=0.05, shortest_s=0.03))
    assert found == [(0.995, 1.295, "loud", 0.8)]


def test_nothing_found_is_an_empty_table(tmp_path):
    assert rows(recording(tmp_path / "x.wav", []), scorer(), Reporting({"loud": 0.5})) == []


def test_thresholds_of_a_file_rule_and_overrule(tmp_path):
    told = {"temperature": 2.0, "multilabel": True, "wanted_precision": None,
            "classes": {"loud": {"threshold": 0.3}, "quiet": {"threshold": None}},
            "events": {"low": 0.4, "gap_s": 0.1, "shortest_s": 0.0, "exclusive": True}}  # fmt: skip
    found = reporting_of(told)
    assert found == Reporting({"loud": 0.3}, 2.0, 0.4, 0.1, 0.0, True)
    (tmp_path / "thresholds.json").write_text(json.dumps(told))
    cfg = OmegaConf.create(
        {"model": str(tmp_path), "thresholds": None, "threshold": None, "leave_out": ["noise"], "low": None, "gap_s": 0.2,
         "shortest_s": None, "exclusive": None}
    )  # fmt: skip
    assert reporting(cfg, scorer()).gap_s == 0.2 and set(reporting(cfg, scorer()).thresholds) == {"loud"}
    cfg.threshold = 0.9
    assert reporting(cfg, scorer()).thresholds == {"loud": 0.9, "quiet": 0.9}
    cfg.leave_out, cfg.threshold = ["loud"], None
    with pytest.raises(AudiorepError, match="no class has a threshold"):
        reporting(cfg, scorer())
    (tmp_path / "thresholds.json").unlink()
    with pytest.raises(AudiorepError, match=r"threshold=0\.5"):
        reporting(cfg, scorer())


def test_what_cannot_be_reported_is_refused():
    with pytest.raises(AudiorepError, match="no class 'other'.*loud, quiet"):
        Detector(scorer(), Reporting({"other": 0.5}))
    with pytest.raises(AudiorepError, match="between 0 and 1"):
        Reporting({"loud": 1.5})
    with pytest.raises(AudiorepError, match="low=0"):
        Reporting({"loud": 0.5}, low=0)
    with pytest.raises(AudiorepError, match="to=ravn"):
        formats_of("ravn")
