"""On real recordings: short trainings by default, the promised figures in the slow run."""

import json
from pathlib import Path

import pytest
from small import NAMES

from audiorep.cli import main

pytestmark = pytest.mark.corpora

ELSEWHERE = ("distill", "frames")  # need a teacher, and recordings annotated throughout (audiorep train)


def pretrain(corpus: Path, out: Path, *keys: str) -> dict[str, float]:
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", f"corpus={corpus / 'labels.csv'}", f"out={out}", "data.workers=0", *keys])
    assert not ended.value.code
    return json.loads((out / "metrics.json").read_text())


def test_sixty_steps_of_simclr_on_spoken_digits_beat_mel_and_random(corpora, tmp_path):
    keys = ["split.column=official_split", "trainer.max_steps=60", "evaluation.protocol=[knn]"]
    scores = pretrain(corpora / "fsdd", tmp_path / "run", *keys)
    assert scores["knn/accuracy"] > 0.93 > scores["mel/knn/accuracy"] > scores["random/knn/accuracy"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("objective", [name for name in NAMES if name not in ELSEWHERE])
def test_every_objective_beats_its_untrained_encoder_on_spoken_digits(objective, corpora, tmp_path):
    """The figures stand in recipes/ssl_comparison."""
    keys = ["split.column=official_split", f"objective={objective}", "evaluation.protocol=[knn]"]
    keys += ["data.domain=group"] if objective.startswith("domain_") else []  # the speakers
    scores = pretrain(corpora / "fsdd", tmp_path / "run", *keys)
    assert scores["knn/accuracy"] > scores["random/knn/accuracy"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_labels_a_syllable_are_enough_for_a_finch(corpora, tmp_path):
    keys = ["window.outside=zero", "split.fold=0", "evaluation.protocol=[linear]"]
    scores = pretrain(corpora / "finch_bird0", tmp_path / "run", *keys)
    assert scores["linear@5/balanced_accuracy"] > max(0.944, scores["mel/linear@5/balanced_accuracy"])
