"""Results: figures equal hand counts, thresholds keep their word, and what cannot be known is said and not invented."""

import json

import numpy as np
import pytest
import sklearn.metrics as sk

from audiorep.errors import AudiorepError
from audiorep.evaluate.calibrate import fit_temperature, probabilities
from audiorep.evaluate.results import FEWEST_CALLS, Answers, read_thresholds, results, write_thresholds


def answers(logits, truth, background=None, seconds=36.0, group=None) -> Answers:
    """Rows of `seconds` each, each a group of its own unless said otherwise."""
    logits, n = np.asarray(logits, float), len(truth)
    background = np.zeros(n, bool) if background is None else np.asarray(background)
    group = np.array([f"test {row}" for row in range(n)]) if group is None else np.asarray(group)
    return Answers(logits, np.asarray(truth), group, np.full(n, seconds), background)


def logits_of(p) -> np.ndarray:
    """Logits whose softmax is p for the first of two classes."""
    p = np.asarray(p, float)
    return np.stack([np.log(p), np.log(1 - p)], 1)


def drawn(seed: int, rows: int = 400, classes: int = 4, multilabel: bool = False, temperature: float = 2.5) -> Answers:
    """Answers that are too sure of themselves by `temperature`, with background in every eighth row."""
    rng = np.random.default_rng(seed)
    logits = 4.0 * rng.normal(size=(rows, classes)) - 2.0 * multilabel
    p, quiet = probabilities(logits, temperature, multilabel), np.arange(rows) % 8 == 0
    if multilabel:
        truth = (rng.random(p.shape) < p).astype(float)
        truth[quiet] = 0.0
        truth[(rng.random(p.shape) < 0.2) & ~quiet[:, None]] = np.nan
    else:
        truth = np.where(quiet, -1, (p.cumsum(1) < rng.random((rows, 1))).sum(1).clip(0, classes - 1))
    return answers(logits, truth, quiet, 9.0, [f"{seed}/{row % 20}" for row in range(rows)])


NAMES = ["owl", "robin", "tit", "wren"]


def test_the_figures_of_a_single_label_equal_scikit_learn():
    test, held = drawn(0), drawn(1)
    found = results(test, held, NAMES, resamples=30)
    temperature = fit_temperature(held.logits, held.truth)
    assert found.metrics["calibration/temperature"] == pytest.approx(temperature) == pytest.approx(2.5, rel=0.2)
    known = test.truth >= 0
    p, truth = probabilities(test.logits, temperature, False)[known], test.truth[known]
    m, predicted = found.metrics, p.argmax(1)
    assert m["test/accuracy"] == pytest.approx(sk.accuracy_score(truth, predicted))
    assert m["test/accuracy/low"] < m["test/accuracy"] < m["test/accuracy/high"]
    assert m["test/macro_f1"] == pytest.approx(sk.f1_score(truth, predicted, average="macro"))
    for c, name in enumerate(NAMES):
        assert m[f"test/ap/{name}"] == pytest.approx(sk.average_precision_score(truth == c, p[:, c]))
        assert m[f"test/auroc/{name}"] == pytest.approx(sk.roc_auc_score(truth == c, p[:, c]))
        assert m[f"test/recall/{name}"] == pytest.approx((predicted[truth == c] == c).mean())
        assert m[f"test/count/{name}"] == (truth == c).sum()
    assert m["test/auroc"] == pytest.approx(np.mean([m[f"test/auroc/{name}"] for name in NAMES]))
    assert (m["test/rows"], m["calibration/rows"]) == (350, 350)
    assert found.confusion is not None
    np.testing.assert_array_equal(found.confusion, sk.confusion_matrix(truth, predicted))
    for i, j in np.ndindex(found.confusion.shape):
        assert m.get(f"test/confusion/{NAMES[i]}/{NAMES[j]}", 0.0) == ((truth == i) & (predicted == j)).sum()
    assert all(np.isfinite(value) for value in m.values())


@pytest.mark.parametrize("multilabel", [False, True])
def test_calibration_makes_probabilities_come_true_on_the_test_side(multilabel):
    sides = []
    for seed in (0, 1):
        side = drawn(seed, 3000, 4, multilabel)
        calls = ~side.background
        sides.append(answers(side.logits[calls], side.truth[calls]))
    found = results(*sides, NAMES, resamples=0)
    assert found.metrics["test/ece"] < 0.4 * found.metrics["test/ece_uncalibrated"]
    assert found.metrics["test/ece"] == found.calibrated.error
    assert found.metrics["test/ece_uncalibrated"] == found.uncalibrated.error


HELD = [0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.55, 0.3, 0.2, 0.1, 0.05]
IS_OWL = [True, True, True, True, False, True, False, True, False, False, False, False]


