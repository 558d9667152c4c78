"""Small ONNX files as others write them, which tests can compute by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

PERCH_SAMPLES = 4800
WEIGHT = np.array([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0], [1.0, -1.0, 4.0]], np.float32)


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    takes: Mapping[str, Sequence[int | str]],
    gives: Mapping[str, Sequence[int | str]],
    constants: Sequence[onnx.TensorProto] = (),
    facts: Mapping[str, str] | None = None,
    element: int = TensorProto.FLOAT,
) -> Path:
    """A graph with named inputs and outputs of these shapes, and metadata."""
    inputs, outputs = (
        [helper.make_tensor_value_info(name, element, shape) for name, shape in of.items()] for of in (takes, gives)
    )
    graph = helper.make_graph(list(nodes), "g", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, dict(facts or {}))
    onnx.save(model, str(path))
    return path


def fixed(
    path: Path,
    samples: int | str = 1000,
    first: int | str = "b",
    facts: Mapping[str, str] | None = None,
    channel: Sequence[int] = (),
    element: int = TensorProto.FLOAT,
) -> Path:
    """Of so many samples: "level" [b 2], their mean and mean square, and "scores" [b 3], (1, 2, -1) times the mean."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("ReduceMean", ["flat", "axes"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["flat", "flat"], ["square"]),
        helper.make_node("ReduceMean", ["square", "axes"], ["power"], keepdims=1),
        helper.make_node("Concat", ["mean", "power"], ["level"], axis=1),
        helper.make_node("MatMul", ["mean", "weight"], ["scores"]),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        helper.make_tensor("weight", element, [1, 3], [1.0, 2.0, -1.0]),
    ]
    takes = {"x": [first, *channel, samples]}
    return save(path, nodes, takes, {"level": [first, 2], "scores": [first, 3]}, constants, facts, element)


def perch(path: Path, facts: Mapping[str, str] | None = None, samples: int = PERCH_SAMPLES) -> Path:
    """As Perch has them: "inputs" of one length, and the outputs "spectrogram" [b 5 n], "spatial_embedding" [b 2 3 4],
    "embedding" [b 4] and "label" [b 3].

    The samples fall into 24 stretches; spatial are their mean squares, the embedding is the mean of these over the first
    two axes, and the label that times `WEIGHT`.
    """
    nodes = [
        helper.make_node("Reshape", ["inputs", "bands"], ["spectrogram"]),
        helper.make_node("Reshape", ["inputs", "places"], ["stretches"]),
        helper.make_node("Mul", ["stretches", "stretches"], ["power"]),
        helper.make_node("ReduceMean", ["power", "last"], ["spatial_embedding"], keepdims=0),
        helper.make_node("ReduceMean", ["spatial_embedding", "middle"], ["embedding"], keepdims=0),
        helper.make_node("MatMul", ["embedding", "weight"], ["label"]),
    ]
    constants = [
        helper.make_tensor("bands", TensorProto.INT64, [3], [0, 5, -1]),
        helper.make_tensor("places", TensorProto.INT64, [5], [0, 2, 3, 4, -1]),
        helper.make_tensor("last", TensorProto.INT64, [1], [4]),
        helper.make_tensor("middle", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("weight", TensorProto.FLOAT, [4, 3], WEIGHT.ravel().tolist()),
    ]
    gives: dict[str, Sequence[int | str]] = {
        "spectrogram": ["b", 5, samples // 5], "spatial_embedding": ["b", 2, 3, 4], "embedding": ["b", 4],
        "label": ["b", 3],
    }  # fmt: skip
    return save(path, nodes, {"inputs": ["b", samples]}, gives, constants, facts)


def perch_by_hand(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """spatial_embedding [b 2 3 4], embedding [b 4] and label [b 3] of windows [b t] of the right length."""
    power = np.square(wave.astype(float)).reshape(len(wave), 2, 3, 4, -1).mean(4)
    embedding = power.mean((1, 2))
    return power, embedding, embedding @ WEIGHT
