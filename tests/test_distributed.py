"""Two gloo processes equal one process on the joined batch, for every objective. One pair of processes serves them all."""

import sys
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

sys.path.insert(0, str(Path(__file__).parent / "objectives"))
from small import COUNT, NAMES, batch, build, part, views

from audiorep.distributed import gather, mean_over_ranks, mine, rand, synchronise_norms
from audiorep.groups import only_these, terms_of
from audiorep.objectives import joint
from audiorep.types import generator

WORLD, STEPS = 2, 2

NOT_ALIKE = {
    "mixmatch": "each process mixes its own windows with each other, and how many of them have labels differs: the mean "
    "over processes is not the mean over the joined batch",
}
"""Objectives that train on several processes, but not as one would on the joined batch."""

CUT = torch.tensor([0] * 3 + [1] * 7 + [2] * 6)
"""Rows of windows; those of the second lie with both processes."""


def train(name: str, rank: int, world: int) -> dict[str, torch.Tensor]:
    """Two steps of plain gradient descent on this rank's part of each batch; state, terms and gradients at the end.

    As in the learner, every parameter group is updated in its turn, with its own terms.
    """
    whole = batch()
    if name.startswith("bags "):
        name = name.removeprefix("bags ")
        whole |= {"index": CUT, "label": CUT}
    objective = synchronise_norms(build(name)) if world > 1 else build(name)
    groups = objective.parameter_groups()
    own = slice(rank * COUNT // world, (rank + 1) * COUNT // world)
    out: dict[str, torch.Tensor] = {}
    for step, (group, parameters) in product(range(STEPS), groups.items()):
        told = {key: value[own] for key, value in whole.items()}
        objective.zero_grad()
        with only_these(groups, group):
            terms = objective(part(views(step), own), told, generator(7, step))
            loss = sum(terms_of(group, terms).values())
            loss.backward()
        for p in parameters:
            if p.grad is not None and world > 1:
                dist.all_reduce(p.grad)
                p.grad /= world
        if step == 0:
            out |= {f"grad/{n}": p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}
        with torch.no_grad():
            for p in parameters:
                if p.grad is not None:
                    p -= 0.01 * p.grad
        if group == list(groups)[-1]:
            objective.after_step((step + 1) / 10)
        out[f"loss/{step}/{group}"] = mean_over_ranks(loss.detach())
    return out | objective.state_dict()


def serve(rank: int, store: str, asked, answers) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD)
    while (name := asked[rank].get()) is not None:
        joint.gather = gather if not name.startswith("apart ") else lambda x: x
        name = name.removeprefix("apart ")
        try:
            answer = {key: value.numpy().copy() for key, value in train(name, rank, WORLD).items()}
        except Exception as error:
            answer = {"error": repr(error)}
        answers[rank].put(answer)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Ask two processes at once; returns what each answers."""
    context = mp.get_context("spawn")
    asked, answers = ([context.Queue() for _ in range(WORLD)] for _ in range(2))
    store = str(tmp_path_factory.mktemp("gloo") / "store")
    processes = [context.Process(target=serve, args=(r, store, asked, answers), daemon=True) for r in range(WORLD)]
    for process in processes:
        process.start()

    def ask(name: str) -> list[dict[str, torch.Tensor]]:
        for queue in asked:
            queue.put(name)
        return [queue.get(timeout=120) for queue in answers]

    yield ask
    for queue in asked:
        queue.put(None)
    for process in processes:
        process.join(20)


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_equal_one(name, pair):
    if name in NOT_ALIKE:
        pytest.skip(NOT_ALIKE[name])
    compare(name, pair)


def test_the_windows_of_a_row_are_pooled_across_processes(pair):
    compare("bags weak_labels", pair)


def compare(name, pair) -> None:
    alone = train(name, 0, 1)
    for answer in pair(name):
        assert "error" not in answer, answer["error"]
        assert answer.keys() == alone.keys()
        scale = max(float(v.abs().max()) for k, v in alone.items() if k.startswith("grad/"))
        for key, value in alone.items():
            tolerance = 2e-4 * scale if key.startswith("grad/") else 2e-4
            found = torch.from_numpy(answer[key])
            torch.testing.assert_close(found, value, rtol=2e-3, atol=tolerance, msg=lambda m, key=key: f"{key}: {m}")


def test_processes_that_do_not_gather_are_found_out(pair):
    alone, apart = train("simclr", 0, 1), pair("apart simclr")[0]
    worst = max(float((torch.from_numpy(apart[k]) - v).abs().max()) for k, v in alone.items() if k.startswith("grad/"))
    assert worst > 0.05 * max(float(v.abs().max()) for k, v in alone.items() if k.startswith("grad/"))


def test_alone_they_change_nothing():
    x = torch.randn(6, 3)
    assert gather(x) is x and mean_over_ranks(x) is x and torch.equal(mine(x), x)
    drawn = rand(6, 2, rng=generator(1), device="cpu")
    assert torch.equal(drawn, torch.rand(6, 2, generator=generator(1)))


@pytest.mark.parametrize("shape", [(12, 5), (6, 5, 4, 3)])
def test_our_synchronised_norm_alone_equals_torch(shape):
    norm = torch.nn.Sequential(torch.nn.BatchNorm1d(5) if len(shape) == 2 else torch.nn.BatchNorm2d(5))
    torch.nn.init.normal_(norm[0].weight)
    x = torch.randn(shape, requires_grad=True)
    wanted = norm(x)
    (slope,) = torch.autograd.grad(wanted.square().sum(), x)
    state = {k: v.clone() for k, v in norm.state_dict().items()}
    norm[0].reset_running_stats()
    ours = synchronise_norms(norm)
    out = ours(x)
    torch.testing.assert_close(out, wanted)
    torch.testing.assert_close(torch.autograd.grad(out.square().sum(), x)[0], slope, rtol=1e-3, atol=1e-4)
    assert ours.state_dict().keys() == state.keys()
    for key, value in state.items():
        torch.testing.assert_close(ours.state_dict()[key], value)
    torch.testing.assert_close(ours.eval()(x), norm.eval()(x))
