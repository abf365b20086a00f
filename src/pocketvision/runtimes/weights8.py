"""Weights in 8 bits, arithmetic in float: a quarter of the bytes, the speed of the float file.

Each weight is kept as an integer with one scale per output channel, and given back by a Cast and a
Mul, which runtimes compute once, when they open the file. No calibration is needed, and activations
are never rounded.
"""

from __future__ import annotations

import json

import numpy as np
import onnx
from onnx import TensorProto, helper

from pocketvision.runtimes.graph import PRODUCTS, Graph
from pocketvision.runtimes.int8.rounding import weight_axis
from pocketvision.runtimes.int8.statistics import TINY
from pocketvision.runtimes.onnxfile import metadata, set_metadata

LARGEST = 127  # of a stored integer; -128 is not used


def store_weights_in_bytes(model: onnx.ModelProto) -> int:
    """Round the weights of all convolutions and matrix products, in place; returns how many."""
    graph = Graph(model)
    axes = {
        node.input[1]: weight_axis(node)
        for node in graph.proto.node
        if node.op_type in PRODUCTS and node.input[1] in graph.constants
    }
    for name, axis in axes.items():
        _store(graph, name, axis)
    set_metadata(model, {**metadata(model), "quantization": json.dumps({"weight_bits": 8})})
    return len(axes)


def has_weights_in_bytes(model: onnx.ModelProto) -> bool:
    """True for a file that `store_weights_in_bytes` made, or one of its kind."""
    cast = {node.input[0] for node in model.graph.node if node.op_type == "Cast"}
    return any(t.name in cast and t.data_type == TensorProto.INT8 for t in model.graph.initializer)


def _store(graph: Graph, name: str, axis: int) -> None:
    weight = graph.constants[name]
    others = tuple(k for k in range(weight.ndim) if k != axis)
    peaks = np.abs(weight).max(others, keepdims=True, initial=0)
    steps = np.where(peaks > TINY * LARGEST, peaks / LARGEST, 1).astype(np.float32)
    integers = np.rint(weight / steps).clip(-LARGEST, LARGEST).astype(np.int8)
    readers = graph.readers(name)
    stored = graph.set_constant(f"{name}_integers", integers)
    scale = graph.set_constant(f"{name}_steps", steps)
    made = [
        helper.make_node(
            "Cast", [stored], [f"{name}_floats"], f"{name}_cast", to=TensorProto.FLOAT
        ),
        helper.make_node("Mul", [f"{name}_floats", scale], [f"{name}_given"], f"{name}_scaled"),
    ]
    graph.rename_input(name, f"{name}_given", of=readers)
    first = next(node for node in graph.proto.node if f"{name}_given" in node.input)
    graph.replace([first], [*made, first])
    graph.drop_constant(name)