def by_hand(precision: float = 0.8, background=None):
    """Two classes: twelve calibration rows, ten test rows, the last two of them background of 36 s each."""
    held = answers(logits_of(HELD), np.where(IS_OWL, 0, 1), group=[f"held {row}" for row in range(12)])
    p = [0.99, 0.97, 0.9, 0.8, 0.3, 0.2, 0.1, 0.02, 0.999, 0.4]
    truth = np.array([0, 1, 0, 0, 0, 1, 1, 1, -1, -1])
    quiet = [False] * 8 + [True] * 2 if background is None else background
    return held, results(answers(logits_of(p), truth, quiet), held, ["owl", "wren"], precision, resamples=0)


def test_a_threshold_is_chosen_on_the_calibration_rows_and_judged_on_the_test_rows():
    held, found = by_hand()
    chosen, temperature = found.thresholds["classes"]["owl"], found.metrics["calibration/temperature"]
    p = probabilities(held.logits, temperature, False)[:, 0]
    assert chosen["threshold"] == pytest.approx(p[5]) and chosen["positives"] == 6
    assert chosen["precision"] == pytest.approx(5 / 6) and chosen["recall"] == pytest.approx(5 / 6)
    assert chosen["reported"] == 6 and found.thresholds["background"] == 0
    m = found.metrics  # reported as owl, from calibration's .7 on: .99 .97 .9 .8 and the background of .999
    assert m["test/precision_at_threshold/owl"] == pytest.approx(3 / 5)
    assert m["test/recall_at_threshold/owl"] == pytest.approx(3 / 4)
    assert m["test/recall/owl"] == pytest.approx(3 / 4) and m["test/count/owl"] == 4


def test_false_positives_are_counted_per_hour_of_background():
    _, found = by_hand()
    m = found.metrics
    assert m["test/background_hours"] == pytest.approx(0.02)
    assert m["test/false_positives_per_hour/owl"] == pytest.approx(50.0)  # one of two rows of 36 s
    wren = found.thresholds["classes"]["wren"]["threshold"]
    p = probabilities(logits_of([0.4]), m["calibration/temperature"], False)[0, 1]
    assert p >= wren or m["test/false_positives_per_hour/wren"] == 0.0
    each = [m[f"test/false_positives_per_hour/{name}"] for name in ("owl", "wren")]
    assert m["test/false_positives_per_hour"] == pytest.approx(sum(each))
    assert not any("false positives" in note for note in found.notes)


def test_a_background_row_that_bears_a_label_is_no_false_positive_of_it():
    held = answers(logits_of(HELD), np.where(IS_OWL, 0, 1), group=[f"held {row}" for row in range(12)])
    test = answers(logits_of([0.99, 0.99, 0.01, 0.02]), np.array([0, 1, 1, 1]), [True, False, True, False])
    found = results(test, held, ["noise", "wren"], 0.8, resamples=0).metrics
    assert found["test/false_positives_per_hour/noise"] == 0.0  # row 0 is noise, and row 2 is not reported as it
    assert found["test/false_positives_per_hour/wren"] == 0.0  # row 2 is labelled so


def test_without_background_or_thresholds_there_are_no_false_positives_and_a_note():
    _, found = by_hand(background=[False] * 10)
    assert not any("false_positives" in name for name in found.metrics)
    assert any("No test row is known to be background" in note for note in found.notes)
    test = drawn(0)
    found = results(test, None, NAMES, resamples=0)
    assert not any("false_positives" in name or "at_threshold" in name for name in found.metrics)
    assert any("Without a threshold" in note for note in found.notes)


def test_background_has_a_say_in_the_choice_of_a_threshold():
    held = answers(logits_of(HELD), np.where(IS_OWL, 0, 1))
    loud = answers(
        np.concatenate([held.logits, logits_of([0.92, 0.91, 0.99])]),
        np.append(held.truth, [-1, -1, -1]),
        [False] * 12 + [True] * 3,
    )
    test = drawn(0, classes=2)
    quiet, noisy = (results(test, side, ["owl", "wren"], 0.8, resamples=0) for side in (held, loud))
    assert quiet.metrics["calibration/temperature"] == noisy.metrics["calibration/temperature"]
    assert quiet.thresholds["classes"]["owl"]["threshold"] is not None
    assert noisy.thresholds["classes"]["owl"]["threshold"] is None
    assert any("No threshold reaches a precision of 0.8: owl" in note for note in noisy.notes)
    assert (quiet.thresholds["background"], noisy.thresholds["background"]) == (0, 3)


