"""Ranges tried on the layers that read a tensor, and on the logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pocketvision.runtimes.graph import Graph
from pocketvision.runtimes.int8 import choose
from pocketvision.runtimes.int8.choose import choose_ranges, rounded, scale_of
from pocketvision.runtimes.int8.ranges import LEVELS, METHODS, range_of
from pocketvision.runtimes.int8.rounding import Scale
from pocketvision.runtimes.int8.statistics import observe

MakeModel = Callable[..., onnx.ModelProto]
Evaluate = Callable[..., NDArray[np.float32]]
Array = NDArray[np.float32]
Line = tuple[str, str, str, dict[str, Any]]

SIDE = 6
finite = st.floats(-(2.0**100), 2.0**100, width=32)


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@settings(max_examples=300)
@given(ends=st.tuples(finite, finite), place=st.floats(0, 1))
@example(ends=(0.0, 1e-44), place=0.5)
@example(ends=(-1e-40, 1e-36), place=0.5)
def test_scale_of_represents_zero_exactly_and_the_rest_to_half_a_step(
    ends: tuple[float, float], place: float
) -> None:
    low, high = min(0.0, *ends), max(0.0, *ends)
    scale = scale_of((low, high))
    assert 0 <= scale.zero < LEVELS
    assert np.float32(scale.scale) > 0
    values = np.array([0.0, low, high, low + place * (high - low)], np.float32)
    found = scale.round(values.copy())
    assert found[0] == 0
    assert np.abs(found - values).max() <= 0.505 * scale.scale


@given(ends=st.tuples(finite, finite))
def test_scale_of_widens_a_range_to_hold_zero(ends: tuple[float, float]) -> None:
    low, high = sorted(ends)
    assert scale_of((low, high)) == scale_of((min(low, 0.0), max(high, 0.0)))


def reference(values: Array, scale: Scale) -> Array:
    """Rounding to even, saturating, as the ONNX standard says of QuantizeLinear."""
    integers = np.clip(np.rint(values / np.float32(scale.scale)) + scale.zero, 0, 255)
    return np.asarray((integers - scale.zero) * np.float32(scale.scale), np.float32)


def two_readers(make_model: MakeModel) -> onnx.ModelProto:
    lines: list[Line] = [
        ("Conv", "input first", "x", {}),
        ("HardSigmoid", "x", "gate", {"alpha": 1 / 6}),
        ("Mul", "x gate", "y", {}),
        ("Conv", "y second", "logits", {}),
    ]
    constants = {"first": normal(0, 5, 3, 1, 1), "second": normal(1, 4, 5, 1, 1)}
    return make_model(lines, constants, (3, SIDE, SIDE))


@pytest.mark.parametrize("scale", [Scale(scale=0.037, zero=128), Scale(scale=0.5, zero=0)])
def test_rounded_graph_computes_what_rounding_by_hand_does(
    scale: Scale, make_model: MakeModel, evaluate: Evaluate
) -> None:
    model = two_readers(make_model)
    before = model.SerializeToString(deterministic=True)
    inputs = 4 * normal(2, 2, 3, SIDE, SIDE)
    x = reference(evaluate(model, inputs, "x"), scale)
    y = x * np.clip(x / 6 + 0.5, 0, 1)
    second = Graph(model).constants["second"]
    expected = np.einsum("nchw,oc->nohw", y, second[:, :, 0, 0])
    found = evaluate(rounded(model, "x", scale), inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert np.abs(found - evaluate(model, inputs)).max() > 1e-3
    assert model.SerializeToString(deterministic=True) == before  # it is a copy


@pytest.mark.parametrize("tensor", ["input", "logits"])
def test_inputs_and_outputs_of_a_graph_are_not_rounded(
    tensor: str, make_model: MakeModel, evaluate: Evaluate
) -> None:
    model = two_readers(make_model)
    inputs = normal(2, 2, 3, SIDE, SIDE)
    found = rounded(model, tensor, Scale(scale=10.0, zero=0))
    np.testing.assert_array_equal(evaluate(found, inputs), evaluate(model, inputs))


@pytest.mark.parametrize("by_logits", [0, 12])
def test_an_outlier_that_no_layer_reads_is_clipped(
    by_logits: int, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the layers that read a tensor decide, or the logits."""
    monkeypatch.setattr(choose, "WORST", by_logits)
    lines: list[Line] = [
        ("Conv", "input first", "x", {}),
        ("Conv", "x second", "y", {}),
        ("GlobalAveragePool", "y", "logits", {}),
    ]
    second = normal(1, 4, 5, 1, 1)
    second[:, 3] = 0
    constants = {"first": np.eye(5, dtype=np.float32)[:, :, None, None], "second": second}
    model = make_model(lines, constants, (5, SIDE, SIDE))
    inputs = normal(2, 8, 5, SIDE, SIDE)
    inputs[0, 3, 0, 0] = 1000
    batches = [inputs[:4], inputs[4:]]
    seen = observe(model, ["x", "y"], batches)
    chosen = choose_ranges(Graph(model), seen, batches, 99.0)
    method, (low, high) = chosen["x"]
    assert method != "minmax"
    assert high < 100
    assert low < -1
    inputs[0, 3, 0, 0] = 0
    inputs[0, 2, 0, 0] = 1000  # and one that matters is kept
    seen = observe(model, ["x", "y"], batches)
    assert choose_ranges(Graph(model), seen, batches, 99.0)["x"][1][1] > 900


