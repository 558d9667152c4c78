"""Masks: rectangular, of the promised size and form, never visible and hidden at once, no place favoured."""

import math

import pytest
import torch

from audiorep.encoders.cnn import SmallCnn
from audiorep.errors import AudiorepError
from audiorep.masks import Block, InverseBlock, MultiBlock, Parts, Random, flags, patches_of, random_order
from audiorep.types import generator

GRIDS = [(4, 12), (8, 64), (1, 12), (4, 1), (2, 2), (1, 2), (5, 7)]
CPU = torch.device("cpu")
WITH_RATIO = {
    "random": Random(0.75),
    "inverse block": InverseBlock(0.8),
    "small inverse block": InverseBlock(0.8, size=2),
    "block": Block(0.4),
    "nearly nothing hidden": Random(0.01),
    "nearly everything hidden": InverseBlock(0.99),
}
MASKS = WITH_RATIO | {
    "multi-block": MultiBlock(),
    "one large target": MultiBlock(targets=1, scale=(0.6, 0.8), context=(1.0, 1.0)),
    "many targets": MultiBlock(targets=9, scale=(0.2, 0.3)),
}


def drawn(mask, grid, seed: int = 0, count: int = 50) -> Parts:
    return mask(count, *grid, generator(seed), CPU)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("name", MASKS)
def test_no_patch_is_visible_and_hidden_and_nobody_is_without_either(name, grid):
    tokens = grid[0] * grid[1]
    for seed in range(5):
        parts = drawn(MASKS[name], grid, seed)
        assert len(parts.visible) == len(parts.hidden) == 50 and parts.visible.shape[1] and parts.hidden.shape[2]
        for visible, groups in zip(parts.visible.tolist(), parts.hidden.tolist(), strict=True):
            assert len(set(visible)) == len(visible) and all(0 <= patch < tokens for patch in visible)
            for group in groups:
                assert len(set(group)) == len(group) and all(0 <= patch < tokens for patch in group)
                assert not set(group) & set(visible)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("name", WITH_RATIO)
def test_a_ratio_hides_that_part_of_the_patches_and_the_rest_is_visible(name, grid):
    tokens, mask = grid[0] * grid[1], MASKS[name]
    parts = drawn(mask, grid)
    wanted = min(max(1, round(tokens * (1 - mask.ratio))), tokens - 1)
    assert parts.visible.shape[1] == wanted and parts.hidden.shape[1:] == (1, tokens - wanted)
    assert flags(parts, tokens).sum(1).tolist() == [tokens - wanted] * 50
    assert not flags(parts, tokens).gather(1, parts.visible).any()


@pytest.mark.parametrize("name", MASKS)
def test_draws_depend_on_the_seed_and_differ_between_samples(name):
    first, again, other = (drawn(MASKS[name], (4, 12), seed) for seed in (1, 1, 2))
    assert torch.equal(first.hidden, again.hidden) and torch.equal(first.visible, again.visible)
    shown = flags(first, 48)
    assert len(shown.unique(dim=0)) > 3 and not torch.equal(shown, flags(other, 48))


def test_random_hides_every_patch_equally_often():
    share = flags(drawn(Random(0.75), (4, 12), count=4000), 48).float().mean(0)
    spread = math.sqrt(0.75 * 0.25 / 4000)
    assert (share - 0.75).abs().max() < 5 * spread


def neighbours(chosen: torch.Tensor, grid: tuple[int, int]) -> float:
    """Of the patches that are chosen [b l], the part whose right and lower neighbours, where there are any, are too."""
    table = chosen.view(-1, *grid)
    across = (table[:, :, :-1] & table[:, :, 1:]).sum() / table[:, :, :-1].sum()
    down = (table[:, :-1] & table[:, 1:]).sum() / table[:, :-1].sum()
    return float(across + down) / 2


def test_inverse_blocks_keep_what_is_visible_together_and_blocks_what_is_hidden():
    grid = (8, 64)
    shown = {
        name: ~flags(drawn(mask, grid), 512) for name, mask in {"apart": Random(0.8), "blocks": InverseBlock()}.items()
    }
    assert neighbours(shown["apart"], grid) < 0.3 and neighbours(shown["blocks"], grid) > 0.7
    hidden = {
        name: flags(drawn(mask, grid), 512) for name, mask in {"apart": Random(0.3), "blocks": Block(0.3)}.items()
    }
    assert neighbours(hidden["apart"], grid) < 0.4 and neighbours(hidden["blocks"], grid) > 0.6


def test_one_inverse_block_is_a_square_at_any_place():
    parts = drawn(InverseBlock(1 - 9 / 48, size=3), (4, 12), count=400)
    row, column = parts.visible // 12, parts.visible % 12
    assert (row.amax(1) - row.amin(1) == 2).all() and (column.amax(1) - column.amin(1) == 2).all()
    assert set(column.amin(1).tolist()) == set(range(10)) and set(row.amin(1).tolist()) == {0, 1}