def test_a_class_with_few_calibration_calls_gets_no_threshold_and_is_named():
    held = drawn(1)
    kept = (held.truth != 3) | (np.cumsum(held.truth == 3) < FEWEST_CALLS)
    few = answers(held.logits[kept], held.truth[kept], held.background[kept], group=held.group[kept])
    found = results(drawn(0), few, NAMES, 0.01, resamples=0)  # so little that any score would do
    wren = found.thresholds["classes"]["wren"]
    nothing = dict.fromkeys(("threshold", "precision", "recall", "reported"))
    assert wren == nothing | {"positives": FEWEST_CALLS - 1}
    assert next(note for note in found.notes if "for want of" in note).endswith("rows: wren.")
    assert "test/recall_at_threshold/wren" not in found.metrics and "test/recall_at_threshold/owl" in found.metrics
    assert "test/false_positives_per_hour/wren" not in found.metrics and "test/ap/wren" in found.metrics


def test_without_calibration_rows_the_temperature_is_one_and_a_note_says_how_to_get_some():
    test = drawn(0)
    empty = answers(np.zeros((3, 4)), np.full(3, -1))
    for nothing in (None, empty):
        found = results(test, nothing, NAMES, resamples=0)
        assert found.metrics["calibration/temperature"] == 1.0 and found.metrics["calibration/rows"] == 0
        assert found.metrics["test/ece"] == found.metrics["test/ece_uncalibrated"]
        assert {chosen["threshold"] for chosen in found.thresholds["classes"].values()} == {None}
        assert "calibration.fraction" in found.notes[0] and "No labelled rows were held out" in found.notes[0]


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_classifier_without_calibration_errors_is_not_made_surer_of_itself(multilabel):
    number = np.arange(40) % 2
    truth = np.eye(2)[number] if multilabel else number
    logits = 2.0 * np.eye(2)[number] - 1.0
    found = results(answers(logits, truth), answers(logits, truth, group=np.arange(40)), ["owl", "wren"], resamples=0)
    assert found.metrics["calibration/temperature"] == 1.0
    assert any("All 40 calibration rows are recognised" in note for note in found.notes)
    assert 0.5 < found.thresholds["classes"]["owl"]["threshold"] < 0.9  # not 1, which nothing else would reach
    logits[0] = [-1.0, 1.0]
    wrong = results(answers(logits, truth), answers(logits, truth, group=np.arange(40)), ["owl", "wren"], resamples=0)
    assert wrong.metrics["calibration/temperature"] != 1.0


def test_notes_on_a_rough_temperature_useless_scores_and_shared_groups():
    held, found = by_hand()
    assert any("fitted to 12 rows only" in note for note in found.notes)
    assert not any("were calibrated on too" in note for note in found.notes)
    assert any("12 group(s)" in note for note in results(held, held, ["owl", "wren"], resamples=0).notes)
    useless = answers(-drawn(1).logits, drawn(1).truth)
    assert any("do not use this classifier" in note for note in results(drawn(0), useless, NAMES, resamples=0).notes)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("multilabel", [False, True])
def test_a_class_that_the_test_side_lacks_has_no_figures_of_its_own(multilabel):
    test, held = drawn(0, multilabel=multilabel), drawn(1, multilabel=multilabel)
    if multilabel:
        test.truth[:, 2], test.truth[:, 3] = np.nan, 0.0
        missing = ["tit", "wren"]
    else:
        test.truth[test.truth == 2] = -1
        missing = ["tit"]
    found = results(test, held, NAMES, 0.7, resamples=20)
    own = [name for name in found.metrics if name.endswith(tuple(f"/{name}" for name in missing))]
    assert all(name.startswith(("test/false_positives_per_hour/", "test/confusion/")) for name in own)
    assert not [name for name in found.metrics if name.startswith("test/confusion/tit/")]
    assert any(note.endswith(f"nothing is said of: {', '.join(missing)}.") for note in found.notes)
    assert "test/ap/owl" in found.metrics and 0 < found.metrics["test/cmap/low"] <= found.metrics["test/cmap"]


@pytest.mark.filterwarnings("error")
def test_a_test_side_of_background_only_is_judged_by_false_positives_alone():
    quiet = answers(drawn(0).logits, np.full(400, -1), np.ones(400, bool), 9.0)
    found = results(quiet, drawn(1), NAMES, 0.7, resamples=20)
    assert found.metrics["test/rows"] == 0 and found.metrics["test/background_hours"] == pytest.approx(1.0)
    assert "test/accuracy" not in found.metrics and "test/ece" not in found.metrics
    expected = 0.0
    p = probabilities(quiet.logits, found.metrics["calibration/temperature"], False)
    for c, name in enumerate(NAMES):
        cut = found.thresholds["classes"][name]["threshold"]
        expected += 0 if cut is None else (p[:, c] >= cut).sum()
    assert found.metrics["test/false_positives_per_hour"] == pytest.approx(expected) and expected > 0


