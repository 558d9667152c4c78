"""Which windows of a batch belong together, and which corpora are refused."""

import math

import pytest
import torch

from audiorep.errors import AudiorepError
from audiorep.objectives.base import Setting
from audiorep.objectives.metric import relate
from audiorep.objectives.positives import ByAugmentation, ByCluster, ByLabel, NearInTime
from audiorep.types import generator


def batch(**columns: list) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(values) for name, values in columns.items()}


def related(same: torch.Tensor) -> set[tuple[int, int]]:
    """Pairs i < j; the relation must be symmetric, and everyone belongs to himself."""
    assert same.dtype == torch.bool and torch.equal(same, same.T) and same.diagonal().all()
    return {(int(i), int(j)) for i, j in same.nonzero() if i < j}


def test_by_augmentation_only_a_window_itself_belongs_to_it():
    assert related(ByAugmentation()(batch(index=[5, 5, 7]))) == set()


def test_by_label_windows_with_the_same_label_belong_together_and_unlabelled_to_nobody():
    assert related(ByLabel()(batch(label=[0, 1, -1, 0, 2, -1, 1, 0]))) == {(0, 3), (0, 7), (3, 7), (1, 6)}


def test_by_several_labels_one_in_common_is_enough_and_unknown_is_none():
    unknown = math.nan
    label = [
        [1.0, 0.0, unknown],
        [1.0, 1.0, 0.0],
        [0.0, 1.0, unknown],
        [unknown, unknown, unknown],
        [unknown, unknown, unknown],
        [0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0],
        [unknown, unknown, 1.0],
        [0.0, unknown, 1.0],
    ]
    assert related(ByLabel()(batch(label=label))) == {(0, 1), (1, 2), (7, 8)}


def test_near_in_time_is_within_a_recording_and_counts_the_border():
    same = NearInTime(0.5, 8000)(
        batch(recording=[0, 0, 0, 1, 1, 0, 1], start=[0, 4000, 8003, 0, 3999, -320, 20000]),
    )
    assert related(same) == {(0, 1), (0, 5), (3, 4)}


def clusters(rows: int = 12, from_epoch: int = 1) -> ByCluster:
    made = ByCluster(clusters=3, from_epoch=from_epoch)
    made.prepare(Setting(rows, 8, {"global": 2}, epochs=9.0))
    return made


def three_blobs() -> torch.Tensor:
    """Rows 0, 3, 6, ... in one direction, 1, 4, ... in another; of any length."""
    axes = torch.eye(3)[torch.arange(12) % 3]
    return (axes + 0.01 * torch.randn(12, 3, generator=generator(0))) * torch.linspace(0.1, 9, 12)[:, None]


@pytest.mark.parametrize("from_epoch", [0, 1, 3])
def test_by_cluster_before_its_epoch_windows_are_alone_and_afterwards_in_clusters(from_epoch):
    positives = clusters(from_epoch=from_epoch)
    seen = batch(index=[0, 3, 1, 2, 9, 11, 3])
    for epoch in range(from_epoch):
        positives.before_epoch(epoch, lambda: pytest.fail("no need to embed"), generator(epoch))
        assert related(positives(seen)) == {(1, 6)} and positives.partition() is None  # one row drawn twice
    positives.before_epoch(from_epoch, three_blobs, generator(9))
    assert related(positives(seen)) == {(0, 1), (0, 4), (0, 6), (1, 4), (1, 6), (4, 6), (3, 5)}
    partition = positives.partition()
    assert [len(set(partition[kind::3].tolist())) for kind in range(3)] == [1, 1, 1] and len(partition.unique()) == 3


def test_clusters_and_epoch_are_saved_with_the_state():
    first, second = clusters(), clusters()
    for _ in range(2):
        first.before_epoch(1, three_blobs, generator(1))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.partition(), second.partition())


def test_a_corpus_without_such_positives_is_refused_with_the_remedy():
    for labelled in (0, 1):
        with pytest.raises(AudiorepError, match=r"positives=labels needs two labels.*positives=augmentation"):
            ByLabel().prepare(Setting(100, 8, {"global": 2}, labelled, 2))
    ByLabel().prepare(Setting(100, 8, {"global": 2}, 2, 2))
    with pytest.raises(AudiorepError, match=r"positives\.clusters=3 of 5 rows.*lower it to 2"):
        clusters(rows=5)
    clusters(rows=6)
    ByAugmentation().prepare(Setting(2, 2, {"global": 2}))
    NearInTime(2.0, 8000).prepare(Setting(2, 2, {"global": 2}))


@pytest.mark.parametrize("views", [1, 2, 3])
def test_what_holds_of_windows_holds_of_their_views(views):
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    relation = relate(same, views)
    for i in range(3 * views):
        for j in range(3 * views):
            together = bool(same[i % 3, j % 3])
            assert bool(relation.positive[i, j]) == (together and i != j)
            assert bool(relation.negative[i, j]) == (not together)
    assert relation.view.tolist() == [view for view in range(views) for _ in range(3)]


def test_rows_that_cannot_be_decoded_are_in_no_cluster():
    def with_a_hole() -> torch.Tensor:
        found = three_blobs()
        found[4] = torch.nan
        return found

    positives = clusters(from_epoch=0)
    positives.before_epoch(0, with_a_hole, generator(1))
    partition = positives.partition()
    assert partition[4] == -1 and set(partition.tolist()) == {-1, 0, 1, 2}
    same = positives({"index": torch.tensor([4, 4, 1])})
    assert related(same) == {(0, 1)}


def test_clusters_that_would_never_be_used_are_refused():
    with pytest.raises(AudiorepError, match="training ends after 2 passes"):
        ByCluster(clusters=3, from_epoch=4).prepare(Setting(100, 8, {"global": 2}, epochs=2.0))


def test_a_single_label_is_refused():
    with pytest.raises(AudiorepError, match="has 1 on 50 row"):
        ByLabel().prepare(Setting(100, 8, {"global": 2}, 50, 1))