def test_a_block_larger_than_what_is_visible_becomes_smaller_and_stays_whole():
    parts = drawn(InverseBlock(0.8, size=5), (4, 12))  # ten visible: a block of 3 x 3 and one of the next
    row, column = parts.visible // 12, parts.visible % 12
    whole = [
        {(r + i, c + j) for i in range(3) for j in range(3)} <= set(zip(rows, columns, strict=True))
        for rows, columns in zip(row.tolist(), column.tolist(), strict=True)
        for r, c in [(min(rows), min(columns))]
    ]
    assert sum(whole) > 5 and parts.visible.shape[1] == 10


@pytest.mark.parametrize("grid", [(4, 12), (8, 64), (5, 7)], ids=str)
def test_targets_are_blocks_of_one_size_and_of_the_scale(grid):
    rows, columns = grid
    tokens = rows * columns
    sizes = set()
    for seed in range(30):
        parts = drawn(MultiBlock(), grid, seed)
        assert parts.hidden.shape[1] == 4
        row, column = parts.hidden // columns, parts.hidden % columns
        height, width = row.amax(2) - row.amin(2) + 1, column.amax(2) - column.amin(2) + 1
        assert (height * width == parts.hidden.shape[2]).all()
        assert height.unique().numel() == width.unique().numel() == 1
        sizes.add((int(height[0, 0]), int(width[0, 0])))
        assert 0.1 <= parts.hidden.shape[2] / tokens <= 0.25
        assert parts.visible.shape[1] >= 0.15 * tokens
    assert len(sizes) > 1


def test_visible_patches_lie_within_a_context_block_at_any_place():
    parts = drawn(MultiBlock(targets=1, scale=(0.1, 0.1), context=(0.3, 0.3), least=0.01), (8, 16), count=400)
    row, column = parts.visible // 16, parts.visible % 16
    height, width = row.amax(1) - row.amin(1) + 1, column.amax(1) - column.amin(1) + 1
    assert height.max() == 4 and width.max() == 10  # 0.3 of 8 x 16, to whole patches
    assert parts.visible.shape[1] >= 40 - 13  # a target takes 13 of them at most
    assert set(row.amin(1).tolist()) >= set(range(5)) and set(column.amin(1).tolist()) >= set(range(7))


def test_without_overlap_or_luck_enough_stays_visible_and_a_target_too_many_repeats_another():
    parts = drawn(MultiBlock(targets=12, scale=(0.2, 0.2), least=0.5), (4, 12))
    assert (flags(parts, 48).sum(1) <= 24).all() and parts.visible.shape[1] == 24
    different = torch.tensor([len(groups.sort(1).values.unique(dim=0)) for groups in parts.hidden])
    assert (different < 12).all() and (different > 1).all()


def test_every_sample_keeps_as_many_as_the_one_with_the_fewest():
    parts = drawn(MultiBlock(context=(1.0, 1.0)), (8, 16), count=200)
    left = 128 - flags(parts, 128).sum(1)
    assert left.unique().numel() > 3 and parts.visible.shape[1] == left.min()


def test_the_order_is_a_permutation_for_each_sample():
    order = random_order(7, 30, generator(0), CPU)
    assert torch.equal(order.sort(1).values, torch.arange(30).expand(7, 30)) and not torch.equal(order[0], order[1])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Random(1.0), "objective.mask.ratio=1.0 must lie between 0 and 1"),
        (lambda: InverseBlock(0.0), "objective.mask.ratio=0.0 must lie between 0 and 1"),
        (lambda: Block(0.5, size=0), "objective.mask.size=0"),
        (lambda: MultiBlock(targets=0), "objective.mask.targets=0"),
        (lambda: MultiBlock(scale=(0.3, 0.2)), r"objective.mask.scale=\[0.3, 0.2\]: two parts"),
        (lambda: MultiBlock(context=(0.5, 1.2)), "objective.mask.context"),
        (lambda: MultiBlock(aspect=(0.0, 1.0)), "objective.mask.aspect"),
        (lambda: MultiBlock(scale=(0.5, 0.9)), "objective.mask.least=0.15 and a target"),
        (lambda: drawn(Random(), (1, 1)), "a single patch has nothing to hide: raise window.length_s"),
        (lambda: drawn(MultiBlock(), (1, 1)), "a single patch has nothing to hide"),
        (lambda: patches_of(SmallCnn()), r"objective.mask.*SmallCnn has none: choose encoder=vit_mini"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_remedy(make, words):
    with pytest.raises(AudiorepError, match=words):
        make()