@pytest.mark.filterwarnings("error")
def test_a_test_side_of_one_class_has_no_ranking_scores():
    test = answers(drawn(0).logits, np.zeros(400, int))
    found = results(test, drawn(1), NAMES, resamples=20).metrics
    assert "test/cmap" not in found and "test/auroc/owl" not in found and "test/accuracy/low" in found


def test_the_figures_of_several_labels_equal_scikit_learn():
    test, held = drawn(0, multilabel=True), drawn(1, multilabel=True)
    held.truth[held.truth[:, 3] == 1, 3] = np.nan  # no threshold: .5
    found = results(test, held, NAMES, 0.8, resamples=30)
    m, chosen = found.metrics, [found.thresholds["classes"][name]["threshold"] for name in NAMES]
    assert found.confusion is None and "test/accuracy" not in m and chosen[3] is None and None not in chosen[:3]
    assert found.thresholds["multilabel"] is True
    p, f1 = probabilities(test.logits, m["calibration/temperature"], True), []
    for c, name in enumerate(NAMES):
        known = ~np.isnan(test.truth[:, c])
        present, score = test.truth[known, c] == 1, p[known, c]
        told = score >= (0.5 if chosen[c] is None else chosen[c])
        f1.append(sk.f1_score(present, told))
        assert m[f"test/ap/{name}"] == pytest.approx(sk.average_precision_score(present, score))
        assert m[f"test/recall/{name}"] == pytest.approx((score[present] >= 0.5).mean())
        if chosen[c] is not None:
            assert m[f"test/precision_at_threshold/{name}"] == pytest.approx(sk.precision_score(present, told))
            assert m[f"test/recall_at_threshold/{name}"] == pytest.approx(sk.recall_score(present, told))
            false = (p[test.background, c] >= chosen[c]).sum()
            assert m[f"test/false_positives_per_hour/{name}"] == pytest.approx(false / (50 * 9 / 3600))
    assert m["test/macro_f1"] == pytest.approx(np.mean(f1))
    assert m["test/macro_f1/low"] < m["test/macro_f1"] < m["test/macro_f1/high"]


def test_thresholds_are_read_back_as_they_were_written(tmp_path):
    held = drawn(1)
    kept = held.truth != 3
    found = results(drawn(0), answers(held.logits[kept], held.truth[kept]), NAMES, 0.8, resamples=0)
    write_thresholds(found, tmp_path / "thresholds.json")
    assert read_thresholds(tmp_path / "thresholds.json") == found.thresholds
    assert set(found.thresholds) == {"temperature", "wanted_precision", "multilabel", "background", "classes"}
    assert "NaN" not in (tmp_path / "thresholds.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.0},
        {"temperature": "warm"},
        {"classes": None},
        {"classes": {"owl": {"threshold": 1.5}}},
        {"classes": {"owl": {"threshold": "high"}}},
        {"classes": {"owl": {}}},
    ],
)
def test_a_file_that_holds_no_thresholds_is_refused(tmp_path, change):
    path = tmp_path / "thresholds.json"
    sound = {"temperature": 1.0, "wanted_precision": 0.9, "multilabel": False, "classes": {"owl": {"threshold": 0.5}}}
    path.write_text(json.dumps(sound), encoding="utf-8")
    assert read_thresholds(path) == sound
    path.write_text(json.dumps(sound | change), encoding="utf-8")
    with pytest.raises(AudiorepError, match=r"thresholds\.json holds no thresholds of a classifier"):
        read_thresholds(path)
    path.write_text(
        json.dumps({name: value for name, value in sound.items() if name != "multilabel"}), encoding="utf-8"
    )
    with pytest.raises(AudiorepError, match="multilabel"):
        read_thresholds(path)


def test_files_that_are_not_there_or_no_table_are_refused(tmp_path):
    with pytest.raises(AudiorepError, match="cannot read"):
        read_thresholds(tmp_path / "missing.json")
    (tmp_path / "list.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(AudiorepError, match="holds no thresholds"):
        read_thresholds(tmp_path / "list.json")


def test_answers_must_be_of_the_same_rows_and_a_precision_a_part():
    with pytest.raises(ValueError, match="same rows"):
        answers(np.zeros((3, 2)), np.zeros(4, int))
    with pytest.raises(ValueError, match="same rows and classes"):
        answers(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(AudiorepError, match=r"precision=1\.5"):
        results(drawn(0), None, NAMES, precision=1.5)
