"""A graph that is rewritten in place, and gates that become look-ups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from pocketvision.runtimes.graph import Graph, tensor_shapes, upto
from pocketvision.runtimes.int8.gates import drop, gates_in_integers, logits_in_float

MakeModel = Callable[..., onnx.ModelProto]
Evaluate = Callable[..., NDArray[np.float32]]
Array = NDArray[np.float32]
Line = tuple[str, str, str, dict[str, Any]]


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def model(make_model: MakeModel) -> onnx.ModelProto:
    """w is read by two convolutions, x by three nodes."""
    lines: list[Line] = [
        ("Conv", "input w b", "x", {}),
        ("Conv", "x w", "y", {}),
        ("Relu", "x", "r", {}),
        ("Add", "y r", "sum", {}),
        ("Mul", "sum x", "z", {}),
        ("Mul", "z z", "logits", {}),
    ]
    constants = {"w": normal(0, 3, 3, 1, 1), "b": normal(1, 3)}
    return make_model(lines, constants, (3, 4, 4))


def test_a_shared_constant_is_copied_before_it_is_changed(
    model: onnx.ModelProto, evaluate: Evaluate
) -> None:
    inputs = normal(2, 2, 3, 4, 4)
    y_before = evaluate(model, inputs, "y")
    x_before = evaluate(model, inputs, "x")
    graph = Graph(model)
    second = graph.maker("y")
    assert second is not None
    own = graph.own(second, 1)
    assert own != "w"
    assert second.input[1] == own
    assert graph.own(second, 1) == own  # it is its own already
    np.testing.assert_array_equal(evaluate(model, inputs, "y"), y_before)
    graph.set_constant(own, 2 * graph.constants[own])
    np.testing.assert_array_equal(evaluate(model, inputs, "x"), x_before)
    np.testing.assert_allclose(evaluate(model, inputs, "y"), 2 * y_before, rtol=1e-6)
    first = graph.maker("x")
    assert first is not None
    assert graph.own(first, 1) == "w"
    assert graph.own(first, 2) == "b"


def test_what_no_product_follows(model: onnx.ModelProto) -> None:
    behind = [node.name for node in Graph(model).behind_products()]
    assert behind == ["r", "sum", "z", "logits"]


def test_readers_and_makers_follow_every_edit(model: onnx.ModelProto) -> None:
    graph = Graph(model)
    assert [node.name for node in graph.readers("x")] == ["y", "r", "z"]
    assert [node.name for node in graph.readers("z")] == ["logits"]  # once, though taken twice
    assert graph.only_reader("x") is None
    assert graph.only_reader("logits") is None
    relu, add = graph.maker("r"), graph.maker("sum")
    assert relu is not None
    assert add is not None
    assert graph.only_reader("r") is add
    assert graph.maker("input") is graph.maker("w") is None
    graph.rename_input("r", "x", of=[add])
    assert [node.name for node in graph.readers("x")] == ["y", "r", "sum", "z"]
    graph.remove([relu])
    assert graph.maker("r") is None
    assert [node.name for node in graph.readers("x")] == ["y", "sum", "z"]
    sum_node = graph.maker("sum")
    assert sum_node is not None
    tripled = [
        helper.make_node("Add", list(sum_node.input), ["once"], "once"),
        helper.make_node("Add", ["once", "once"], ["sum"], "twice"),
    ]
    graph.replace([sum_node], tripled)
    assert [node.name for node in graph.proto.node] == ["x", "y", "once", "twice", "z", "logits"]
    maker = graph.maker("sum")
    assert maker is not None
    assert maker.name == "twice"
    onnx.checker.check_model(model, full_check=True)


def test_an_output_has_no_only_reader(make_model: MakeModel) -> None:
    lines: list[Line] = [("Relu", "input", "logits", {}), ("Relu", "logits", "unused", {})]
    graph = Graph(make_model(lines, {}, (3,)))
    assert len(graph.readers("logits")) == 1
    assert graph.only_reader("logits") is None


def test_upto_keeps_what_a_tensor_comes_from(model: onnx.ModelProto, evaluate: Evaluate) -> None:
    inputs = normal(2, 2, 3, 4, 4)
    expected = evaluate(model, inputs, "r")
    part = upto(model, "r")
    assert [node.name for node in part.graph.node] == ["x", "r"]
    assert sorted(t.name for t in part.graph.initializer) == ["b", "w"]
    assert len(part.graph.output) == 0
    np.testing.assert_array_equal(evaluate(part, inputs, "r"), expected)
    assert len(model.graph.node) == 6


def test_shapes_are_those_of_one_image(model: onnx.ModelProto) -> None:
    shapes = tensor_shapes(model)
    assert {shapes[name] for name in ("input", "x", "sum", "logits")} == {(1, 3, 4, 4)}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def gated(alpha: float, beta: float) -> tuple[list[Line], dict[str, Any]]:
    """A hard sigmoid between integers of x and of the gate."""
    lines: list[Line] = [
        ("QuantizeLinear", "input x_scale x_zero", "xq", {}),
        ("DequantizeLinear", "xq x_scale x_zero", "xd", {}),
        ("HardSigmoid", "xd", "g", {"alpha": alpha, "beta": beta}),
        ("QuantizeLinear", "g g_scale g_zero", "gq", {}),
        ("DequantizeLinear", "gq g_scale g_zero", "logits", {}),
    ]
    constants = {
        "x_scale": np.float32(10 / 255),
        "x_zero": np.uint8(128),
        "g_scale": np.float32(0.9 / 255),
        "g_zero": np.uint8(0),
    }
    return lines, constants


def test_gates_in_integers_are_within_a_step_of_the_gate(
    make_model: MakeModel, evaluate: Evaluate
) -> None:
    model = make_model(*gated(1 / 6, 0.5), (600,))
    inputs = np.linspace(-6, 6, 600, dtype=np.float32)[None]
    x = evaluate(model, inputs, "xd")
    assert gates_in_integers(Graph(model)) == 1
    onnx.checker.check_model(model, full_check=True)
    found = evaluate(model, inputs)
    assert (found.min(), found.max()) == (0, 1)
    np.testing.assert_allclose(found, np.clip(x / 6 + 0.5, 0, 1), atol=1 / 255 + 1e-6)
    assert (np.diff(found[0]) >= 0).all()
    assert "HardSigmoid" not in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize(("alpha", "beta"), [(0.2, 0.5), (1 / 6, 0.4)])
def test_other_hard_sigmoids_stay(alpha: float, beta: float, make_model: MakeModel) -> None:
    model = make_model(*gated(alpha, beta), (8,))
    before = model.SerializeToString(deterministic=True)
    assert gates_in_integers(Graph(model)) == 0
    assert model.SerializeToString(deterministic=True) == before


def test_a_gate_that_is_read_in_float_stays(make_model: MakeModel) -> None:
    lines, constants = gated(1 / 6, 0.5)
    lines[-1] = ("DequantizeLinear", "gq g_scale g_zero", "gd", {})
    model = make_model([*lines, ("Add", "g gd", "logits", {})], constants, (8,))
    assert gates_in_integers(Graph(model)) == 0


@pytest.mark.parametrize("operator", ["Gemm", "MatMul", "Relu"])
def test_only_sums_of_a_last_matrix_product_are_given_as_they_are(
    operator: str, make_model: MakeModel, evaluate: Evaluate
) -> None:
    constants = {"w": normal(0, 6, 6), "step": np.float32(0.5), "zero": np.uint8(128)}
    lines: list[Line] = [
        (operator, "input" if operator == "Relu" else "input w", "y", {}),
        ("QuantizeLinear", "y step zero", "q", {}),
        ("DequantizeLinear", "q step zero", "logits", {}),
    ]
    model = make_model(lines, constants, (6,))
    inputs = normal(1, 4, 6)
    exact = evaluate(model, inputs, "y")
    is_gemm = operator == "Gemm"
    assert logits_in_float(Graph(model)) is is_gemm
    found = evaluate(model, inputs)
    np.testing.assert_allclose(found, exact, atol=1e-6 if is_gemm else 0.251)
    assert is_gemm or np.abs(found - exact).max() > 0.01


def test_unused_operator_sets_are_dropped(model: onnx.ModelProto) -> None:
    model.opset_import.extend(
        [helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("ai.onnx.ml", 3)]
    )
    drop(model, {"", "ai.onnx.ml"})
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 21), ("ai.onnx.ml", 3)]
