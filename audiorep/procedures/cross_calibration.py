"""Thresholds where labels are few: each label calibrates a classifier that did not learn from it."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from audiorep.errors import AudiorepError
from audiorep.evaluate.results import is_overall
from audiorep.overrides import quoted, words
from audiorep.procedures.common import remember, report, run_stage


def cross_calibration(cfg: DictConfig) -> None:
    """Train `folds` classifiers, each without one part of the labels, and a last one with all of them, whose temperature and
    thresholds are chosen on what the others say of the part that they did not learn from.

    The others learned from fewer labels than the last, and are the weaker for it: the temperature is rather too high.

    Raises:
        AudiorepError: keys in `train` that keep labels back in another way.

    Source: Platt 1999, Probabilistic outputs for support vector machines, section 2.2 (three-fold cross-validation).
    """
    keys = words(cfg.train)
    if own := [key for key in keys if key.startswith("calibration.") and not key.startswith("calibration.precision")]:
        raise AudiorepError(f"{own[0]} in train=: cross_calibration keeps labels back by itself; leave it out")
    out = Path(str(cfg.out))
    remember(out, OmegaConf.to_container(cfg, resolve=True))
    budget = [] if cfg.labels_per_class is None else [f"labels_per_class={cfg.labels_per_class}"]
    given = [quoted(f"corpus={cfg.corpus}"), f"seed={cfg.seed}", *budget, *keys]
    stages = {
        f"fold_{fold}": [f"calibration.folds={cfg.folds}", f"calibration.fold={fold}"] for fold in range(cfg.folds)
    } | {"classifier": [quoted(f"calibration.answers={out}")]}
    rows: list[dict[str, Any]] = []
    for name, more in stages.items():
        metrics = run_stage("train", [*given, *more], out / name)
        rows.append({"stage": name, **{key: value for key, value in metrics.items() if is_overall(key)}})
    report(out, "cross-calibration", rows)
