"""Resizing in exported files: factors that come to the sizes, classes side by side."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pocketvision.runtimes.graph import copied
from pocketvision.runtimes.onnxruntime_maps import rows_by_products
from pocketvision.runtimes.resizing import classes_last, factor_to, fix_scales


@given(st.integers(1, 300), st.integers(1, 1200))
def test_factors_come_to_the_size_however_they_are_rounded(before: int, after: int) -> None:
    factor = factor_to(before, after)
    assert np.floor(float(factor) * before) == after
    assert np.floor(np.float32(factor) * np.float32(before)) == after
    assert float(factor) == pytest.approx(after / before, rel=1e-6)


def as_exported(classes: int, before: int, after: int) -> onnx.ModelProto:
    """logits (batch, K, h, w) -> classes (batch, H, W), sizes computed as the exporter does."""
    nodes = [
        helper.make_node("Shape", ["logits"], ["batch_size"], start=0, end=1),
        helper.make_node("Concat", ["batch_size", "rest"], ["sizes"], axis=0),
        helper.make_node(
            "Resize",
            ["logits", "", "", "sizes"],
            ["resized"],
            name="resize",
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        ),
        helper.make_node("ArgMax", ["resized"], ["named"], axis=1, keepdims=0),
        helper.make_node("Cast", ["named"], ["classes"], to=TensorProto.UINT8),
    ]
    shape: list[str | int | None] = ["batch", classes, before, before]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("classes", TensorProto.UINT8, ["batch", after, after])],
        [numpy_helper.from_array(np.array([classes, after, after], np.int64), "rest")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, logits: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: np.ndarray = session.run(None, {"logits": logits})[0]
    return found


@settings(max_examples=20)
@given(st.integers(2, 5), st.integers(1, 9), st.integers(1, 40), st.integers(1, 3))
def test_the_classes_stay_what_they_were(
    classes: int, before: int, after: int, images: int
) -> None:
    model = as_exported(classes, before, after)
    logits = np.random.default_rng(before).standard_normal((images, classes, before, before))
    expected = run(model, logits.astype(np.float32))
    fix_scales(model)
    assert [node.op_type for node in model.graph.node] == ["Resize", "ArgMax", "Cast"]
    classes_last(model)
    assert [node.op_type for node in model.graph.node] == ["Transpose", "Resize", "ArgMax", "Cast"]
    onnx.checker.check_model(model, full_check=True)
    found = run(model, logits.astype(np.float32))
    assert found.shape == expected.shape
    assert (found == expected).mean() > 0.99  # a factor is nudged by a rounding


def test_other_graphs_stay() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 4, 4])
    model = helper.make_model(helper.make_graph([node], "g", [value], [out]))
    before = model.SerializeToString()
    fix_scales(model)
    classes_last(model)
    assert model.SerializeToString() == before


@settings(max_examples=30)
@given(
    st.integers(2, 5), st.integers(1, 6), st.integers(1, 12), st.integers(1, 3), st.integers(0, 9)
)
def test_rows_by_products_are_those_of_a_resize(
    classes: int, before: int, factor: int, images: int, seed: int
) -> None:
    model = as_exported(classes, before, factor * before)
    fix_scales(model)
    classes_last(model)
    logits = np.random.default_rng(seed).standard_normal((images, classes, before, before))
    expected, enlarged = enlarged_by(model, logits.astype(np.float32))
    changed = rows_by_products(model)
    assert changed == (factor % 2 == 0)
    read = {name for node in model.graph.node for name in node.input}
    assert not changed or {constant.name for constant in model.graph.initializer} <= read
    onnx.checker.check_model(model, full_check=True)
    found, _ = enlarged_by(model, logits.astype(np.float32))
    best = np.take_along_axis(enlarged, found[..., None].astype(np.int64), 3)[..., 0]
    assert found.shape == expected.shape
    assert np.allclose(best, enlarged.max(3), atol=1e-5)  # where two are alike, either is right
    assert not rows_by_products(model)


def enlarged_by(model: onnx.ModelProto, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes, and what goes into the ArgMax."""
    seen = copied(model)
    (argmax,) = (node for node in seen.graph.node if node.op_type == "ArgMax")
    seen.graph.output.append(
        helper.make_tensor_value_info(argmax.input[0], TensorProto.FLOAT, None)
    )
    session = onnxruntime.InferenceSession(
        seen.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    classes, enlarged = session.run(None, {"logits": logits})
    return classes, enlarged
