"""The model as a `torch.export` program, which torch runs without audiorep."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from audiorep.apply.waveform_onnx import Exported, largest_error, trio, unchecked_shapes
from audiorep.files import atomic
from audiorep.model import Model

AXES = ("batch", "samples")
AUTO = torch.export.Dim.AUTO


def write_program(model: Model, samples: int, path: Path, facts: Mapping[str, str]) -> list[str]:
    """Write what ``torch.export.load(path).module()`` runs: waveform [batch, samples] -> (embedding, logits).

    `facts` go with it as extra files. Nothing in audiorep opens a program that it did not write itself:
    ``torch.export.load`` unpickles what the file tells it to, so that a stranger's could run anything.

    Args:
        samples: of the clip that it is traced with.

    Returns:
        What is not free, in words, such as "batch is 2".
    """
    with atomic(path) as temporary, warnings.catch_warnings(), unchecked_shapes():
        warnings.simplefilter("ignore")
        shapes = {"waveform": {0: AUTO, 1: AUTO}}
        program = torch.export.export(Exported(model).eval(), (torch.zeros(2, samples),), dynamic_shapes=shapes)
        torch.export.save(program, temporary, extra_files=dict(facts))
    return fixed(program)


def fixed(program: ExportedProgram) -> list[str]:
    """The axes of the waveform that torch.export could not leave free."""
    (name,) = program.graph_signature.user_inputs
    shape = next(node.meta["val"].shape for node in program.graph.nodes if node.name == name)
    return [f"{axis} is {size}" for axis, size in zip(AXES, shape, strict=True) if is_concrete_int(size)]


@torch.inference_mode()
def program_parity(model: Model, path: Path, wave: np.ndarray) -> float:
    """`audiorep.apply.waveform_onnx.parity` of a program that this process has written."""
    batch = torch.from_numpy(trio(wave))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.load(path).module()
    return largest_error([x.numpy() for x in program(batch)], model(batch))
