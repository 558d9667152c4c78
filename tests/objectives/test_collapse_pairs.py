"""Good and broken twins: without the part that keeps a method alive, the figure that tells falls under the floor.

The figures are those of the published ablations (SimCLR without negatives: std of the normalised projections; VICReg
without variance: std of the raw projections and rank of the backbone; BYOL without predictor: std and rank of the
projections). The floors stand between the twins, so a test fails when the broken part is swapped in.
"""

import pytest
from toy import train

TWINS = {
    "simclr": (["+objective.loss.negatives=false"], {"projection/std": 0.3, "projection/rankme": 5.0}),
    "vicreg": (["objective.loss.variance=0"], {"projection/raw_std": 0.2, "backbone/rankme": 7.5}),
    "byol": (
        [
            "objective.predictor._target_=audiorep.heads.Identity",
            "~objective.predictor.hidden",
            "~objective.predictor.outputs",
        ],
        {"projection/std": 0.6, "projection/rankme": 8.0},
    ),
}
GOOD = {"simclr": [], "vicreg": [], "byol": ["objective.predictor.hidden=128", "objective.predictor.outputs=64"]}


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_broken_twin_falls_under_the_floor_and_the_good_one_does_not(name, seed):
    broken_by, floors = TWINS[name]
    good = train(name, GOOD[name], steps=60, seed=seed)
    broken = train(name, broken_by, steps=60, seed=seed)
    for figure, floor in floors.items():
        assert good[figure] > floor > broken[figure], f"{figure}: {good[figure]:.3g} / {broken[figure]:.3g}"
