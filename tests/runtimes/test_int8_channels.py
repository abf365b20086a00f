"""Channels filled up with zeros: the kernels' widths, the same outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pocketvision.runtimes.graph import Graph, attributes
from pocketvision.runtimes.int8.channels import DEPTHWISE_MULTIPLE, MULTIPLE, fill_channels

MakeModel = Callable[..., onnx.ModelProto]
Evaluate = Callable[..., NDArray[np.float32]]
Array = NDArray[np.float32]
Line = tuple[str, str, str, dict[str, Any]]

SIDE = 6
PAD = {"pads": [1, 1, 1, 1]}


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def same(found: Array, expected: Array) -> None:
    limit = 1e-5 * max(1.0, float(np.abs(expected).max()))  # sums of 32 bits in another order
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit)


def wanted(width: int, multiple: int) -> int:
    """The width after filling: whole numbers, so no rounding decides on exactly a third."""
    filled = -(-width // multiple) * multiple
    return filled if 3 * filled <= 4 * width else width


def activation(act: str, taken: str, given: str) -> list[Line]:
    lines: dict[str, list[Line]] = {
        "relu": [("Relu", taken, given, {})],
        "relu6": [("Clip", f"{taken} zero six", given, {})],
        "hswish": [
            ("HardSigmoid", taken, f"{given}_gate", {"alpha": 1 / 6}),
            ("Mul", f"{taken} {given}_gate", given, {}),
        ],
        "sigmoid": [("Sigmoid", taken, given, {})],
    }
    return lines[act]


def block(width: int, squeezed: int, act: str, has_se: bool) -> tuple[list[Line], dict[str, Any]]:
    """An inverted residual, 8 -> width -> 8: expand, depthwise, gate, project, and a sum."""
    gate: list[Line] = [
        ("GlobalAveragePool", "d2", "mean", {}),
        ("Conv", "mean reduce reduce_bias", "r", {}),
        ("Relu", "r", "r2", {}),
        ("Conv", "r2 restore restore_bias", "s", {}),
        ("HardSigmoid", "s", "s2", {"alpha": 1 / 6}),
        ("Mul", "d2 s2", "d3", {}),
    ]
    lines: list[Line] = [
        ("Conv", "input expand expand_bias", "e", {}),
        *activation(act, "e", "e2"),
        ("Conv", "e2 depthwise depthwise_bias", "d", {**PAD, "group": width}),
        *activation(act, "d", "d2"),
        *(gate if has_se else []),
        ("Conv", f"{'d3' if has_se else 'd2'} project", "p", {}),
        ("Add", "p input", "logits", {}),
    ]
    constants = {
        "expand": normal(1, width, 8, 1, 1),
        "expand_bias": normal(2, width),
        "depthwise": normal(3, width, 1, 3, 3),
        "depthwise_bias": normal(4, width),
        "reduce": normal(5, squeezed, width, 1, 1),
        "reduce_bias": normal(6, squeezed),
        "restore": normal(7, width, squeezed, 1, 1),
        "restore_bias": normal(8, width),
        "project": normal(9, 8, width, 1, 1) / width,
        "zero": np.float32(0),
        "six": np.float32(6),
    }
    return lines, constants


@settings(max_examples=50)
@given(
    width=st.integers(2, 70),
    squeezed=st.integers(1, 20),
    act=st.sampled_from(["relu", "relu6", "hswish", "sigmoid"]),
    has_se=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_filling_keeps_outputs_and_gives_the_kernels_their_widths(
    width: int,
    squeezed: int,
    act: str,
    has_se: bool,
    seed: int,
    make_model: MakeModel,
    evaluate: Evaluate,
) -> None:
    lines, constants = block(width, squeezed, act, has_se)
    model = make_model(lines, constants, (8, SIDE, SIDE))
    inputs = normal(seed, 2, 8, SIDE, SIDE)
    before = evaluate(model, inputs)
    graph = Graph(model)
    filled = fill_channels(graph)
    onnx.checker.check_model(model, full_check=True)
    same(evaluate(model, inputs), before)
    wide, narrow = wanted(width, DEPTHWISE_MULTIPLE), wanted(squeezed, MULTIPLE)
    stored = {name: graph.constants[name].shape for name in constants}
    assert stored["depthwise"] == (wide, 1, 3, 3)
    assert stored["depthwise_bias"] == stored["expand_bias"] == (wide,)
    assert stored["expand"] == (wide, 8, 1, 1)
    assert stored["project"] == (8, wide, 1, 1)
    depthwise = next(node for node in graph.proto.node if node.name == "d")
    assert attributes(depthwise)["group"] == wide
    if has_se:
        assert stored["reduce"] == (narrow, wide, 1, 1)
        assert stored["restore"] == (wide, narrow, 1, 1)
    assert filled == (wide > width) + (has_se and narrow > squeezed)
    assert fill_channels(graph) == 0  # there is nothing left to fill


@pytest.mark.parametrize(
    ("width", "after"),
    [(12, 16), (24, 32), (28, 32), (36, 48), (11, 11), (8, 8), (23, 23)],
)
def test_a_depthwise_width_grows_by_a_third_at_most(
    width: int, after: int, make_model: MakeModel
) -> None:
    lines, constants = block(width, 4, "relu", has_se=False)
    model = make_model(lines, constants, (8, SIDE, SIDE))
    assert fill_channels(Graph(model)) == (after > width)
    assert Graph(model).constants["depthwise"].shape[0] == after


@pytest.mark.parametrize(
    ("width", "after"), [(1, 1), (2, 2), (3, 4), (5, 5), (6, 8), (7, 8), (9, 12), (58, 60)]
)
def test_other_widths_become_multiples_of_four(
    width: int, after: int, make_model: MakeModel, evaluate: Evaluate
) -> None:
    lines: list[Line] = [("Conv", "input a", "x", PAD), ("Conv", "x b", "logits", PAD)]
    constants = {"a": normal(0, width, 3, 3, 3), "b": normal(1, 5, width, 3, 3)}
    model = make_model(lines, constants, (3, SIDE, SIDE))
    inputs = normal(2, 1, 3, SIDE, SIDE)
    before = evaluate(model, inputs)
    assert fill_channels(Graph(model)) == (after > width)
    graph = Graph(model)
    assert graph.constants["a"].shape == (after, 3, 3, 3)
    assert graph.constants["b"].shape == (5, after, 3, 3)  # the output stays as wide as it is
    same(evaluate(model, inputs), before)


def test_widths_tied_by_a_sum_are_filled_together(
    make_model: MakeModel, evaluate: Evaluate
) -> None:
    lines: list[Line] = [
        ("Conv", "input stem", "x", {}),
        ("Conv", "x left", "y", PAD),
        ("Relu", "y", "y2", {}),
        ("Conv", "y2 right", "z", {}),
        ("Add", "x z", "sum", {}),
        ("Mul", "sum twice", "double", {}),
        ("Conv", "double last", "logits", {}),
    ]
    constants = {
        "stem": normal(0, 10, 3, 1, 1),
        "left": normal(1, 10, 10, 3, 3),
        "right": normal(2, 10, 10, 1, 1),
        "last": normal(3, 5, 10, 1, 1),
        "twice": np.float32(2),
    }
    model = make_model(lines, constants, (3, SIDE, SIDE))
    inputs = normal(4, 2, 3, SIDE, SIDE)
    before = evaluate(model, inputs)
    assert fill_channels(Graph(model)) == 2  # x, z and their sum; y
    shapes = {name: Graph(model).constants[name].shape[:2] for name in constants if name != "twice"}
    assert shapes == {"stem": (12, 3), "left": (12, 12), "right": (12, 12), "last": (5, 12)}
    same(evaluate(model, inputs), before)


def test_two_convolutions_may_share_their_constants(
    make_model: MakeModel, evaluate: Evaluate
) -> None:
    """The first is filled; the second gives the output of the graph and is not."""
    lines: list[Line] = [
        ("Conv", "input w b", "x", {}),
        ("Conv", "x v", "y", {}),
        ("Conv", "y w b", "logits", {}),
    ]
    constants = {"w": normal(0, 6, 6, 1, 1), "b": normal(1, 6), "v": normal(2, 6, 6, 1, 1)}
    model = make_model(lines, constants, (6, SIDE, SIDE))
    inputs = normal(3, 2, 6, SIDE, SIDE)
    before = evaluate(model, inputs)
    assert fill_channels(Graph(model)) == 2
    found = evaluate(model, inputs)
    assert found.shape == before.shape
    same(found, before)


def with_depthwise_24(after: list[Line]) -> list[Line]:
    """A width of 24, which 32 would follow if nothing else had a say."""
    return [
        ("Conv", "input expand", "e", {}),
        ("Conv", "e depthwise", "d", {**PAD, "group": 24}),
        ("Relu", "d", "d2", {}),
        *after,
    ]


NEIGHBOURS: dict[str, list[Line]] = {
    "convolution": [("Conv", "d2 project", "logits", {})],
    "output": [("Relu", "d2", "logits", {})],
    "gemm": [
        ("GlobalAveragePool", "d2", "m", {}),
        ("Flatten", "m", "f", {}),
        ("Gemm", "f matrix", "logits", {"transB": 1}),
    ],
    "concat": [("Concat", "d2 e", "c", {"axis": 1}), ("Conv", "c project48", "logits", {})],
    "split": [("Split", "d2 halves", "s1 s2", {"axis": 1}), ("Conv", "s1 project12", "logits", {})],
    "gather": [("Gather", "d2 order", "g", {"axis": 1}), ("Conv", "g project", "logits", {})],
    "constant_of_each_channel": [
        ("Add", "d2 shift", "a", {}),
        ("Conv", "a project", "logits", {}),
    ],
    "grouped_convolution": [("Conv", "d2 grouped", "logits", {"group": 2})],
    "two_readers": [
        ("Conv", "d2 project", "p", {}),
        ("Transpose", "d2", "t", {"perm": [0, 2, 3, 1]}),
        ("ReduceMean", "t", "tm", {}),
        ("Add", "p tm", "logits", {}),
    ],
}


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_only_convolutions_may_be_neighbours(
    neighbour: str, make_model: MakeModel, evaluate: Evaluate
) -> None:
    lines = with_depthwise_24(NEIGHBOURS[neighbour])
    constants = {
        "expand": normal(0, 24, 8, 1, 1),
        "depthwise": normal(1, 24, 1, 3, 3),
        "project": normal(2, 8, 24, 1, 1),
        "project48": normal(2, 8, 48, 1, 1),
        "project12": normal(2, 8, 12, 1, 1),
        "grouped": normal(2, 8, 12, 1, 1),
        "matrix": normal(3, 5, 24),
        "halves": np.array([12, 12]),
        "order": np.arange(24)[::-1].copy(),
        "shift": normal(4, 1, 24, 1, 1),
    }
    model = make_model(lines, constants, (8, SIDE, SIDE))
    inputs = normal(5, 2, 8, SIDE, SIDE)
    expected = evaluate(model, inputs)
    before = model.SerializeToString(deterministic=True)
    filled = fill_channels(Graph(model))
    if neighbour == "convolution":
        assert filled == 1
        assert Graph(model).constants["depthwise"].shape[0] == 32
    else:
        assert filled == 0
        assert model.SerializeToString(deterministic=True) == before
    same(evaluate(model, inputs), expected)
