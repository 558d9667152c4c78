"""Temperatures are found again, reliability equals a loop, and thresholds keep the precision that was asked for."""

import numpy as np
import pytest

from audiorep.errors import AudiorepError
from audiorep.evaluate.calibrate import fit_temperature, probabilities, reliability, threshold_for


def drawn(temperature: float, multilabel: bool, rows: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that come true with the probabilities of these logits divided by the temperature."""
    rng = np.random.default_rng(0)
    logits = 3.0 * rng.standard_normal((rows, 4))
    p = probabilities(logits, temperature, multilabel)
    if multilabel:
        return logits, (rng.random(p.shape) < p).astype(float)
    return logits, (p.cumsum(1) < rng.random((rows, 1))).sum(1).clip(0, 3)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_temperature_is_found_again_and_makes_the_probabilities_come_true(temperature, multilabel):
    logits, truth = drawn(temperature, multilabel)
    found = fit_temperature(logits, truth)
    assert found == pytest.approx(temperature, rel=0.07)
    before, after = (reliability(probabilities(logits, t, multilabel), truth).error for t in (1.0, found))
    assert after < 0.02 and (temperature == 1.0 or after < 0.5 * before)


def test_what_is_unknown_has_no_say():
    logits, truth = drawn(2.0, False, 500)
    hidden = np.where(np.arange(500) % 3, truth, -1)
    assert fit_temperature(logits, hidden) == pytest.approx(fit_temperature(logits[hidden >= 0], truth[hidden >= 0]))
    logits, several = drawn(2.0, True, 500)
    some = several.copy()
    some[::2, :2] = np.nan
    wild = logits.copy()
    wild[::2, :2] = 50.0
    assert fit_temperature(wild, some) == pytest.approx(fit_temperature(logits, some))
    with pytest.raises(AudiorepError, match="there are none"):
        fit_temperature(logits, np.full(500, -1))


def test_classes_that_are_told_apart_without_error_get_the_coldest_temperature_and_no_overflow():
    logits = 5.0 * np.eye(3)[np.arange(30) % 3]
    with np.errstate(over="raise", invalid="raise"):
        assert 0.009 < fit_temperature(logits, np.arange(30) % 3) < 1.0
        assert 0.009 < fit_temperature(logits - 2.5, np.eye(3)[np.arange(30) % 3]) < 1.0


def test_reliability_equals_a_loop():
    logits, truth = drawn(3.0, False, 300)
    truth[:20] = -1
    p = probabilities(logits, 1.0, False)
    found, error = reliability(p, truth, bins=7), 0.0
    for b in range(7):
        inside = [i for i in range(20, 300) if b / 7 <= p[i].max() < (b + 1) / 7 or (b == 6 and p[i].max() == 1.0)]
        assert found.count[b] == len(inside)
        if inside:
            right = np.mean([p[i].argmax() == truth[i] for i in inside])
            told = np.mean([p[i].max() for i in inside])
            assert (found.accuracy[b], found.confidence[b]) == pytest.approx((right, told))
            error += len(inside) / 280 * abs(right - told)
        else:
            assert np.isnan(found.accuracy[b])
    assert found.error == pytest.approx(error)
    assert np.isnan(reliability(p, np.full(300, -1)).error)


def test_what_is_quite_sure_stands_in_the_last_bin():
    found = reliability(np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.4]]), np.array([0, 0, 0]), bins=5)
    assert found.count.tolist() == [0, 0, 0, 1, 2] and found.accuracy[4] == 0.5 and len(found.confidence) == 5


def test_a_threshold_may_be_the_least_that_is_asked_for_and_no_lower():
    score, present = np.array([0.9, 0.5, 0.4]), np.ones(3, bool)
    assert threshold_for(score, present, 0.9, least=0.5).value == 0.5
    assert threshold_for(score, present, 0.9, least=0.51).value == 0.9
    assert threshold_for(score, present, 0.9, least=0.91).value is None


@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.9, 1.0])
def test_a_threshold_is_the_one_of_highest_recall_that_is_precise_enough(wanted):
    rng = np.random.default_rng(1)
    for _ in range(40):
        score = rng.integers(0, 12, 40) / 12.0
        present = rng.random(40) < score
        found = threshold_for(score, present, wanted)
        best = (0.0, None)
        for value in np.unique(score):
            kept = score >= value
            if present[kept].mean() >= wanted and present[kept].any():
                best = max(best, (present[kept].sum() / present.sum(), -value))
        if best[1] is None:
            assert found.value is None and found.recall == 0.0
        else:
            kept = score >= found.value
            assert present[kept].mean() >= wanted and found.precision == pytest.approx(present[kept].mean())
            assert found.recall == pytest.approx(best[0]) == pytest.approx(present[kept].sum() / present.sum())


def test_where_nothing_is_precise_enough_there_is_no_threshold():
    assert threshold_for(np.array([0.9, 0.5, 0.1]), np.array([False, False, True]), 0.9).value is None
    assert threshold_for(np.zeros(0), np.zeros(0, bool), 0.9).value is None
    assert threshold_for(np.array([0.9, 0.5]), np.array([False, False]), 0.5).value is None
    with pytest.raises(AudiorepError, match="precision=1.5"):
        threshold_for(np.zeros(2), np.ones(2, bool), 1.5)
