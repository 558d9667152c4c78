"""Kappa and alpha equal scikit-learn's, the examples of those who made them, and loops written out."""

import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from audiorep.errors import AudiorepError
from audiorep.label.agreement import agreement, cohen_kappa, fleiss_kappa, krippendorff_alpha
from audiorep.label.answer import Answer

# Fleiss 1971, table 1: 30 patients, each diagnosed by six psychiatrists (depression, personality disorder,
# schizophrenia, neurosis, other)
FLEISS = """00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031
            00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006"""

# Krippendorff 2011, part C: four observers, twelve units, values missing
KRIPPENDORFF = ["123321412...", "1233224125.3", ".333234225 1.".replace(" ", ""), "12332441251."]


def tables(seed: int, n: int = 40, k: int = 4, m: int = 5) -> np.ndarray:
    """[n k] annotators by category, who agree somewhat."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, n)
    votes = np.where(rng.random((n, m)) < 0.6, truth[:, None], rng.integers(0, k, (n, m)))
    return np.stack([(votes == j).sum(1) for j in range(k)], 1)


def pairs(a: np.ndarray, b: np.ndarray, k: int) -> np.ndarray:
    out = np.zeros((k, k), np.int64)
    np.add.at(out, (a, b), 1)
    return out


def test_cohens_kappa_of_a_table_by_hand():
    # p_o = .7, p_e = .5 * .6 + .5 * .4 = .5
    assert cohen_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_cohens_kappa_is_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 5, 60)
    b = np.where(rng.random(60) < 0.5, a, rng.integers(0, 5, 60))
    assert cohen_kappa(pairs(a, b, 5)) == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)
    assert cohen_kappa(pairs(a, a, 5)) == 1.0


def test_kappa_of_nothing_and_of_one_category_is_not_defined():
    for counts in (np.zeros((2, 2), np.int64), np.array([[7, 0], [0, 0]])):
        assert math.isnan(cohen_kappa(counts))
    for score in (fleiss_kappa, krippendorff_alpha):
        assert math.isnan(score(np.zeros((0, 3), np.int64)))
        assert math.isnan(score(np.array([[3, 0], [3, 0], [3, 0]])))
        assert score(np.array([[3, 0], [0, 3]])) == 1.0


def test_fleiss_kappa_of_fleiss_own_example():
    counts = np.array([[int(cell) for cell in row] for row in FLEISS.split()])
    assert counts.shape == (30, 5)
    assert (counts.sum(0) / 180).round(3).tolist() == [0.144, 0.144, 0.167, 0.306, 0.239]  # as printed
    assert fleiss_kappa(counts) == pytest.approx(0.430, abs=5e-4)


@pytest.mark.parametrize("seed", range(3))
def test_fleiss_kappa_and_alpha_equal_loops_over_pairs_of_annotators(seed):
    counts = tables(seed)
    n, k = counts.shape
    votes = [[j for j in range(k) for _ in range(counts[i, j])] for i in range(n)]

    def loops(votes: list[list[int]], with_replacement: bool) -> float:
        agreed = sum(
            sum(a == b for x, a in enumerate(row) for y, b in enumerate(row) if x != y) / (len(row) - 1)
            for row in votes
        )
        every = [vote for row in votes for vote in row]
        by_chance = sum(a == b for x, a in enumerate(every) for y, b in enumerate(every) if with_replacement or x != y)
        chance = by_chance / (len(every) * (len(every) - (0 if with_replacement else 1)))
        return (agreed / len(every) - chance) / (1.0 - chance)

    assert fleiss_kappa(counts) == pytest.approx(loops(votes, True), abs=1e-12)
    assert krippendorff_alpha(counts) == pytest.approx(loops(votes, False), abs=1e-12)
    fewer = [row[: 2 + i % 4] for i, row in enumerate(votes)]
    uneven = np.array([[row.count(j) for j in range(k)] for row in fewer])
    assert krippendorff_alpha(uneven) == pytest.approx(loops(fewer, False), abs=1e-12)


def test_alpha_of_krippendorffs_own_example():
    counts = np.array(
        [[sum(row[i] == value for row in KRIPPENDORFF) for value in "12345"] for i in range(12)], dtype=np.int64
    )
    assert krippendorff_alpha(counts) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(counts[counts.sum(1) > 1]) == krippendorff_alpha(counts)


def test_fleiss_kappa_refuses_unequal_numbers():
    for counts in ([[2, 0], [1, 2]], [[1, 0], [0, 1]]):
        with pytest.raises(AudiorepError, match="it needs equal numbers, two at least: leave out"):
            fleiss_kappa(np.array(counts))


def answers(table: dict[str, str], **more: object) -> list[Answer]:
    """{annotator: one letter a clip}: "." not answered, "n" noise, "u" unknown, "s" skipped, others are labels."""
    kinds = {"n": "noise", "u": "unknown", "s": "skip"}
    return [
        Answer(f"{annotator}{i}", f"c{i}", annotator, kinds.get(letter, "label"),
               {} if letter in kinds else {letter: True}, **more)
        for annotator, letters in table.items() for i, letter in enumerate(letters) if letter != "."
    ]  # fmt: skip


def test_agreement_of_two_annotators_counts_the_clips_that_both_answered():
    table = {"ann": "aabbnu.sa", "bob": "aabanna.s"}
    found = agreement(answers(table) + answers({"eve": "b"}, source="adjudication"))
    assert found.cohen == {("ann", "bob"): (pytest.approx(cohen_kappa_score(list("aabbnu"), list("aabann"))), 6)}
    assert (found.fleiss_clips, found.alpha_clips) == (6, 6)


def test_agreement_of_three_takes_kappa_where_all_answered_and_alpha_where_two_did():
    found = agreement(answers({"ann": "aabb.a", "bob": "abbba.", "eve": "aabaas"}))
    full = np.array([[3, 0], [2, 1], [0, 3], [1, 2]])
    assert found.fleiss == fleiss_kappa(full)
    assert found.alpha == krippendorff_alpha(np.vstack([full, [[2, 0]]]))
    assert (found.fleiss_clips, found.alpha_clips) == (4, 5)
    assert {pair: n for pair, (_, n) in found.cohen.items()} == {
        ("ann", "bob"): 4,
        ("ann", "eve"): 4,
        ("bob", "eve"): 5,
    }


def test_agreement_about_one_class_counts_who_judged_it():
    given = [
        Answer("1", "c0", "ann", labels={"a": True, "b": True}), Answer("2", "c0", "bob", labels={"a": True}),
        Answer("3", "c1", "ann", labels={"a": False}), Answer("4", "c1", "bob", "noise"),
        Answer("5", "c2", "ann", labels={"b": True}), Answer("6", "c2", "bob", labels={"a": True, "b": False}),
    ]  # fmt: skip
    found = agreement(given, "a")
    assert found.cohen == {("ann", "bob"): (1.0, 2)}
    assert agreement(given, "b").cohen[("ann", "bob")][1] == 1


def test_agreement_of_one_annotator_or_none_is_empty():
    for given in ([], answers({"ann": "aab"})):
        found = agreement(given)
        assert (found.cohen, found.fleiss_clips, found.alpha_clips) == ({}, 0, 0)
        assert math.isnan(found.fleiss)
        assert math.isnan(found.alpha)
