"""Channels made alike in size: the same outputs, and every channel uses all integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pocketvision.runtimes.graph import Graph
from pocketvision.runtimes.int8.equalise import MOST, equalise

MakeModel = Callable[..., onnx.ModelProto]
Evaluate = Callable[..., NDArray[np.float32]]
Array = NDArray[np.float32]
Line = tuple[str, str, str, dict[str, Any]]

SIDE, WIDTH = 6, 8
PAD = {"pads": [1, 1, 1, 1]}
DEPTHWISE = {**PAD, "group": WIDTH}
CAP = {"zero": np.float32(0), "six": np.float32(6)}


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def spread(seed: int, span: float) -> Array:
    """Sizes of WIDTH channels, from 1 to `span`."""
    exponents = np.random.default_rng(seed).uniform(0, 1, WIDTH)
    return np.asarray(span**exponents, np.float32)


def same(found: Array, expected: Array, tolerance: float = 1e-5) -> None:
    limit = tolerance * float(np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit)


def peaks_of(values: Array) -> Array:
    return np.asarray(np.abs(values).max((0, 2, 3)))


def act_line(act: str, taken: str, given: str) -> Line:
    return {
        "none": ("Identity", taken, given, {}),
        "relu": ("Relu", taken, given, {}),
        "relu6": ("Clip", f"{taken} zero six", given, {}),
    }[act]


def chain(
    act: str, sizes: NDArray[np.floating[Any]], seed: int
) -> tuple[list[Line], dict[str, Any]]:
    """Dense, depthwise, dense: 3 -> WIDTH -> WIDTH -> 4; channels differ by `sizes`."""
    lines: list[Line] = [
        ("Conv", "input expand expand_bias", "e", {}),
        act_line(act, "e", "e2"),
        ("Conv", "e2 depthwise depthwise_bias", "d", DEPTHWISE),
        act_line(act, "d", "d2"),
        ("Conv", "d2 project project_bias", "logits", {}),
    ]
    if act == "none":
        lines = [
            ("Conv", "input expand expand_bias", "e", {}),
            ("Conv", "e depthwise depthwise_bias", "d", DEPTHWISE),
            ("Conv", "d project project_bias", "logits", {}),
        ]
    each = sizes[:, None, None, None]
    constants = {
        "expand": normal(seed, WIDTH, 3, 1, 1) * each,
        "expand_bias": np.abs(normal(seed + 1, WIDTH)) * sizes,
        "depthwise": normal(seed + 2, WIDTH, 1, 3, 3) * np.roll(each, 3, 0),
        "depthwise_bias": normal(seed + 3, WIDTH),
        "project": normal(seed + 4, 4, WIDTH, 1, 1),
        "project_bias": normal(seed + 5, 4),
        **CAP,
    }
    return lines, constants


@settings(max_examples=30)
@given(
    act=st.sampled_from(["none", "relu"]),
    span=st.sampled_from([1.0, 10.0, 1000.0]),
    seed=st.integers(0, 1000),
)
def test_equalising_through_relu_keeps_outputs_for_any_input(
    act: str, span: float, seed: int, make_model: MakeModel, evaluate: Evaluate
) -> None:
    lines, constants = chain(act, spread(seed, span), seed)
    model = make_model(lines, constants, (3, SIDE, SIDE))
    inputs = [scale * normal(seed + 9, 3, 3, SIDE, SIDE) for scale in (1, 100)]
    before = [evaluate(model, x) for x in inputs]
    assert equalise(Graph(model), inputs[:1]) == 2
    for x, expected in zip(inputs, before, strict=True):
        same(evaluate(model, x), expected)


@settings(max_examples=30)
@given(span=st.sampled_from([2.0, 10.0, 1000.0]), seed=st.integers(0, 1000))
def test_equalising_through_relu6_keeps_outputs_for_what_it_was_calibrated_on(
    span: float, seed: int, make_model: MakeModel, evaluate: Evaluate
) -> None:
    lines, constants = chain("relu6", spread(seed, span) / 10, seed)
    model = make_model(lines, constants, (3, SIDE, SIDE))
    batches = [normal(seed + 9 + n, 2, 3, SIDE, SIDE) for n in range(2)]
    before = [evaluate(model, x) for x in batches]
    equalise(Graph(model), batches)
    for x, expected in zip(batches, before, strict=True):
        same(evaluate(model, x), expected)


@pytest.mark.parametrize("act", ["none", "relu", "relu6"])
def test_live_channels_before_a_depthwise_convolution_have_one_peak(
    act: str, make_model: MakeModel, evaluate: Evaluate
) -> None:
    lines, constants = chain(act, spread(0, 10) / 10, 1)
    model = make_model(lines, constants, (3, SIDE, SIDE))
    tensor = "e" if act == "none" else "e2"
    inputs = normal(2, 3, 3, SIDE, SIDE) / 4
    before = peaks_of(evaluate(model, inputs, tensor))
    assert before.min() > before.max() / MOST
    assert before.max() < 6
    assert equalise(Graph(model), [inputs[:1], inputs[1:]]) == 2
    after = peaks_of(evaluate(model, inputs, tensor))
    np.testing.assert_allclose(after, before.max(), rtol=1e-5)


def test_before_a_dense_convolution_activations_and_weights_share_the_burden(
    make_model: MakeModel, evaluate: Evaluate
) -> None:
    lines: list[Line] = [
        ("Conv", "input first", "x", {}),
        ("Relu", "x", "y", {}),
        ("Conv", "y second", "logits", {}),
    ]
    constants = {
        "first": normal(0, WIDTH, 3, 1, 1) * spread(1, 20)[:, None, None, None],
        "second": normal(2, 4, WIDTH, 1, 1) * spread(3, 5)[None, :, None, None],
    }
    model = make_model(lines, constants, (3, SIDE, SIDE))
    inputs = normal(4, 4, 3, SIDE, SIDE)
    peak = peaks_of(evaluate(model, inputs, "y")).max()
    assert equalise(Graph(model), [inputs]) == 1
    peaks = peaks_of(evaluate(model, inputs, "y"))
    needs = np.abs(Graph(model).constants["second"]).max((0, 2, 3))
    np.testing.assert_allclose(peaks / needs, np.full(WIDTH, (peaks / needs)[0]), rtol=1e-4)
    np.testing.assert_allclose(peaks.max(), peak, rtol=1e-5)  # the tensor has the range it had


def scales_of(model: onnx.ModelProto, before: dict[str, Any]) -> Array:
    """By how much each channel of the first convolution was multiplied."""
    after = Graph(model).constants["expand"]
    return np.asarray((after / before["expand"]).mean((1, 2, 3)))


def test_dead_channels_are_left_alone(make_model: MakeModel, evaluate: Evaluate) -> None:
    lines, constants = chain("relu", spread(0, 10), 1)
    constants["expand_bias"][[2, 5]] = -1e6  # never above zero
    model = make_model(lines, constants, (3, SIDE, SIDE))
    inputs = normal(2, 3, 3, SIDE, SIDE)
    expected = evaluate(model, inputs)
    assert equalise(Graph(model), [inputs]) == 2
    scales = scales_of(model, constants)
    np.testing.assert_array_equal(scales[[2, 5]], 1)
    assert Graph(model).constants["expand_bias"][2] == -1e6
    assert scales.max() > 1.5
    same(evaluate(model, inputs), expected)


def test_a_network_of_dead_channels_is_left_alone(make_model: MakeModel) -> None:
    lines, constants = chain("relu", spread(0, 10), 1)
    constants["expand_bias"][:] = -1e6
    constants["depthwise_bias"][:] = -1
    model = make_model(lines, constants, (3, SIDE, SIDE))
    before = model.SerializeToString(deterministic=True)
    assert equalise(Graph(model), [normal(2, 3, 3, SIDE, SIDE)]) == 0
    assert model.SerializeToString(deterministic=True) == before


def test_channels_that_reach_the_cap_are_left_alone(
    make_model: MakeModel, evaluate: Evaluate
) -> None:
    lines, constants = chain("relu6", spread(0, 10) / 10, 1)
    constants["expand_bias"][[1, 6]] = 50
    model = make_model(lines, constants, (3, SIDE, SIDE))
    inputs = normal(2, 3, 3, SIDE, SIDE) / 4
    expected = evaluate(model, inputs)
    before = peaks_of(evaluate(model, inputs, "e2"))
    assert (before >= 6).tolist() == [number in (1, 6) for number in range(WIDTH)]
    assert equalise(Graph(model), [inputs]) == 2
    scales = scales_of(model, constants)
    np.testing.assert_array_equal(scales[[1, 6]], 1)
    np.testing.assert_allclose(scales, 6 / before, rtol=1e-5)
    same(evaluate(model, inputs), expected)


def test_no_channel_is_scaled_beyond_the_most(make_model: MakeModel, evaluate: Evaluate) -> None:
    sizes = np.ones(WIDTH, np.float32)
    sizes[3] = 1e-4
    lines, constants = chain("relu", sizes, 1)
    model = make_model(lines, constants, (3, SIDE, SIDE))
    inputs = normal(2, 3, 3, SIDE, SIDE)
    equalise(Graph(model), [inputs])
    scales = scales_of(model, constants)
    np.testing.assert_allclose(scales[3], MOST, rtol=1e-5)
    assert scales.max() <= MOST * (1 + 1e-5)


def test_convolutions_may_share_their_constants(make_model: MakeModel, evaluate: Evaluate) -> None:
    lines: list[Line] = [
        ("Conv", "input w b", "x", PAD),
        ("Relu", "x", "y", {}),
        ("Conv", "y w b", "z", PAD),
        ("Relu", "z", "logits", {}),
    ]
    sizes = spread(0, 10)
    constants = {"w": normal(1, WIDTH, WIDTH, 3, 3) * sizes[:, None, None, None], "b": sizes}
    model = make_model(lines, constants, (WIDTH, SIDE, SIDE))
    inputs = normal(2, 3, WIDTH, SIDE, SIDE)
    expected = evaluate(model, inputs)
    assert equalise(Graph(model), [inputs]) == 1
    same(evaluate(model, inputs), expected)


BETWEEN: dict[str, list[Line]] = {
    "relu": [("Relu", "x", "y", {}), ("Conv", "y second", "logits", {})],
    "hard_swish": [("HardSwish", "x", "y", {}), ("Conv", "y second", "logits", {})],
    "hard_sigmoid": [("HardSigmoid", "x", "y", {}), ("Conv", "y second", "logits", {})],
    "sigmoid": [("Sigmoid", "x", "y", {}), ("Conv", "y second", "logits", {})],
    "add": [("Add", "x input", "y", {}), ("Conv", "y second", "logits", {})],
    "mul": [("Mul", "x input", "y", {}), ("Conv", "y second", "logits", {})],
    "square": [("Mul", "x x", "y", {}), ("Conv", "y second", "logits", {})],
    "clip_from_minus_one": [("Clip", "x low six", "y", {}), ("Conv", "y second", "logits", {})],
    "clip_without_top": [("Clip", "x zero", "y", {}), ("Conv", "y second", "logits", {})],
    "grouped": [("Relu", "x", "y", {}), ("Conv", "y grouped", "logits", {"group": 2})],
    "two_readers": [
        ("Relu", "x", "y", {}),
        ("Conv", "y second", "z", {}),
        ("Add", "y z", "logits", {}),
    ],
    "two_readers_before_relu": [
        ("Relu", "x", "y", {}),
        ("Conv", "y second", "z", {}),
        ("Add", "x z", "logits", {}),
    ],
    "output": [("Relu", "x", "logits", {})],
}


@pytest.mark.parametrize("between", BETWEEN)
def test_nothing_is_scaled_through_what_does_not_pass_scales_on(
    between: str, make_model: MakeModel
) -> None:
    constants = {
        "first": normal(0, WIDTH, WIDTH, 1, 1) * spread(1, 20)[:, None, None, None],
        "second": normal(2, WIDTH, WIDTH, 1, 1),
        "grouped": normal(2, WIDTH, WIDTH // 2, 1, 1),
        "low": np.float32(-1),
        **CAP,
    }
    lines = [("Conv", "input first", "x", {}), *BETWEEN[between]]
    model = make_model(lines, constants, (WIDTH, SIDE, SIDE))
    before = model.SerializeToString(deterministic=True)
    scaled = equalise(Graph(model), [normal(3, 2, WIDTH, SIDE, SIDE) / 100])
    if between == "relu":  # the one that does
        assert scaled == 1
    else:
        assert scaled == 0
        assert model.SerializeToString(deterministic=True) == before
