"""The shortcut alarm: a planted recorder is found on recordings not seen before, and nothing is found where nothing is."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats.contingency import association

from audiorep.errors import AudiorepError
from audiorep.evaluate.confounding import contingency, cramers_v
from audiorep.evaluate.metrics import Predictions
from audiorep.evaluate.shortcut import (
    MAX_ROWS,
    Findings,
    encode,
    find_shortcuts,
    held_out_scores,
    is_clearly_better,
    make_folds,
    nuisance_columns,
)

ROWS, RECORDERS = 240, ("audiomoth", "sm4", "zoom")


def corpus(groups: int = 24, rows: int = ROWS) -> pd.DataFrame:
    """Rows of `groups` groups in turn, a file each; every recorder has a third of the groups, a site is a group."""
    group = np.arange(rows) % groups
    recorder = [RECORDERS[g % 3] for g in group]
    names = [f"g{g}" for g in group]
    return pd.DataFrame(
        {"path": [f"{i}.wav" for i in range(rows)], "label": "", "group": names, "recorder": recorder, "site": names}
    )


def noise(rows: int = ROWS, d: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, d)).astype(np.float32)


def planted(strength: float, seed: int = 0) -> np.ndarray:
    """Noise, and an offset of its own for each recorder."""
    return noise(seed=seed) + strength * np.eye(16, dtype=np.float32)[encode(corpus()["recorder"])]


def probed(ours: np.ndarray, mel: np.ndarray, random: np.ndarray, column: str = "recorder", **changed) -> Findings:
    frame = corpus().assign(**changed)
    none = np.full(ROWS, -1)
    return find_shortcuts({"": ours, "mel": mel, "random": random}, np.ones(ROWS, bool), frame, [column], none, seed=0)


def test_a_planted_recorder_is_found_and_said_with_numbers():
    found = probed(planted(6.0), noise(seed=1), noise(seed=2))
    key = "shortcut/recorder"
    assert found.metrics[f"{key}/balanced_accuracy"] > 0.95
    for name in ("", "mel/", "random/"):
        low, value, high = (found.metrics[f"{name}{key}/balanced_accuracy{end}"] for end in ("/low", "", "/high"))
        assert low <= value <= high and found.metrics[f"{name}{key}/chance"] == pytest.approx(1 / 3)
    assert found.metrics[f"mel/{key}/balanced_accuracy"] == pytest.approx(1 / 3, abs=0.12)
    (warning,) = found.warnings
    assert "tells recorder with 1.00 balanced accuracy (mel ." in warning and "chance .33)" in warning
    assert "may have learnt the recorder" in warning and "split.by=recorder split.folds=3" in warning
    assert found.notes == []


def test_an_embedding_without_the_recorder_is_at_chance_and_raises_no_alarm():
    found = probed(noise(), noise(seed=1), noise(seed=2))
    assert found.metrics["shortcut/recorder/balanced_accuracy"] == pytest.approx(1 / 3, abs=0.12)
    assert found.warnings == []


def test_what_mel_statistics_tell_too_is_no_alarm():
    assert probed(planted(6.0), planted(6.0, 1), noise(seed=2)).warnings == []


def test_what_the_untrained_encoder_tells_too_is_not_called_learnt():
    (warning,) = probed(planted(6.0), noise(seed=1), planted(6.0, 2)).warnings
    assert "as the untrained encoder does" in warning and "learnt" not in warning


def test_a_probe_that_knows_single_groups_only_does_not_count_as_telling_the_recorder():
    """Embeddings that name the group and nothing else: folds by row would take that for the recorder."""
    frame = corpus(groups=60)
    code, group = encode(frame["recorder"]), frame["group"].to_numpy(dtype=str)
    embedding = noise(d=100) + 5 * noise(60, 100, seed=1)[np.arange(ROWS) % 60]
    score = {}
    for kind, unit in {"group": group, "row": np.arange(ROWS)}.items():
        folds = make_folds(code, {kind: unit}, seed=0)
        assert folds is not None
        score[kind] = (held_out_scores(embedding[folds.rows], folds).argmax(1) == folds.value).mean()
    assert score["group"] < 0.5 and score["row"] > 0.8


def test_folds_keep_groups_together_and_hold_every_value_twice():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 40, 6000)
    code = np.where(rng.random(6000) < 0.1, -1, group % 4)
    folds = make_folds(code, {"group": group}, seed=3)
    assert folds is not None and folds.kind == "group" and not folds.second_choice and folds.left_out == 0
    assert len(folds.rows) == MAX_ROWS == len(np.unique(folds.rows)) and (code[folds.rows] >= 0).all()
    np.testing.assert_array_equal(folds.value, code[folds.rows])
    np.testing.assert_array_equal(folds.unit, group[folds.rows])
    assert set(folds.fold) == set(range(5))
    assert all(len(np.unique(folds.fold[folds.unit == g])) == 1 for g in np.unique(folds.unit))
    assert all(len(np.unique(folds.fold[folds.value == v])) >= 2 for v in range(4))
    again, other = make_folds(code, {"group": group}, seed=3), make_folds(code, {"group": group}, seed=4)
    assert again is not None and other is not None
    np.testing.assert_array_equal(folds.fold, again.fold)
    assert not np.array_equal(folds.rows, other.rows)


def test_values_that_are_rare_or_of_a_single_group_are_left_out_and_counted():
    code = np.repeat([0, 1, 2, 3], [40, 40, 40, 4])
    group = np.concatenate([np.arange(40) % 4, 4 + np.arange(40) % 4, np.full(40, 8), np.arange(4) + 9])
    folds = make_folds(code, {"group": group, "row": np.arange(124)}, seed=0)
    assert folds is not None and (folds.kind, folds.values, folds.left_out) == ("group", 2, 2)
    assert set(code[folds.rows]) == {0, 1}
    assert make_folds(np.repeat([0, 1], [40, 4]), {"row": np.arange(44)}, seed=0) is None
    assert make_folds(np.full(10, -1), {"row": np.arange(10)}, seed=0) is None


def test_where_a_site_is_a_group_recordings_are_kept_apart_instead_and_a_note_says_so():
    found = probed(noise(), noise(seed=1), noise(seed=2), "site")
    (note,) = found.notes
    assert "site" in note and "too few groups" in note and "no recording is on both sides" in note
    assert found.metrics["shortcut/site/chance"] == pytest.approx(1 / 24)
    (note,) = probed(noise(), noise(seed=1), noise(seed=2), "site", path=corpus()["site"]).notes
    assert "no row is on both sides" in note


def test_a_column_with_too_little_in_it_gets_a_note_and_no_accuracy():
    found = probed(noise(), noise(seed=1), noise(seed=2), recorder=["sm4"] + [""] * (ROWS - 1))
    assert found.metrics == {} and "not probed" in found.notes[0]


def test_the_usual_columns_are_found_whatever_their_case():
    frame = corpus().rename(columns={"recorder": "Recorder"})
    assert nuisance_columns(frame) == ["Recorder", "site"]
    assert nuisance_columns(frame, "auto") == nuisance_columns(frame)
    assert nuisance_columns(frame, []) == nuisance_columns(frame, None) == []
    assert nuisance_columns(frame, ["group", "site"]) == ["group", "site"] and nuisance_columns(frame, "group") == [
        "group"
    ]
    one = ["a", ""] * (ROWS // 2)
    assert nuisance_columns(corpus().assign(site=one, device=np.arange(ROWS), station=np.nan)) == ["recorder"]


def test_an_unknown_column_is_an_error_that_lists_the_columns():
    with pytest.raises(AudiorepError, match=r"evaluation\.shortcut=mic: .*no such column; there are: path, .*recorder"):
        nuisance_columns(corpus(), ["recorder", "mic"])
    with pytest.raises(AudiorepError, match=r"evaluation\.shortcut=label"):
        nuisance_columns(corpus(), ["label"])


def test_values_are_numbered_by_name_and_empty_ones_unknown():
    assert encode(pd.Series(["b", " a", None, "", np.nan, "b"])).tolist() == [1, 0, -1, -1, -1, 1]
    assert encode(pd.Series([3, 1, 3])).tolist() == [1, 0, 1]


def test_rows_without_an_embedding_take_no_part():
    embeddings = {name: noise(seed=seed) for seed, name in enumerate(("", "mel", "random"))}
    known, frame, none = np.arange(ROWS) >= 60, corpus(), np.full(ROWS, -1)
    clean = find_shortcuts(embeddings, known, frame, ["recorder"], none, 0)
    for embedding in embeddings.values():
        embedding[:60] = 1e6
    assert find_shortcuts(embeddings, known, frame, ["recorder"], none, 0) == clean
    embeddings["mel"][:60] = np.nan
    assert find_shortcuts(embeddings, np.ones(ROWS, bool), frame, ["recorder"], none, 0) == clean


def test_confounding_is_told_where_there_are_labels_and_only_there():
    frame, known = corpus(), np.ones(ROWS, bool)
    embeddings = {name: noise(seed=seed) for seed, name in enumerate(("", "mel", "random"))}
    code = encode(frame["recorder"])
    alike = find_shortcuts(embeddings, known, frame, ["recorder"], code, 0)
    assert alike.metrics["shortcut/recorder/confounding"] == pytest.approx(1.0)
    assert alike.warnings == ["label and recorder go together (Cramer's V 1.00): scores may measure the recorder"]
    apart = find_shortcuts(embeddings, known, frame, ["recorder"], np.arange(ROWS) // 3 % 2, 0)
    assert apart.metrics["shortcut/recorder/confounding"] == pytest.approx(0.0) and not apart.warnings
    assert [name for name in apart.metrics if name.endswith("confounding")] == ["shortcut/recorder/confounding"]
    without = find_shortcuts(embeddings, known, frame, ["recorder"], np.full(ROWS, -1), 0)
    assert "shortcut/recorder/balanced_accuracy" in without.metrics
    assert not any(name.endswith("confounding") for name in without.metrics)


def test_cramers_v_equals_the_formula_and_the_uncorrected_one_on_many_counts():
    table = np.array([[20, 5, 1], [3, 18, 2]])
    n, chi2 = table.sum(), 0.0
    for i in range(2):
        for j in range(3):
            expected = table[i].sum() * table[:, j].sum() / n
            chi2 += (table[i, j] - expected) ** 2 / expected
    phi2 = chi2 / n - 1 * 2 / (n - 1)
    rows, columns = 2 - 1 / (n - 1), 3 - 4 / (n - 1)
    assert cramers_v(table) == pytest.approx(np.sqrt(phi2 / (min(rows, columns) - 1)))
    assert cramers_v(table * 10_000) == pytest.approx(association(table * 10_000), abs=1e-4)
    assert cramers_v(np.diag([5, 9, 3])) == pytest.approx(1.0)
    assert cramers_v(np.array([[10, 20, 0], [5, 10, 0]])) == 0.0
    for empty in (np.zeros((0, 0), int), np.array([[4, 2]]), np.eye(9, dtype=int)):
        assert np.isnan(cramers_v(empty))


def test_cramers_v_of_few_rows_without_a_tie_is_small():
    rng = np.random.default_rng(0)
    drawn = [contingency(rng.integers(0, 12, 72), rng.integers(0, 6, 72)) for _ in range(40)]
    assert np.mean([cramers_v(table) for table in drawn]) < 0.15 < np.mean([association(table) for table in drawn])


def test_contingency_counts_every_class_of_a_row_and_no_unknown():
    truth, code = np.array([0, 1, -1, 1, 0]), np.array([0, 1, 1, -1, 0])
    np.testing.assert_array_equal(contingency(truth, code), [[2, 0], [0, 1]])
    hot = np.array([[1, 1], [0, np.nan], [np.nan, 1]])
    np.testing.assert_array_equal(contingency(hot, np.array([0, 1, 1])), [[1, 0], [1, 1]])
    assert contingency(np.full(3, -1), np.zeros(3, int)).size == 0


def said(right: np.ndarray) -> Predictions:
    """Two values in turn, eight units of ten rows; `right`: which rows are recognised."""
    value = np.arange(80) % 2
    return Predictions(value, np.eye(2)[np.where(right, value, 1 - value)], np.arange(80) // 10)


@pytest.mark.parametrize(
    ("ours", "mel", "expected"),
    [
        (np.full(80, True), np.arange(80) % 10 < 6, True),
        (np.arange(80) % 10 < 6, np.arange(80) % 10 < 6, False),
        (np.arange(80) % 20 < 13, np.arange(80) % 20 < 12, False),  # by .05 only
        (np.full(80, True), np.arange(80) >= 10, False),  # in one unit only
        (np.arange(80) % 10 < 5, np.arange(80) % 10 < 2, False),  # at chance
    ],
)
def test_the_alarm_needs_a_difference_that_is_large_sure_and_above_chance(ours, mel, expected):
    assert is_clearly_better(said(ours), said(mel), values=2, seed=0) == expected
