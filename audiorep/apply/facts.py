"""What the files of a bundle say of themselves: rate, classes, thresholds, and how scores become calls."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from audiorep import __version__
from audiorep.apply.detect import Reporting, reporting_of
from audiorep.model import Model, ModelInfo


def facts_of(
    model: Model, info: ModelInfo, licence: str = "", thresholds: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Names and texts for the metadata of an ONNX file: plain text, or JSON where it is no text.

    Thresholds are those of the classes that have one, on ``softmax(logits / temperature)``, or ``sigmoid`` where
    `multilabel` or `framewise`; `events` is how frames become calls (`Reporting`), empty where windows are named.

    Args:
        thresholds: the content of ``thresholds.json``; None: there are none.
    """
    reporting = Reporting({}) if thresholds is None else reporting_of(thresholds)
    rule = asdict(reporting)
    events = {name: rule[name] for name in ("low", "gap_s", "shortest_s", "exclusive")} if model.framewise else {}
    found = {
        "sample_rate": info.sample_rate_hz,
        "sample_duration": info.window_s,
        "classes": list(info.classes),
        "embedding_outputs_key": "embedding",
        "class_outputs_key": "logits" if info.classes else "",
        "multilabel": bool(info.training.get("multilabel")),
        "framewise": model.framewise,
        "step_samples": model.step_samples if model.framewise else 0,
        "temperature": reporting.temperature,
        "thresholds": dict(reporting.thresholds),
        "events": events,
        "license": licence,
        "producer": f"audiorep {__version__}",
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in found.items()}
