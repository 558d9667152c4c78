"""Which windows stand together in a batch: every drawing on small corpora, alone and under the step sampler."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from toy import stream

from audiorep.data.labels import encode
from audiorep.data.loader import StepSampler
from audiorep.data.manifest import scan
from audiorep.data.sampler import (
    Bags,
    Balanced,
    Labelled,
    NearInTime,
    Shuffled,
    count_shared,
    has_label,
    label_codes,
    rarity,
)
from audiorep.data.windows import Windows, WindowSpec
from audiorep.errors import AudiorepError
from audiorep.objectives import positives

MODEL_HZ = 8000


def windows_of(
    folder: Path,
    rows: list[tuple[str, float, float]],
    length_s: float = 0.1,
    labels: list[str] | None = None,
    multilabel: bool = False,
    seconds: float = 6.0,
    rates: dict[str, int] | None = None,
) -> Windows:
    """Rows (recording, start, end) of silent recordings."""
    for name in {row[0] for row in rows}:
        rate = (rates or {}).get(name, 8000)
        soundfile.write(folder / f"{name}.wav", np.zeros(round(seconds * rate)), rate, subtype="PCM_16")
    frame = pd.DataFrame(
        {
            "path": [str(folder / f"{name}.wav") for name, _, _ in rows],
            "start_s": [start for _, start, _ in rows],
            "end_s": [end for _, _, end in rows],
            "label": "",
            "group": "g",
        }
    )
    names = sorted({part for label in labels or [] for part in label.split("|") if part})
    coded = None if labels is None else encode(labels, names, multilabel)
    return Windows(scan(frame), WindowSpec(length_s), MODEL_HZ, coded)


def calls(count: int, every_s: float = 0.25, name: str = "a") -> list[tuple[str, float, float]]:
    return [(name, i * every_s, i * every_s + 0.05) for i in range(count)]


def draw(drawing, batch: int, steps: int, seed: int = 0, partition: np.ndarray | None = None) -> list[np.ndarray]:
    batches = list(drawing.batches(np.random.default_rng(seed), batch, steps, 17, partition))
    assert all(made.shape == (batch, 4) for made in batches) and len(batches) == steps
    return batches


# ----------------------------------------------------------------- shuffled


def test_shuffled_shows_each_window_once_an_epoch(tmp_path):
    windows = windows_of(tmp_path, [("a", 0.0, 0.05), ("a", 1.0, 1.5), ("b", 0.0, 0.1), ("b", 2.0, 2.31)])
    drawing = Shuffled(windows)
    assert drawing.units == 1 + 5 + 1 + 3
    items = np.concatenate(draw(drawing, 5, 2))
    assert Counter(items[:, 0].tolist()) == {0: 1, 1: 5, 2: 1, 3: 3}
    assert sorted(items[:, 1]) == list(range(10))  # so that crops of one row differ
    assert set(items[:, 3]) == {17} and len(np.unique(draw(drawing, 3, 3)[0][:, 1])) == 3
    assert not np.array_equal(items, np.concatenate(draw(drawing, 5, 2, seed=1)))


# ----------------------------------------------------------------- balanced

LABELS = ["a"] * 10 + ["b"] * 5 + ["c"] + [""] * 4


def labelled(folder: Path, labels: list[str] = LABELS, multilabel: bool = False) -> Windows:
    return windows_of(folder, calls(len(labels)), labels=labels, multilabel=multilabel)


def counts(items: np.ndarray, group: np.ndarray) -> list[int]:
    return sorted(Counter(group[items[:, 0]].tolist()).values())


@pytest.mark.parametrize(
    "batch,per_group,wanted",
    [
        (6, 2, [2, 2, 2]),
        (4, 2, [2, 2]),  # more groups than stand in a batch
        (8, 2, [2, 2, 4]),  # fewer
        (12, 2, [4, 4, 4]),
        (3, 1, [1, 1, 1]),
        (7, 3, [1, 3, 3]),  # the last one cut
        (12, 12, [12]),
    ],
)
def test_balanced_batches_hold_so_many_of_each_group(tmp_path, batch, per_group, wanted):
    windows = labelled(tmp_path)
    drawing = Balanced(windows, per_group=per_group)
    assert drawing.units == 20
    for items in draw(drawing, batch, 6):
        assert counts(items, windows.label) == wanted
        assert windows.label[items[:, 0]].min() >= 0  # unlabelled rows never come
        assert len({tuple(item) for item in items.tolist()}) == batch


def test_balanced_groups_come_alike_often_and_rows_within_them_too(tmp_path):
    windows = labelled(tmp_path)
    items = np.concatenate(draw(Balanced(windows, per_group=2), 4, 900))
    share = Counter(windows.label[items[:, 0]].tolist())
    assert all(abs(share[label] / len(items) - 1 / 3) < 0.03 for label in range(3))
    rows = np.bincount(items[:, 0], minlength=20)
    assert rows[:10].min() > 0.7 * rows[:10].mean() and rows[10:15].min() > 0.7 * rows[10:15].mean()


def test_rows_are_repeated_only_where_a_group_has_too_few(tmp_path):
    windows = labelled(tmp_path)
    for items in draw(Balanced(windows, per_group=2), 12, 6):  # every group twice
        assert max(times for row, times in Counter(items[:, 0].tolist()).items() if row != 15) == 1
    for items in draw(Balanced(windows, per_group=5), 15, 6):
        rows = Counter(items[:, 0].tolist())
        assert rows[15] == 5 and all(times == 1 for row, times in rows.items() if row != 15)
        assert len(set(items[items[:, 0] == 15][:, 1].tolist())) == 5  # other crops


def test_rows_with_several_labels_are_grouped_by_their_set(tmp_path):
    windows = labelled(tmp_path, ["a|b", "b", "b|a", "-a", "", "a", "b|-a", "a|b"], multilabel=True)
    codes = label_codes(windows.label)
    assert codes[0] == codes[2] == codes[7] and codes[1] == codes[6]
    assert len({codes[0], codes[1], codes[5]}) == 3 and (codes[[3, 4]] == -1).all() and codes[[0, 1, 5]].min() >= 0
    for items in draw(Balanced(windows, per_group=1), 3, 4):
        assert counts(items, codes) == [1, 1, 1] and not set(items[:, 0].tolist()) & {3, 4}


def test_balanced_over_a_partition_waits_until_there_is_one(tmp_path):
    windows = windows_of(tmp_path, calls(20))
    drawing = Balanced(windows, by="partition", per_group=3)
    for ours, plain in zip(draw(drawing, 6, 3), draw(Shuffled(windows), 6, 3), strict=True):
        np.testing.assert_array_equal(ours, plain)
    partition = np.array([0] * 12 + [1] * 4 + [5] * 3 + [-1])
    for items in draw(drawing, 9, 4, partition=partition):
        assert counts(items, partition) == [3, 3, 3] and 19 not in items[:, 0]


def test_balanced_by_domain_holds_so_many_of_each_and_rows_of_no_domain_never_come(tmp_path):
    windows = windows_of(tmp_path, calls(20))
    windows.domain = np.array([0] * 12 + [1] * 5 + [2] * 2 + [-1])
    for items in draw(Balanced(windows, by="domain", per_group=4), 8, 6):
        assert counts(items, windows.domain) == [4, 4] and 19 not in items[:, 0]


def test_labels_that_occur_in_two_domains_are_counted():
    domain = np.array([0, 0, 1, -1, 1, 1])
    assert count_shared(np.array([0, 1, 0, 1, 2, -1]), domain) == 1  # of 1 the second domain is unknown
    several = np.array([[1, 0, 1], [0, 1, 0], [1, 0, np.nan], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert count_shared(several, domain) == 2
    assert count_shared(np.full(6, -1), domain) == 0


def test_balanced_without_labels_is_refused_with_the_remedy(tmp_path):
    for windows in (windows_of(tmp_path, calls(4)), labelled(tmp_path, ["", "", ""])):
        with pytest.raises(AudiorepError, match=r"label some.*positives=augmentation"):
            Balanced(windows)
    with pytest.raises(AudiorepError, match="per_group=0"):
        Balanced(labelled(tmp_path), per_group=0)


# --------------------------------------------------------------- near in time

SPREAD = [
    *[("a", start, start + 0.05) for start in (0.0, 0.5, 1.0, 4.0)],  # the last has no neighbour
    *[("b", start, start + 0.05) for start in (1.05, 1.2, 5.5)],
    ("c", 1.0, 1.9),  # nine windows side by side
]


def time_windows(folder: Path) -> Windows:
    return windows_of(folder, SPREAD, rates={"b": 16000, "c": 22050})


def pairs_of(windows: Windows, batches: list[np.ndarray]) -> list[tuple[dict, dict]]:
    shown = [windows[tuple(map(int, item))] for items in batches for item in items]
    return list(zip(shown[::2], shown[1::2], strict=True))


def test_pairs_are_near_in_time_and_of_one_recording_but_two_windows(tmp_path):
    windows = time_windows(tmp_path)
    drawing = NearInTime(windows, within_s=0.6)
    assert drawing.units == 7 + 9
    batches = draw(drawing, 8, 30)
    alone = 0
    for one, other in pairs_of(windows, batches):
        assert one["recording"] == other["recording"]
        assert abs(one["start"] - other["start"]) <= 0.6 * MODEL_HZ + 1
        same = one["index"] == other["index"] and one["start"] == other["start"]
        assert same == (one["index"] in (3, 6))
        alone += same
    assert alone > 5
    assert set(np.concatenate(batches)[:, 3]) == {-1}  # the very windows whose times were compared


def test_pairs_belong_together_for_the_positives_too(tmp_path):
    windows = time_windows(tmp_path)
    same = positives.NearInTime(0.6, MODEL_HZ)
    for items in draw(NearInTime(windows, within_s=0.6), 8, 10):
        together = same(windows.batch(items))
        assert together[::2, 1::2].diagonal().all() and torch.equal(together, together.T)


def test_all_windows_come_first_and_all_neighbours_second(tmp_path):
    windows = windows_of(tmp_path, calls(12))
    drawing = NearInTime(windows, within_s=0.55)  # two to either side
    items = np.concatenate(draw(drawing, 8, 600))
    first, second = items[::2, 0], items[1::2, 0]
    assert Counter(first.tolist()) == dict.fromkeys(range(12), 200)
    seen = Counter((second - first)[first == 5].tolist())
    assert set(seen) == {-2, -1, 1, 2} and min(seen.values()) > 30
    assert Counter((second - first)[first == 0].tolist()).keys() == {1, 2}


def test_an_odd_batch_ends_with_a_window_alone(tmp_path):
    windows = windows_of(tmp_path, calls(12))
    for items in draw(NearInTime(windows, within_s=0.3), 7, 5):
        assert (np.abs(items[0:6:2, 0] - items[1:6:2, 0]) == 1).all()


def test_without_neighbours_pairs_in_time_are_refused_with_the_remedy(tmp_path):
    with pytest.raises(AudiorepError, match=r"within_s.*positives=augmentation"):
        NearInTime(windows_of(tmp_path, [("a", 0.0, 0.05), ("a", 3.0, 3.05), ("b", 0.0, 0.05)]), within_s=1.0)


def test_windows_that_begin_before_their_recording_are_no_neighbours_of_the_one_before(tmp_path):
    # a window of 4 s around a call at the very start begins at -1.975 s
    rows = [*[("a", 0.1 * i, 0.1 * i + 0.05) for i in range(59)], ("b", 0.0, 0.05), ("b", 0.05, 0.1)]
    windows = windows_of(tmp_path, rows, length_s=4.0)
    drawing = NearInTime(windows, within_s=0.12)
    for one, other in pairs_of(windows, draw(drawing, 30, 10)):
        assert one["recording"] == other["recording"]
        assert 0 < abs(one["start"] - other["start"]) <= 0.12 * MODEL_HZ + 1


def test_neighbours_exactly_within_s_apart_count(tmp_path):
    # both ends of the comparison are sums of floats
    windows = windows_of(tmp_path, calls(20, every_s=0.3))
    drawing = NearInTime(windows, within_s=0.3)
    assert (drawing.high - drawing.low).tolist() == [2] + [3] * 18 + [2]


# ----------------------------------------------------------------- labelled


@pytest.mark.parametrize("share, some", [(0.25, 2), (0.5, 4), (0.01, 1), (0.99, 7), (1.0, 8)])
def test_so_many_of_every_batch_have_a_label(tmp_path, share, some):
    windows = labelled(tmp_path)
    drawing = Labelled(windows, share)
    assert drawing.units == (16 if share == 1.0 else 20)
    for items in draw(drawing, 8, 6):
        assert (windows.label[items[:some, 0]] >= 0).all()
    rest = np.concatenate(draw(drawing, 8, 40))[:, 0] if share < 1.0 else np.empty(0)
    assert share == 1.0 or set(rest.tolist()) == set(range(20))  # the rest is of all rows, labelled or not


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_every_labelled_window_comes_as_often_as_any_other_and_every_row_of_the_rest(tmp_path, share):
    windows = windows_of(tmp_path, [("a", 0.0, 0.05), ("a", 1.0, 1.3), ("b", 0.0, 0.1), ("b", 2.0, 2.2)],
                         labels=["x", "y", "", "x"])  # fmt: skip
    items = np.array(draw(Labelled(windows, share), 12, 10))
    some = round(12 * share)
    named = Counter(items[:, :some, 0].ravel().tolist())
    assert named == {
        0: 10 * some / 6,
        1: 3 * 10 * some / 6,
        3: 2 * 10 * some / 6,
    }  # three windows and two fit into rows
    rest = Counter(items[:, some:, 0].ravel().tolist())
    assert not rest or all(abs(rest[row] - count * 60 / 7) <= count for row, count in ((0, 1), (1, 3), (2, 1), (3, 2)))


def frequencies(drawing: Labelled, windows: Windows, steps: int = 400) -> np.ndarray:
    items = np.concatenate(draw(drawing, 10, steps))
    return np.bincount(windows.label[items[:, 0]], minlength=3) / len(items)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_balance_goes_from_labels_as_they_are_to_all_alike(tmp_path, balance):
    windows = labelled(tmp_path)
    have = np.array([10.0, 5.0, 1.0])
    wanted = have ** (1.0 - balance) / (have ** (1.0 - balance)).sum()
    found = frequencies(Labelled(windows, balance=balance), windows)
    np.testing.assert_allclose(found, wanted, atol=1e-12 if balance == 0.0 else 0.03)


def test_of_a_row_with_several_labels_the_rarest_counts():
    label = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 0, np.nan], [0, 0, 0], [np.nan] * 3, [0, 1, 1]])
    np.testing.assert_allclose(rarity(label, 1.0), [1 / 4, 1 / 2, 1 / 4, 1 / 4, 1 / 4, 1 / 4, 1])
    np.testing.assert_allclose(rarity(label, 0.5), np.array([4, 2, 4, 4, 4, 4, 1]) ** -0.5)
    np.testing.assert_allclose(rarity(np.array([0, 0, 1, -1, 0]), 1.0), [1 / 3, 1 / 3, 1, 1, 1 / 3])
    assert has_label(label).tolist() == [True] * 5 + [False, True]


def test_rows_are_drawn_as_often_as_a_resampler_says(tmp_path):
    windows = labelled(tmp_path)
    windows.times = np.array([1] * 8 + [0] * 2 + [2] * 5 + [10] + [0] * 4)
    drawing = Labelled(windows)
    assert drawing.units == 8 + 10 + 10
    found = Counter(np.concatenate(draw(drawing, 7, 4))[:, 0].tolist())
    assert found == {row: times for row, times in enumerate(windows.times.tolist()) if times}
    part = np.array(draw(Labelled(windows, 0.5), 8, 35))
    assert not set(part[:, :4, 0].ravel().tolist()) & {8, 9} and {8, 9, 19} <= set(part[:, 4:, 0].ravel().tolist())


def test_a_window_that_comes_again_is_cut_anew_unless_windows_are_fixed(tmp_path):
    windows = windows_of(tmp_path, [("a", 0.0, 0.55), ("b", 1.0, 1.05)], labels=["x", "y"])
    drawn, fixed = (np.concatenate(draw(Labelled(windows, fixed=f), 6, 4)) for f in (False, True))
    places = [{windows.place(tuple(map(int, item))) for item in items if item[0] == 0} for items in (drawn, fixed)]
    assert len(places[0]) == (drawn[:, 0] == 0).sum() == 20  # all different
    assert len(places[1]) == 5 == len({tuple(item) for item in fixed.tolist() if item[0] == 0})
    assert sorted(places[1]) == sorted({windows.place((0, k, 5, -1)) for k in range(5)})
    assert set(fixed[:, 3]) == {-1} and set(drawn[:, 3]) == {17}


def test_a_corpus_smaller_than_a_batch_comes_again_and_again(tmp_path):
    windows = labelled(tmp_path, ["a", "b", "", ""])
    steps = StepSampler(Labelled(windows), 16, 3, seed=0)
    assert steps.steps_per_epoch == 1
    batches = stream(steps)
    assert len(batches) == 3 and all(Counter(item[0] for item in items) == {0: 8, 1: 8} for items in batches)
    half = stream(StepSampler(Labelled(windows, 0.5), 16, 3, seed=0))
    assert all(len(items) == 16 and {item[0] for item in items} == {0, 1, 2, 3} for items in half)


def test_drawings_of_labelled_rows_without_any_are_refused_with_the_remedy(tmp_path):
    for windows in (windows_of(tmp_path, calls(4)), labelled(tmp_path, ["", ""]), labelled(tmp_path, ["", ""], True)):
        for make in (Labelled, Bags):
            with pytest.raises(AudiorepError, match="no row of the training side has a label: label some"):
                make(windows)
    windows = labelled(tmp_path)
    for given in ({"labelled": 0.0}, {"labelled": 1.5}, {"balance": -0.1}, {"balance": 2.0}):
        with pytest.raises(AudiorepError, match="they are parts"):
            Labelled(windows, **given)
    with pytest.raises(AudiorepError, match="per_row=0"):
        Bags(windows, per_row=0)


def test_where_no_labelled_row_is_to_be_drawn_that_is_said(tmp_path):
    windows = labelled(tmp_path)
    windows.times = np.zeros(20, np.int64)
    with pytest.raises(AudiorepError, match="no row"):
        Labelled(windows)


# --------------------------------------------------------------------- bags


def test_bags_hold_so_many_windows_of_each_labelled_row(tmp_path):
    rows = [("a", 0.3 * i, 0.3 * i + 0.25) for i in range(6)]
    windows = windows_of(tmp_path, rows, labels=["x", "y", "", "x|y", "-x", ""], multilabel=True)
    drawing = Bags(windows, per_row=3)
    assert drawing.units == 4 * 3
    items = np.concatenate(draw(drawing, 6, 20))
    for bag in items.reshape(-1, 3, 4):
        assert len(set(bag[:, 0].tolist())) == 1
        assert len({windows.place(tuple(map(int, item))) for item in bag}) > 1  # other stretches of the row
    assert Counter(items[:, 0].tolist()) == {0: 30, 1: 30, 3: 30, 4: 30}
    for batch in draw(drawing, 6, 20):
        assert len(set(batch[:, 0].tolist())) == 2
    short = list(drawing.batches(np.random.default_rng(0), 8, 5, 17, None))
    assert all(len(items) == 6 for items in short)  # whole bags only
    with_fewer = stream(StepSampler(drawing, 2, 4, seed=0))
    assert all(len(items) == 2 and len({item[0] for item in items}) == 1 for items in with_fewer)


# ---------------------------------------------------------- the step sampler


def all_drawings(folder: Path) -> dict:
    windows = labelled(folder)
    return {
        "shuffled": Shuffled(windows),
        "balanced": Balanced(windows, per_group=2),
        "clusters": Balanced(windows, by="partition", per_group=2),
        "time": NearInTime(windows, within_s=0.6),
        "labelled": Labelled(windows, 0.5),
        "balanced_labelled": Labelled(windows, 0.5, balance=0.5),
        "bags": Bags(windows, per_row=2),
    }


@pytest.fixture(params=["shuffled", "balanced", "clusters", "time", "labelled", "balanced_labelled", "bags"])
def drawing(request, tmp_path):
    return all_drawings(tmp_path)[request.param]


def sampler(drawing, batch: int, seed: int = 1, **ranks: int) -> StepSampler:
    made = StepSampler(drawing, batch, 11, seed, **ranks)
    made.partition = np.arange(20) % 4
    return made


def test_the_same_seed_gives_the_same_batches_and_another_others(drawing):
    first = stream(sampler(drawing, 4))
    assert len(first) == 11 and all(len(items) == 4 for items in first)
    assert first == stream(sampler(drawing, 4)) != stream(sampler(drawing, 4, seed=2))
    assert first[:5] != first[5:10]  # the next epoch is drawn anew


def test_two_ranks_together_see_the_batches_of_one(drawing):
    halves = [stream(sampler(drawing, 4, rank=r, world=2)) for r in range(2)]
    assert [a + b for a, b in zip(*halves, strict=True)] == stream(sampler(drawing, 8))


@pytest.mark.parametrize("step", [1, 3, 5, 7, 10])
def test_resuming_in_mid_epoch_goes_on_with_the_same_batches(drawing, step):
    late = sampler(drawing, 4)
    late.first_step = step
    assert stream(late) == stream(sampler(drawing, 4))[step:]
