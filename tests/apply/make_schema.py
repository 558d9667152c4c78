"""Makes the folder schema_VERSION beside this file, once, by the code that writes that version:

    python tests/apply/make_schema.py VERSION

A later audiorep must read it and say the same of its golden clip. Never make one again: the point is that it is old.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from toy import RATE_HZ, tone

from audiorep.apply.export import write_golden
from audiorep.compress import Compress, FixedNorm, Log
from audiorep.encoders.cnn import SmallCnn
from audiorep.encoders.frame_cnn import FrameCnn
from audiorep.frontend import Mel
from audiorep.heads import UnitLinear
from audiorep.model import SCHEMA, Model, ModelInfo, save_model

FRONTEND = {"win_s": 0.032, "hop_s": 0.01, "bands": 32}
PARTS = {
    "frontend": {"_target_": "audiorep.frontend.Mel", "sample_rate_hz": RATE_HZ, **FRONTEND},
    "compress": {
        "_target_": "audiorep.compress.Compress",
        "compression": {"_target_": "audiorep.compress.Log"},
        "norm": {"_target_": "audiorep.compress.FixedNorm"},
    },
}
SIZE = {"width": 4, "dim": 16}
CLASSES = ("down", "flat", "trill", "up")


def of_windows() -> tuple[Model, dict]:
    return model_of(SmallCnn(**SIZE), False), {"_target_": "audiorep.encoders.cnn.SmallCnn", **SIZE}


def of_frames() -> tuple[Model, dict]:
    return model_of(FrameCnn(**SIZE), True), {"_target_": "audiorep.encoders.frame_cnn.FrameCnn", **SIZE}


def model_of(encoder: torch.nn.Module, framewise: bool) -> Model:
    """With random weights, and batch norms that have seen something."""
    frontend, compress = Mel(RATE_HZ, **FRONTEND), Compress(Log(), FixedNorm())
    waves = torch.from_numpy(np.stack([tone(kind, seed) for kind in range(4) for seed in range(8)]))
    compress.fit(frontend(waves))
    model = Model(frontend, compress, encoder, torch.nn.Linear(encoder.dim, len(CLASSES)), framewise)
    model.train()(waves)
    return model.eval()


def of_unit_length() -> tuple[Model, dict]:
    model, encoder = of_windows()
    head = UnitLinear(model.encoder.dim, len(CLASSES))
    head.load_state_dict(model.classifier.state_dict())
    model.classifier = head
    return model, encoder


def without(version: int, *names: str) -> Callable[[dict], dict]:
    return lambda config: {k: v for k, v in config.items() if k not in names} | {"audiorep_schema": version}


WRITTEN = {
    1: (of_windows, without(1, "framewise", "unit_length")),
    2: (of_frames, without(2, "unit_length")),
    3: (of_unit_length, dict),
}
"""By version: a model that it can hold, and from the config of the present version to that of the version."""


def main(version: int) -> None:
    out = Path(__file__).parent / f"schema_{version}"
    if out.exists() or SCHEMA != 3:
        raise SystemExit(f"{out} is there, or the present code writes version {SCHEMA}: add a way to write {version}")
    torch.manual_seed(version)
    make, as_then = WRITTEN[version]
    with torch.no_grad():
        model, encoder = make()
    info = ModelInfo(RATE_HZ, 0.5, classes=CLASSES, training={"corpus": "tones", "split": "none"})
    save_model(model, PARTS | {"encoder": encoder}, info, out)
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(as_then(config), indent=2) + "\n")
    write_golden(model, info, tone(3, 99), out)


if __name__ == "__main__":
    main(int(sys.argv[1]))
