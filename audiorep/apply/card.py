"""The model card: a head that model hubs read, then what a person wants to know."""

import json
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import torch
from jinja2 import Environment, PackageLoader

from audiorep.evaluate.metrics import MULTI_LABEL, SINGLE_LABEL
from audiorep.model import Model, ModelInfo, count_parameters

LICENCES = frozenset(
    {"unknown", "other", "mit", "isc", "zlib", "wtfpl", "unlicense", "apache-2.0", "mpl-2.0", "ecl-2.0", "epl-2.0"}
    | {"bsd", "bsd-2-clause", "bsd-3-clause", "eupl-1.1", "eupl-1.2", "gpl", "gpl-2.0", "gpl-3.0", "agpl-3.0"}
    | {"lgpl", "lgpl-2.1", "lgpl-3.0", "openrail", "odbl", "pddl", "odc-by", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5"}
    | {"cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0"}
    | {"cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"}
)
"""Short names of licences that the Hugging Face hub knows; it calls all else "other", with a name."""

DATASET = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def render_card(model: Model, info: ModelInfo, card: Mapping[str, Any], **told: Any) -> str:
    """The text of README.md.

    Args:
        card: license, title, dataset, metrics.
        told: what export found: error, axes of the program that are fixed, variants, the facts in the files,
            and whether they were calibrated.
    """
    facts = {name: json.loads(told["facts"][name]) for name in ("thresholds", "events", "step_samples")}
    rule, step = facts["events"], facts["step_samples"]
    steps = {name: round(rule[name] * info.sample_rate_hz / step) for name in ("gap_s", "shortest_s") if rule}
    environment = Environment(loader=PackageLoader("audiorep.apply"), keep_trailing_newline=True, trim_blocks=True)
    return environment.get_template("card.md").render(
        info=info,
        training=info.training,
        card=card,
        head=head(card),
        parameters=count_parameters(model),
        dim=model.encoder.dim,
        framewise=model.framewise,
        several=model.framewise or bool(info.training.get("multilabel")),
        torch=torch.__version__.split("+")[0],
        thresholds=facts["thresholds"],
        rule=rule,
        steps=steps,
        step=step,
        error=told["error"],
        fixed=told["fixed"],
        variants=told["variants"],
        calibrated=told["calibrated"],
    )


def head(card: Mapping[str, Any]) -> dict[str, Any]:
    """What the YAML head says, in a form that hubs take: licence, datasets, names of metrics.

    A corpus that is a local path is told by its name alone.
    """
    licence = str(card["license"])
    short = "-".join(licence.lower().split())
    known: dict[str, Any] = {"license": short} if short in LICENCES else {"license": "other", "license_name": licence}
    name = str(card["dataset"])
    if not DATASET.fullmatch(name) or PurePath(name).suffix in (".csv", ".tsv", ".parquet"):
        name = re.sub(r"[^\w.-]+", "-", PurePath(name).stem).strip("-.")
    return known | {"datasets": [name] if name and name != "unknown" else [], "metrics": metrics_of(card)}


def metrics_of(card: Mapping[str, Any]) -> list[str]:
    """Names of the metrics that the encoder or classifier was judged by."""
    names = {name.split("/")[-1] for name in card.get("metrics") or {}}
    return sorted(names & {*SINGLE_LABEL, *MULTI_LABEL})
