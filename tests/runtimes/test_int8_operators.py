"""Whole networks: from pixels to logits ONNX Runtime executes nothing in float."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from quick import export_quickly

from pocketvision.models.registry import spec
from pocketvision.runtimes.graph import PRODUCTS
from pocketvision.runtimes.int8.static import layer_name, static_int8
from pocketvision.runtimes.onnxsession import open_session
from pocketvision.runtimes.runtime import FileCard, Int8Config, Pixels

PRODUCTS_IN_INTEGERS = {"QLinearConv", "QGemm", "QLinearMatMul"}
IN_INTEGERS = PRODUCTS_IN_INTEGERS | {
    "QLinearAdd",
    "QLinearMul",
    "QLinearLeakyRelu",
    "QLinearSigmoid",
    "QLinearAveragePool",
    "QLinearGlobalAveragePool",
    "QLinearConcat",
}
BORDER = {"Slice", "Shape", "Expand", "Concat"}
MOVING = BORDER | {"Reshape", "Transpose", "Flatten", "MaxPool", "NhwcMaxPool"}  # bytes as they are


@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", pytest.param("mobilenet_v3_large", marks=pytest.mark.slow)]
)
def test_nothing_is_executed_in_float(
    name: str, card: FileCard, pixels: Pixels, tmp_path: Path
) -> None:
    network = spec(name, resolution=32, num_classes=4, width=0.35).build(seed=0)
    export_quickly(network, tmp_path / "float.onnx", card)
    config = Int8Config(ranges="minmax")
    found = static_int8(tmp_path / "float.onnx", tmp_path, [pixels[:8]], config)
    layers = [node for node in found.prepared.graph.node if node.op_type in PRODUCTS]
    assert {f"{layer_name(node)}.weight" for node in layers} <= set(network.state_dict())

    session = open_session(found.model, "the model", 1, profile=tmp_path / "run")
    session.end_profiling()
    graph = onnx.load(tmp_path / "run.onnx").graph
    operators = Counter(node.op_type for node in graph.node)
    assert set(operators) - IN_INTEGERS - MOVING == set()
    assert sum(operators[kind] for kind in PRODUCTS_IN_INTEGERS) == len(layers)
    assert operators["QLinearConv"] > 30
    (logits,) = session.run(None, {"input": pixels})
    assert np.isfinite(logits).all()
    assert logits.shape == (24, 4)
