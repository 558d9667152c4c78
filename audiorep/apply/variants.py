"""Smaller ONNX files of a model: weights and arithmetic of the encoder in float16 or int8, the front-end in float32."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from jaxtyping import Float
from onnx import ModelProto, NodeProto, compose, helper, shape_inference
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from audiorep.apply.waveform_onnx import SEEN
from audiorep.errors import AudiorepError

LEAST = 32
"""Windows that the ranges of int8 are taken from, at least."""

HALF = "half/"
QUANTIZED = ["Conv", "Gemm", "MatMul"]


def encoder_nodes(model: ModelProto) -> list[NodeProto]:
    """The nodes that depend on the spectrogram, in the order of the graph."""
    made, nodes = {SEEN}, []
    for node in model.graph.node:
        if made & set(node.input):
            nodes.append(node)
            made.update(node.output)
    return nodes


def float16(model: ModelProto, calibration: np.ndarray) -> ModelProto:
    """The encoder in float16, waveform, front-end, compression and outputs in float32.

    The graph is cut where the encoder begins and only what is behind is converted: nodes that onnxruntime's converter is
    told to leave alone would still hand float16 to each other, and faint sound has powers below its smallest number.
    """
    graph = shape_inference.infer_shapes(model).graph
    behind = encoder_nodes(model)
    names = {node.name for node in behind}
    before = [node for node in graph.node if node.name not in names]
    known = {info.name: info for info in (*graph.input, *graph.value_info)}
    given = {name for node in before for name in node.output} | {info.name for info in graph.input}
    crossing = [known[name] for name in dict.fromkeys(name for node in behind for name in node.input) if name in given]

    def part(nodes: list[NodeProto], inputs: Iterable, outputs: Iterable) -> ModelProto:
        used = {name for node in nodes for name in node.input}
        weights = [weight for weight in graph.initializer if weight.name in used]
        cut = helper.make_graph(nodes, graph.name, list(inputs), list(outputs), weights)
        return helper.make_model(cut, opset_imports=model.opset_import, ir_version=model.ir_version)

    front = part(before, graph.input, crossing)
    halved = OnnxModel(convert_float_to_float16(part(behind, crossing, graph.output), keep_io_types=True))
    halved.topological_sort()
    encoder = compose.add_prefix(halved.model, HALF, rename_outputs=False)
    merged = compose.merge_models(front, encoder, [(info.name, HALF + info.name) for info in crossing])
    merged.metadata_props.extend(model.metadata_props)
    return merged


def int8(model: ModelProto, calibration: Float[np.ndarray, "n t"]) -> ModelProto:
    """Convolutions and products of the encoder in int8: weights by channel, activations by the ranges that they take on
    `calibration`. Weights have 7 bits, so that processors whose products of 8 bits overflow give the same answers.

    Raises:
        AudiorepError: fewer than `LEAST` windows to calibrate on.

    Source: Jacob et al. 2018, arXiv:1712.05877; onnxruntime.quantization, static, QDQ.
    """
    if len(calibration) < LEAST:
        raise AudiorepError(
            f"variants=int8 takes the ranges of its numbers from sounds: {LEAST} windows are needed and there are "
            f"{len(calibration)}: name a corpus with more in corpus=, or leave int8 out"
        )
    names = {node.name for node in encoder_nodes(model)}
    with TemporaryDirectory(prefix="audiorep-") as folder, fewer_words():
        quantize_static(
            model,
            f"{folder}/int8.onnx",
            Windows(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=QUANTIZED,
            nodes_to_exclude=[node.name for node in model.graph.node if node.name not in names],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        made = onnx.load(f"{folder}/int8.onnx")
    del made.metadata_props[:]
    made.metadata_props.extend(model.metadata_props)
    return made


VARIANTS: Mapping[str, Callable[[ModelProto, np.ndarray], ModelProto]] = {"fp16": float16, "int8": int8}
"""From the float32 model and windows [n t] to calibrate on to the variant."""


class Windows(CalibrationDataReader):
    """Windows [n t] one after the other."""

    def __init__(self, waves: np.ndarray) -> None:
        self.left: Iterator[np.ndarray] = iter(waves)

    def get_next(self) -> dict[str, np.ndarray] | None:
        wave = next(self.left, None)
        return None if wave is None else {"waveform": wave[None]}


@contextmanager
def fewer_words() -> Iterator[None]:
    """onnxruntime's quantizer advises by the root logger to preprocess, which the exporter has done."""
    root = logging.getLogger()
    quiet = lambda record: record.name != "root"  # noqa: E731
    root.addFilter(quiet)
    try:
        yield
    finally:
        root.removeFilter(quiet)
