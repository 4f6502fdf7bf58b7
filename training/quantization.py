"""Exported models in int8.

Matrix products are quantised dynamically: their weights once, what they multiply anew for each batch, and the product is
one of integers. Convolutions and the experts' heads keep int8 weights, with a scale for each output channel, and compute
in float. Dynamic quantisation of convolutions changes too many answers (1.4 % of ICL-MoE's on FashionMNIST-LT) and
ONNX Runtime's integer convolution takes three times as long as its float one (1.31, AVX2).
"""

import logging
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

DYNAMIC = ["MatMul", "Gemm"]
CHANNEL_AXIS = {"Conv": 0, "Einsum": 1}  # of the weights: (out, in, h, w), and the heads' (experts, out, in)
SMALLEST = 4096  # numbers; early, narrow convolutions have fewer, and most of the difference would be theirs


def quantize_int8(exported: Path, path: Path) -> None:
    """Write the int8 form of an exported model.

    Args:
        exported: An ONNX file of floats.
        path: The file written.
    """
    model = onnx.load(exported)
    del model.graph.value_info[:]  # torch's contradict those that are inferred
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)  # advice on a preprocessing that changes nothing here
    try:
        quantize_dynamic(model, path, op_types_to_quantize=DYNAMIC, per_channel=True, weight_type=QuantType.QInt8)
    finally:
        log.setLevel(level)
    model = onnx.load(path)
    _store_weights(model.graph)
    onnx.save(model, path)


def _store_weights(graph: onnx.GraphProto) -> None:
    """Put an int8 tensor and its way back to floats in the place of each large weight of a convolution or head."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    axes = {
        name: CHANNEL_AXIS[node.op_type] for node in graph.node if node.op_type in CHANNEL_AXIS for name in node.input
    }
    for name, axis in axes.items():
        if name not in weights:
            continue
        values = numpy_helper.to_array(weights[name])
        if values.dtype != np.float32 or values.size < SMALLEST or values.ndim <= axis:
            continue
        others = tuple(each for each in range(values.ndim) if each != axis)
        scale = np.maximum(np.abs(values).max(axis=others) / 127, np.finfo(np.float32).tiny)
        shape = [-1 if each == axis else 1 for each in range(values.ndim)]
        integers = np.rint(values / scale.reshape(shape)).astype(np.int8)
        parts = {f"{name}_int8": integers, f"{name}_scale": scale, f"{name}_zero": np.zeros(len(scale), np.int8)}
        graph.initializer.remove(weights[name])
        graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in parts.items())
        graph.node.insert(0, helper.make_node("DequantizeLinear", [*parts], [name], axis=axis))
