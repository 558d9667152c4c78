"""Hysteresis against a loop that walks step by step, and in chunks as in one piece."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from audiorep.apply.tracks import Call, Rule, calls_of
from audiorep.errors import AudiorepError

SCORES = arrays(
    np.float64, st.tuples(st.integers(0, 40), st.just(3)), elements=st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.9])
)


def rule(gap: int = 0, shortest: int = 1, exclusive: bool = False) -> Rule:
    return Rule(np.array([0.6, 0.5, np.nan]), np.array([0.3, 0.5, np.nan]), gap, shortest, exclusive)


def walked(scores: np.ndarray, rule: Rule) -> list[Call]:
    """The same, one step and one class after the other."""
    out = []
    for label in range(scores.shape[1]):
        if np.isnan(rule.high[label]):
            continue
        call, silent = None, 0
        for step in range(len(scores) + rule.gap + 1):
            here = float(scores[step, label]) if step < len(scores) else -1.0
            if rule.exclusive and step < len(scores) and int(scores[step].argmax()) != label:
                here = -1.0
            if here >= rule.low[label]:
                call = (
                    Call(label, step, step, here)
                    if call is None
                    else Call(label, call.first, step, max(call.score, here))
                )
                silent = 0
            elif call is not None:
                silent += 1
                if silent > rule.gap:
                    if call.score >= rule.high[label] and call.last - call.first + 1 >= rule.shortest:
                        out.append(call)
                    call, silent = None, 0
    return sorted(out, key=lambda call: (call.first, call.last, call.label))


@given(SCORES, st.lists(st.integers(0, 40), max_size=6), st.integers(0, 3), st.integers(1, 3), st.booleans())
@settings(max_examples=300, deadline=None)
def test_calls_are_those_of_a_walk_however_the_scores_are_cut(scores, cuts, gap, shortest, exclusive):
    chosen = rule(gap, shortest, exclusive)
    chunks = np.split(scores, sorted(min(cut, len(scores)) for cut in cuts))
    assert calls_of(chunks, chosen) == calls_of([scores], chosen) == walked(scores, chosen)


def test_a_call_reaches_high_somewhere_and_keeps_low():
    scores = np.array([[0.2, 0], [0.4, 0], [0.7, 0], [0.4, 0], [0.2, 0], [0.4, 0.0]])
    assert calls_of([scores], Rule(np.array([0.6, 0.6]), np.array([0.3, 0.3]))) == [Call(0, 1, 3, 0.7)]


def test_thresholds_that_cannot_be_are_refused():
    with pytest.raises(AudiorepError, match="low threshold"):
        Rule(np.array([0.3]), np.array([0.5]))
    with pytest.raises(AudiorepError, match="cannot be"):
        Rule(np.array([0.5]), np.array([0.3]), gap=-1)
