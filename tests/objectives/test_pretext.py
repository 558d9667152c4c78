"""Pretext tasks: puzzles are what they say, their answers do not leak, and they can be solved on sounds not trained on."""

from itertools import permutations

import pytest
import torch
from small import KINDS, build, views
from toy import tone, views_of, waves

from audiorep.errors import AudiorepError
from audiorep.objectives.base import Setting
from audiorep.pretext import Flips, Jigsaw, RelativePosition, _candidates, far_apart
from audiorep.types import generator

STEPS = {(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)}


def numbered(count: int, bands: int, frames: int) -> torch.Tensor:
    """Spectrograms whose every value says where it stands: 1000 band + frame."""
    return (1000.0 * torch.arange(bands)[:, None] + torch.arange(frames)).expand(count, 1, -1, -1).contiguous()


def corner(tile: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """First band and first frame of tiles cut from `numbered` [b 1 f n]."""
    return tile[:, 0, 0, 0].long() // 1000, tile[:, 0, 0, 0].long() % 1000


def test_flips_are_what_their_number_says():
    x = torch.randn(64, 1, 5, 7, generator=generator(0))
    params = Flips().sample(x, generator(1))
    assert params["target"].unique().tolist() == [0, 1, 2, 3]
    (out,) = Flips().apply_to(x, **params)
    for spec, flipped, target in zip(x, out, params["target"].tolist(), strict=True):
        assert torch.equal(flipped, spec.flip([[], [2], [1], [1, 2]][target]))


@pytest.mark.parametrize(("tiles", "count", "least"), [(4, 12, 2), (6, 24, 4), (9, 100, 6)])
def test_permutations_differ_in_many_places(tiles, count, least):
    chosen = far_apart(tiles, count)
    assert torch.equal(chosen, far_apart(tiles, count))
    assert torch.equal(chosen.sort(1).values, torch.arange(tiles).expand(count, -1))
    distance = (chosen[:, None] != chosen).sum(2) + tiles * torch.eye(count, dtype=torch.int64)
    assert distance.min() >= least
    assert len({tuple(row) for row in _candidates(8)}) == 5000
    drawn = torch.stack([torch.randperm(tiles, generator=generator(tiles, i)) for i in range(count)])
    assert ((drawn[:, None] != drawn).sum(2) + tiles * torch.eye(count, dtype=torch.int64)).min() < least


def test_permutations_equal_a_written_out_greedy_choice():
    pool, taken = list(permutations(range(4))), [(0, 1, 2, 3)]
    while len(taken) < 9:
        scores = []
        for candidate in pool:
            distances = [sum(a != b for a, b in zip(candidate, other, strict=True)) for other in taken]
            scores.append((min(distances), sum(distances)))
        taken.append(pool[scores.index(max(scores))])
    assert far_apart(4, 9).tolist() == [list(order) for order in taken]


@pytest.mark.parametrize(("rows", "columns", "gap"), [(2, 3, 0.2), (1, 4, 0.5), (3, 2, 0.0)])
def test_tiles_lie_anywhere_within_their_cells_in_the_order_of_the_permutation(rows, columns, gap):
    task = Jigsaw(rows, columns, permutations=2 if columns == 3 else 6, gap=gap, normalise=False)
    x = numbered(200, 40, 61)
    params = task.sample(x, generator(2))
    parts = task.apply_to(x, **params)
    cell, tile = task.sizes(x)
    assert len(parts) == rows * columns and all(part.shape[1:] == (1, *tile) for part in parts)
    order = task.order[params["target"]]
    for place, part in enumerate(parts):
        low, left = corner(part)
        assert torch.equal(low // cell[0] * columns + left // cell[1], order[:, place])
        assert int((low % cell[0]).max()) == cell[0] - tile[0] and int((low % cell[0]).min()) == 0
        assert int((left % cell[1]).max()) == cell[1] - tile[1] and int((left % cell[1]).min()) == 0
        whole = part[:, 0] - part[:, 0, :1, :1]
        assert torch.equal(whole, numbered(1, *tile)[:, 0].expand_as(whole)), (
            "a tile is not one piece of the spectrogram"
        )


def test_tiles_are_normalised_one_by_one():
    x = 5.0 + 3.0 * torch.randn(8, 1, 40, 60, generator=generator(0)) * torch.arange(1.0, 61.0)
    for part in Jigsaw().apply_to(x, **Jigsaw().sample(x, generator(1))):
        torch.testing.assert_close(part.mean((1, 2, 3)), torch.zeros(8), atol=1e-5, rtol=0)
        torch.testing.assert_close(part.std((1, 2, 3)), torch.ones(8), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("rows", "columns", "directions"),
    [(3, 3, STEPS), (4, 5, STEPS), (1, 5, {(0, -1), (0, 1)}), (3, 1, {(-1, 0), (1, 0)})],
)
def test_the_second_tile_lies_where_the_target_says_and_the_first_one_does_not_tell(rows, columns, directions):
    task = RelativePosition(rows, columns, normalise=False)
    assert task.classes == len(directions)
    x = numbered(2000, 64, 96)
    params = task.sample(x, generator(3))
    cell, _ = task.sizes(x)
    places = []
    for part in task.apply_to(x, **params):
        low, left = corner(part)
        places.append(torch.stack([low // cell[0], left // cell[1]], 1))
    steps = {
        t: {tuple(s) for s in (places[1] - places[0])[params["target"] == t].tolist()} for t in range(task.classes)
    }
    assert all(len(found) == 1 for found in steps.values()) and set.union(*steps.values()) == directions
    firsts = [{tuple(s) for s in places[0][params["target"] == t].tolist()} for t in range(task.classes)]
    assert all(found == firsts[0] for found in firsts)


@pytest.mark.parametrize("name", ["rotation", "jigsaw", "relative_position"])
def test_the_loss_equals_a_loop_over_parts_that_are_seen_alone(name):
    objective = build(name).eval()
    specs = views(3, frames=48, count=4)["global"]
    ours = objective({"global": specs}, {}, generator(5))["task"]
    rng, total = generator(5), 0.0
    for spec in specs:
        params = objective.task.sample(spec, rng)
        parts = objective.task.apply_to(spec, **params)
        for i in range(4):
            z = torch.cat([objective.encoder(part[i : i + 1]).pooled[0] for part in parts])
            logits = objective.head(z[None])[0].double()
            total -= float(logits[params["target"][i]] - logits.exp().sum().log())
    assert float(ours) == pytest.approx(total / 8, rel=1e-4)


@pytest.mark.parametrize(
    ("rows", "columns", "shape", "words"),
    [
        (3, 3, (12, 90), "gives tiles of 3 bands.* lower objective.task.rows=3, or raise frontend.bands"),
        (3, 5, (30, 25), "gives tiles of 4 frames.* lower objective.task.columns=5, or raise window.length_s"),
    ],
)
def test_a_spectrogram_too_small_for_the_grid_is_refused_with_the_key(rows, columns, shape, words):
    objective = build("relative_position")
    objective.task = RelativePosition(rows, columns)
    with pytest.raises(AudiorepError, match=words):
        objective({"global": [torch.randn(4, 1, *shape)]}, {}, generator(0))


def test_grids_that_make_no_puzzle_are_refused():
    with pytest.raises(AudiorepError, match="objective.task.rows=2, .* choose 1 .* or 3 and more"):
        RelativePosition(rows=2)
    with pytest.raises(AudiorepError, match="not 1 for both"):
        RelativePosition(rows=1, columns=1)
    with pytest.raises(AudiorepError, match="objective.task.permutations=7: 3 tiles have 6"):
        Jigsaw(rows=1, columns=3, permutations=7)
    with pytest.raises(AudiorepError, match="objective.task.gap=1.0"):
        Jigsaw(gap=1.0)
    with pytest.raises(AudiorepError, match="needs 1 view"):
        build("jigsaw").prepare(Setting(10, 4, KINDS | {"global": 0}))


@pytest.mark.parametrize("name", ["rotation", "jigsaw", "relative_position"])
def test_puzzles_made_of_recordings_not_trained_on_are_solved_better_than_by_chance(name):
    data = waves(192)
    made, objective = views_of(data), build(name)
    optimizer = torch.optim.AdamW(objective.parameter_groups()["main"], lr=3e-3)
    for step in range(30):
        rng = generator(0, step)
        rows = torch.randperm(192, generator=rng)[:48]
        loss = objective(made(data[rows], rng), {}, rng)["task"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    unheard = torch.stack([torch.from_numpy(tone(i % 4, 1000 + i)) for i in range(128)])
    with torch.no_grad():
        found = objective.eval().measure([(made(unheard, generator(1)), {})], generator(2))
    assert found["chance"] == 1.0 / objective.task.classes
    assert found["accuracy"] > found["chance"] + 0.15, found  # 256 puzzles: five standard errors and more
