"""What every selector config keeps to: k different clips, the same for the same seed, of any pool, or a plain refusal."""

import copy
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from pools import make

from audiorep.composing import configs
from audiorep.errors import AudiorepError
from audiorep.select.pool import Pool, Selector
from audiorep.types import generator

NAMES = sorted(path.stem for path in Path("configs/selector").glob("*.yaml"))
SMALLER = {"vaal": ["selector.steps=5", "selector.hidden=8", "selector.latent=2", "selector.batch=8"]}
OF_NOTHING_BUT_THE_POOL = {
    "farthest_first",
    "stream",
}
"""Where another seed need not choose otherwise: nothing is drawn, or (stream) little."""


def config(name: str):
    with initialize_config_dir(str(configs().resolve()), version_base="1.3"):
        return compose(overrides=[f"+selector={name}", *SMALLER.get(name, [])])


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def selector(name) -> Selector:
    return instantiate(config(name).selector)


def pick(selector: Selector, pool: Pool, k: int, seed: int = 0) -> torch.Tensor:
    chosen = selector.select(pool, k, generator(seed))
    assert chosen.rows.shape == chosen.score.shape == (k,)
    assert len(chosen.rows.unique()) == k
    assert not k or (int(chosen.rows.min()) >= 0 and int(chosen.rows.max()) < len(pool))
    assert chosen.score.isfinite().all() and (chosen.score >= 0.0).all()
    return chosen.rows


def test_the_group_is_complete():
    assert sorted(path.stem for path in (configs() / "selector").glob("*.yaml")) == NAMES


def test_it_says_what_it_is(name):
    cfg = config(name)
    assert set(cfg.about) == {"what", "source", "needs", "choose"} and all(cfg.about.values())
    assert ("passes" in cfg.about.needs) == instantiate(cfg.selector).needs.passes
    needs = instantiate(cfg.selector).needs
    assert ("a trained model" in cfg.about.needs) == needs.probabilities
    assert (cfg.about.needs.startswith("none") or cfg.about.needs.startswith("at least one")) != needs.trained


@pytest.mark.parametrize("k", [1, 7, 40, 0])
def test_as_many_different_clips_as_are_wanted_are_chosen(selector, k):
    pick(selector, make(), k)


def test_more_clips_than_there_are_is_an_error(selector):
    for k in (41, -1):
        with pytest.raises(AudiorepError, match=f"batch={k}: 40 clips are left"):
            selector.select(make(), k, generator(0))


def test_a_pool_of_one_clip(selector):
    assert pick(selector, make(n=1), 1).tolist() == [0]


def test_the_same_seed_the_same_choice(selector):
    assert torch.equal(pick(selector, make(), 9, 3), pick(selector, make(), 9, 3))


def test_another_seed_decides_between_equals(selector, name):
    pool = make(log_p=torch.full((4, 40, 3), 1.0 / 3.0).log(), spent=1.0)
    picks = {tuple(pick(selector, pool, 3, seed).tolist()) for seed in range(6)}
    assert len(picks) > 1 or name in OF_NOTHING_BUT_THE_POOL


def test_nothing_is_answered_yet(selector):
    pool = make(answered=0)
    if selector.needs.answered:
        with pytest.raises(AudiorepError, match="begin with selector="):
            selector.select(pool, 5, generator(0))
    else:
        pick(selector, pool, 5)


def test_there_is_no_model_yet(selector):
    pool = make(log_p=None)
    if selector.needs.trained:
        assert selector.needs.probabilities
        with pytest.raises(AudiorepError, match="begin with selector="):
            selector.select(pool, 5, generator(0))
    else:
        pick(selector, pool, 5)


@pytest.mark.parametrize("answered", [0, 8])
def test_clips_may_have_several_labels(selector, answered):
    if not (selector.needs.answered and not answered):
        pick(selector, make(several=True, answered=answered), 6)


def test_one_pass_of_a_model_is_enough(selector):
    pick(selector, make(m=1), 6)


@pytest.mark.parametrize("several", [False, True])
def test_a_model_that_is_quite_sure_breaks_nothing(selector, several):
    pool = make(several=several)
    pick(selector, replace(pool, log_p=torch.where(pool.log_p > -0.7, 0.0, -torch.inf)), 6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_embeddings_and_probabilities_may_be_of_another_precision(selector, dtype):
    pool = make()
    changed = {name: getattr(pool, name).to(dtype) for name in ("embedding", "labelled", "log_p")}
    pick(selector, replace(pool, **changed), 6)


def test_clips_that_are_all_alike_are_still_told_apart(selector):
    pick(selector, make(embedding=torch.ones(40, 6), labelled=torch.ones(8, 6)), 12)
    pick(selector, make(embedding=torch.zeros(40, 6), labelled=torch.zeros(8, 6)), 40)


def test_the_pool_and_the_global_generator_are_left_alone(selector):
    pool = make()
    before, state = copy.deepcopy(pool), torch.get_rng_state()
    pick(selector, pool, 10)
    assert torch.equal(torch.get_rng_state(), state)
    for field in fields(pool):
        old, new = getattr(before, field.name), getattr(pool, field.name)
        assert torch.equal(old, new) if isinstance(old, torch.Tensor) else old == new


def test_it_runs_on_a_gpu(selector):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    pool = make()
    moved = {f.name: getattr(pool, f.name) for f in fields(pool)}
    moved = {key: x.cuda() if isinstance(x, torch.Tensor) else x for key, x in moved.items()}
    rows = selector.select(Pool(**moved), 9, generator(0, device="cuda")).rows
    assert rows.device.type == "cuda" and len(rows.unique()) == 9


def test_the_module_knows_neither_models_nor_files():
    source = Path(__file__).parents[2] / "audiorep" / "select"
    imports = [line for path in source.glob("*.py") for line in path.read_text().splitlines() if "import" in line]
    for other in ("audiorep.data", "audiorep.model", "audiorep.encoders", "audiorep.files", "pathlib", "numpy"):
        assert not [line for line in imports if other in line]
