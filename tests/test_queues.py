"""The queue of past embeddings: first in, first out, whatever the sizes."""

import pytest
import torch
from torch.nn import functional as F

from audiorep.errors import AudiorepError
from audiorep.queues import Queue
from audiorep.types import generator


def rows(first: int, count: int, dim: int = 3) -> torch.Tensor:
    """Directions that can be told apart by number, of any length."""
    angle = torch.arange(first, first + count) * 0.01
    return torch.stack([angle.cos(), angle.sin(), torch.zeros(count)], 1)[:, :dim] * (2.0 + angle[:, None])


def numbers(queue: Queue) -> list[int]:
    """Those of the rows that were pushed, in order of places."""
    kept = queue.content()
    kept = kept[kept[:, 2] == 0]
    return (torch.atan2(kept[:, 1], kept[:, 0]) / 0.01).round().int().tolist()


@pytest.mark.parametrize("pushes", [[3, 3], [1] * 17, [2, 5, 7], [8], [4, 4, 4], [19], [3, 20, 2], [0, 8, 0]])
def test_the_last_rows_are_kept_whatever_the_sizes_of_the_pushes(pushes):
    queue, past = Queue(3, 8), []
    before = queue.content()
    for count in pushes:
        queue.push(rows(len(past), count))
        past += range(len(past), len(past) + count)
        fresh = min(len(past), 8)
        assert sorted(numbers(queue)) == past[len(past) - fresh :]
    if len(past) < 8:
        torch.testing.assert_close(queue.content()[len(past) :], before[len(past) :])


def test_the_oldest_are_replaced_first():
    queue = Queue(3, 5)
    queue.push(rows(0, 5))
    queue.push(rows(5, 3))
    assert numbers(queue) == [5, 6, 7, 3, 4]
    queue.push(rows(8, 3))
    assert numbers(queue) == [10, 6, 7, 8, 9]


def test_rows_are_normalised_and_random_directions_stand_there_before():
    queue = Queue(16, 64)
    torch.testing.assert_close(queue.content().norm(dim=1), torch.ones(64))
    assert queue.content().std(0).min() > 0.1
    pushed = 7 * torch.randn(10, 16, generator=generator(0))
    queue.push(pushed)
    torch.testing.assert_close(queue.content()[:10], F.normalize(pushed))


def test_the_state_goes_on_where_it_was_saved():
    first, second = Queue(3, 8), Queue(3, 8)
    first.push(rows(0, 11))
    second.load_state_dict(first.state_dict())
    for queue in (first, second):
        queue.push(rows(11, 3))
    assert torch.equal(first.content(), second.content()) and numbers(second) == [11, 12, 13, 6, 7, 8, 9, 10]


def test_a_push_leaves_graphs_and_contents_of_before_alone():
    queue, z = Queue(3, 8), torch.randn(4, 3, requires_grad=True)
    content = queue.content()
    kept = content.clone()
    loss = (z @ content.T).sum()
    queue.push(z)
    assert torch.equal(content, kept) and not queue.content().requires_grad
    torch.testing.assert_close(torch.autograd.grad(loss, z)[0], kept.sum(0).expand(4, 3))


def test_half_precision_rows_are_kept_in_single():
    queue = Queue(3, 8)
    queue.push(rows(0, 2).to(torch.bfloat16))
    assert queue.content().dtype == torch.float32


def test_a_queue_of_one_is_refused():
    with pytest.raises(AudiorepError, match="size=1"):
        Queue(3, 1)