def test_an_outlier_that_the_logits_do_not_see_is_clipped(make_model: MakeModel) -> None:
    """It disturbs the layer that reads it, but what that gives is not read any further."""
    lines: list[Line] = [
        ("Conv", "input first", "x", {}),
        ("Conv", "x second", "y", {}),
        ("Conv", "y third", "z", {}),
        ("GlobalAveragePool", "z", "logits", {}),
    ]
    third = normal(1, 4, 5, 1, 1)
    third[:, 3] = 0
    identity = np.eye(5, dtype=np.float32)[:, :, None, None]
    model = make_model(lines, {"first": identity, "second": identity, "third": third}, (5, 6, 6))
    inputs = normal(2, 8, 5, SIDE, SIDE)
    inputs[0, 3, 0, 0] = 1000
    seen = observe(model, ["x"], [inputs])
    assert choose_ranges(Graph(model), seen, [inputs], 99.0)["x"][1][1] < 100


def hidden(make_model: MakeModel) -> onnx.ModelProto:
    lines: list[Line] = [
        ("Conv", "input first", "x", {"pads": [1] * 4}),
        ("HardSigmoid", "x", "gate", {"alpha": 1 / 6}),
        ("Mul", "x gate", "y", {}),
        ("Conv", "y second", "z", {}),
        ("Relu", "z", "r", {}),
        ("GlobalAveragePool", "r", "mean", {}),
        ("Flatten", "mean", "flat", {}),
        ("Gemm", "flat matrix bias", "logits", {"transB": 1}),
    ]
    constants = {
        "first": normal(0, 6, 3, 3, 3),
        "second": normal(1, 8, 6, 1, 1),
        "matrix": normal(2, 3, 8),
        "bias": normal(3, 3),
    }
    return make_model(lines, constants, (3, SIDE, SIDE))


@pytest.mark.parametrize("seed", range(3))
def test_no_other_method_disturbs_the_logits_less(
    seed: int, make_model: MakeModel, evaluate: Evaluate
) -> None:
    """With as few tensors as here the logits decide on every one."""
    model = hidden(make_model)
    names = ["x", "gate", "y", "z", "r", "mean", "flat", "logits"]
    inputs = normal(seed, 8, 3, SIDE, SIDE) ** 3
    seen = observe(model, names, [inputs])
    chosen = choose_ranges(Graph(model), seen, [inputs], 99.9)
    assert list(chosen) == names
    expected = evaluate(model, inputs)
    for name, (method, found) in chosen.items():
        noise: dict[str, float] = {}
        for other in METHODS:
            candidate = range_of(seen[name], other, 99.9)
            logits = evaluate(rounded(model, name, scale_of(candidate)), inputs)
            noise[other] = float(np.square(logits - expected).sum())
            if other == method:
                assert found == candidate
        assert noise[method] <= min(noise.values()) * (1 + 1e-6) + 1e-12, name
