"""Good and broken twins: without the part that keeps a method alive, the figure that tells falls past its limit.

All nine pairs of the published ablations and of our own longer runs, each on the figure that told there: the standard
deviation of the projections (SimCLR without negatives, VICReg without variance, BYOL without predictor), their rank
(VICReg without covariance, Barlow Twins without its off-diagonal, SimSiam without stop-gradient or predictor), and the
entropies over prototypes (DINO without centring, without sharpening). The limits stand between the twins over two
seeds, so a test fails when the broken part is swapped in. Scores of a probe do not tell: see the recipes.
"""

import pytest
from toy import train

NO_PREDICTOR = [
    "objective.predictor._target_=audiorep.heads.Identity",
    "~objective.predictor.hidden",
    "~objective.predictor.outputs",
]
BYOL = ["objective.predictor.hidden=128", "objective.predictor.outputs=64"]
SIMSIAM = ["objective.predictor.hidden=32", "objective.predictor.outputs=64"]

TWINS = {
    "simclr without negatives": (
        "simclr", [], ["+objective.loss.negatives=false"], {"projection/std": 0.3, "projection/rankme": 5.0}
    ),
    "vicreg without variance": (
        "vicreg", [], ["objective.loss.variance=0"], {"projection/raw_std": 0.2, "backbone/rankme": 7.5}
    ),
    "vicreg without covariance": ("vicreg", [], ["objective.loss.covariance=0"], {"projection/rankme": 6.0}),
    "barlow twins without off-diagonal": (
        "barlow_twins", [], ["objective.loss.lam=0"], {"projection/rankme": 5.3}
    ),
    "simsiam without stop-gradient": (
        "simsiam", SIMSIAM, [*SIMSIAM, "objective.teacher._target_=audiorep.teachers.Shared"], {"projection/rankme": 4.3}
    ),
    "simsiam without predictor": ("simsiam", SIMSIAM, NO_PREDICTOR, {"projection/rankme": 4.0}),
    "byol without predictor": ("byol", BYOL, NO_PREDICTOR, {"projection/std": 0.6, "projection/rankme": 8.0}),
    "dino without centring": (
        "dino", [], ["+objective.assign.centre=false"], {"prototypes/marginal_entropy": 4.0}
    ),
}  # fmt: skip


@pytest.mark.parametrize("pair", TWINS)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_broken_twin_falls_under_the_floor_and_the_good_one_does_not(pair, seed):
    name, good_by, broken_by, floors = TWINS[pair]
    good = train(name, tuple(good_by), steps=60, seed=seed)
    broken = train(name, tuple(broken_by), steps=60, seed=seed)
    for figure, floor in floors.items():
        assert good[figure] > floor > broken[figure], f"{figure}: {good[figure]:.3g} / {broken[figure]:.3g}"


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_dino_without_sharpening_becomes_uniform(seed):
    good = train("dino", (), steps=60, seed=seed)
    blunt = ["objective.assign.tau=0.1", "+objective.assign.tau_start=0.1"]
    broken = train("dino", tuple(blunt), steps=60, seed=seed)
    for figure, ceiling in {
        "teacher/conditional_entropy": 4.6,
        "prototypes/conditional_entropy_relative": 0.94,
    }.items():
        assert good[figure] < ceiling < broken[figure], f"{figure}: {good[figure]:.3g} / {broken[figure]:.3g}"
