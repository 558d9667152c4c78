"""The default begins as k-medoids, ends at the most uncertain clips, and takes no clip that says what another said."""

import pytest
import torch
from pools import blobs, log_p, make

from audiorep.errors import AudiorepError
from audiorep.select.diversity_first import DiversityFirst, doubtful
from audiorep.select.medoids import KMedoids
from audiorep.select.scores import margin
from audiorep.types import generator


def test_the_part_looked_at_shrinks_with_the_budget():
    assert [doubtful(1000, 5, spent, 10.0, 0.5) for spent in (0.0, 0.25, 0.81, 1.0)] == [1000, 500, 100, 50]
    assert doubtful(1000, 5, 0.25, 10.0, 1.0) == 750
    assert doubtful(30, 5, 1.0, 10.0, 0.5) == 30


@pytest.mark.parametrize("without", [{"log_p": None, "spent": 0.9}, {"spent": 0.0}])
def test_it_begins_as_k_medoids(without):
    pool = make(**without)
    first, medoids = DiversityFirst(), KMedoids(starts=1)
    assert torch.equal(first.select(pool, 6, generator(0)).rows, medoids.select(pool, 6, generator(0)).rows)


def test_it_ends_at_the_most_uncertain_clips_of_every_kind():
    x = blobs(200, centres=4)
    pool = make(embedding=x, log_p=log_p(200, 1), labelled=x[:0], spent=1.0)
    rows = DiversityFirst(beta=5.0).select(pool, 4, generator(0)).rows
    assert set(rows.tolist()) <= set(margin(pool.log_p).topk(20).indices.tolist())
    assert len({row % 4 for row in rows.tolist()}) == 4


@pytest.mark.parametrize("spent", [0.0, 0.5, 1.0])
def test_doubles_of_what_is_known_or_chosen_are_left(spent):
    x = blobs(12, centres=12, seed=3).repeat_interleave(10, 0)
    pool = make(embedding=x, log_p=log_p(12, 1).repeat_interleave(10, 1), labelled=x[:40], spent=spent)
    rows = DiversityFirst(beta=40.0).select(pool, 3, generator(0)).rows
    assert len((rows // 10).unique()) == 3 and (rows >= 40).all()


def test_a_large_pool_is_sampled():
    pool = make(n=400, spent=0.2)
    picks = {tuple(DiversityFirst(sample=40).select(pool, 4, generator(seed)).rows.tolist()) for seed in range(4)}
    assert len(picks) > 1


def test_what_makes_no_sense_is_refused():
    for wrong in ({"beta": 0.5}, {"power": 0.0}, {"sample": 0}, {"starts": 0}):
        with pytest.raises(AudiorepError, match="selector"):
            DiversityFirst(**wrong)
