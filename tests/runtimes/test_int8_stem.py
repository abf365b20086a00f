"""The first convolution reads pixels: folded normalisation and grouped pixels change no output."""

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
from pocketvision.runtimes.int8.stem import (
    PIXEL_SCALE,
    Entry,
    fold_normalisation,
    group_pixels,
    grouped_weight,
    paint_border,
)

MakeModel = Callable[..., onnx.ModelProto]
Evaluate = Callable[..., NDArray[np.float32]]
Array = NDArray[np.float32]
Line = tuple[str, str, str, dict[str, Any]]

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
STRIDE_2 = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
CLIP = {"zero": np.float32(0), "six": np.float32(6)}


def pixels_of(seed: int, height: int, width: int, colours: int, images: int = 2) -> NDArray[Any]:
    shape = (images, height, width, colours)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def same(found: Array, expected: Array, tolerance: float) -> None:
    """Equal but for a share of the largest value."""
    limit = tolerance * float(np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1000),
    colours=st.sampled_from([1, 3]),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2]),
    has_bias=st.booleans(),
    mean=st.tuples(*[st.floats(0, 255)] * 3),
    std=st.tuples(*[st.floats(1, 100)] * 3),
)
def test_folding_keeps_outputs_away_from_the_border(
    seed: int,
    colours: int,
    kernel: int,
    stride: int,
    has_bias: bool,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    make_model: MakeModel,
    evaluate: Evaluate,
) -> None:
    side, channels, pad = 14, 5, kernel // 2
    names = "images w b" if has_bias else "images w"
    constants = {"w": normal(seed, channels, colours, kernel, kernel), "b": normal(1, channels)}
    pads, strides = [pad] * 4, [stride] * 2
    lines = [("Conv", names, "logits", {"pads": pads, "strides": strides})]
    model = make_model(lines, constants, (side, side, colours), mean[:colours], std[:colours])
    pixels = pixels_of(seed, side, side, colours)
    before = evaluate(model, pixels)
    entry = fold_normalisation(Graph(model))
    assert entry is not None
    after = evaluate(model, pixels)
    first = -(-pad // stride)  # places before it see the padding
    last = (side - 1 - pad) // stride + 1
    inside = (..., slice(first, last), slice(first, last))
    same(after[inside], before[inside], 1e-4)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 1000),
    colours=st.sampled_from([1, 3]),
    mean=st.integers(0, 255),
    std=st.tuples(*[st.floats(1, 100)] * 3),
)
def test_folding_keeps_every_output_where_the_means_are_one_whole_number(
    seed: int,
    colours: int,
    mean: int,
    std: tuple[float, ...],
    make_model: MakeModel,
    evaluate: Evaluate,
) -> None:
    weight, bias = normal(seed, 8, colours, 3, 3), normal(seed + 1, 8)
    lines = [("Conv", "images w b", "logits", STRIDE_2)]
    means = [float(mean)] * colours
    model = make_model(lines, {"w": weight, "b": bias}, (9, 12, colours), means, std[:colours])
    pixels = pixels_of(seed, 9, 12, colours)
    before = evaluate(model, pixels)
    entry = fold_normalisation(Graph(model))
    assert entry is not None
    assert entry.zero == mean
    same(evaluate(model, pixels), before, 1e-4)


@pytest.mark.parametrize(
    ("mean", "zero"),
    [(MEAN, 114), ((10.0, 20.0, 32.0), 21), ((0.0, 0.0, 0.4), 0), ((255.0, 255.0, 254.0), 255)],
)
def test_folding_pads_with_the_grey_of_the_means_at_first(
    mean: tuple[float, ...], zero: int, make_model: MakeModel, evaluate: Evaluate
) -> None:
    constants = {"w": normal(1, 8, 3, 3, 3), "b": normal(2, 8)}
    pixels = pixels_of(3, 10, 12, 3)
    padded: list[Line] = [("Conv", "images w b", "logits", {"pads": [1] * 4})]
    model = make_model(padded, constants, (10, 12, 3), mean, STD)
    entry = fold_normalisation(Graph(model))
    assert entry is not None
    assert entry.zero == zero
    open_lines: list[Line] = [("Conv", "images w b", "logits", {})]
    framed = make_model(open_lines, constants, (12, 14, 3), mean, STD)
    grey = np.pad(pixels, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=zero)
    same(evaluate(model, pixels), evaluate(framed, grey), 1e-4)


@pytest.mark.parametrize("colours", [1, 3])
def test_entry_tells_what_the_first_convolution_reads(
    colours: int, make_model: MakeModel, evaluate: Evaluate
) -> None:
    lines = [("Conv", "images w", "logits", STRIDE_2)]
    shape = (16, 16, colours)
    weight = normal(0, 8, colours, 3, 3)
    model = make_model(lines, {"w": weight}, shape, MEAN[:colours], STD[:colours])
    entry = fold_normalisation(Graph(model))
    assert entry is not None
    pixels = np.arange(256, dtype=np.uint8).repeat(colours).reshape(1, *shape)
    values = evaluate(model, pixels, entry.tensor)
    assert entry.range == (values.min(), values.max())
    planes = pixels.transpose(0, 3, 1, 2).astype(np.float32)
    np.testing.assert_array_equal(values, (planes - entry.zero) * np.float32(PIXEL_SCALE))
    assert set(entry.nodes) == {"floats", "centred", "images"}
    assert entry.bytes_tensor == "planes"


@given(zero=st.integers(0, 255), exponent=st.integers(-10, 2))
def test_entry_range_is_what_bytes_reach(zero: int, exponent: int) -> None:
    scale = 2.0**exponent
    entry = Entry(tensor="t", bytes_tensor="b", zero=zero, nodes=(), border=(), scale=scale)
    low, high = entry.range
    assert low <= 0 <= high
    assert high - low == 255 * scale
    assert low + zero * scale == 0


def test_folding_leaves_constants_of_other_layers(
    make_model: MakeModel, evaluate: Evaluate
) -> None:
    """Two convolutions share weight and bias; a third layer reads the bias too."""
    lines = [
        ("Conv", "images w b", "first", {"pads": [1] * 4}),
        ("Conv", "first w b", "second", {"pads": [1] * 4}),
        ("Reshape", "b bias_shape", "map", {}),
        ("Add", "second map", "logits", {}),
    ]
    constants = {
        "w": normal(1, 3, 3, 3, 3),
        "b": normal(2, 3),
        "bias_shape": np.array([1, 3, 1, 1]),
    }
    model = make_model(lines, constants, (8, 8, 3), [120.0] * 3, STD)
    pixels = pixels_of(0, 8, 8, 3)
    before = evaluate(model, pixels)
    graph = Graph(model)
    assert fold_normalisation(graph) is not None
    same(evaluate(model, pixels), before, 1e-4)
    for name in ("w", "b"):
        np.testing.assert_array_equal(Graph(model).constants[name], constants[name])


@pytest.mark.parametrize(
    "lines",
    [
        [("Conv", "centred w", "logits", {})],
        [("Conv", "images w", "rest", {}), ("Add", "images images", "logits", {})],
        [("Relu", "images", "positive", {}), ("Conv", "positive w", "logits", {})],
    ],
    ids=["not_scaled", "read_twice", "not_a_convolution"],
)
def test_other_beginnings_are_left_alone(lines: list[Any], make_model: MakeModel) -> None:
    model = make_model(lines, {"w": normal(0, 8, 3, 1, 1)}, (8, 8, 3), MEAN, STD)
    before = model.SerializeToString(deterministic=True)
    graph = Graph(model)
    assert fold_normalisation(graph) is None
    assert group_pixels(graph) is False
    assert model.SerializeToString(deterministic=True) == before


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1000),
    channels=st.integers(1, 12),
    colours=st.integers(1, 4),
    height=st.integers(2, 9),
    groups=st.integers(1, 4),
)
def test_grouped_weight_gives_two_places_at_a_time(
    seed: int,
    channels: int,
    colours: int,
    height: int,
    groups: int,
    make_model: MakeModel,
    evaluate: Evaluate,
) -> None:
    weight = normal(seed, channels, colours, 3, 3)
    images = normal(seed, 2, colours, height, 4 * groups)
    plain = make_model([("Conv", "input w", "logits", STRIDE_2)], {"w": weight}, images.shape[1:])
    expected = evaluate(plain, images)
    # (N, c, H, 4 Q) -> (N, 4 c, H, Q): channel j c + i is colour i of pixel 4 q + j
    four = images.reshape(2, colours, height, groups, 4).transpose(0, 4, 1, 2, 3)
    four = four.reshape(2, 4 * colours, height, groups)
    facts = {"strides": [2, 1], "pads": [1, 1, 1, 0]}
    made = grouped_weight(weight)
    assert made.shape == (2 * channels, 4 * colours, 3, 2)
    grouped = make_model([("Conv", "input w", "logits", facts)], {"w": made}, four.shape[1:])
    found = evaluate(grouped, four).reshape(2, 2, channels, -1, groups)
    places = found.transpose(0, 2, 3, 4, 1).reshape(expected.shape)  # place 2 q + p
    same(places, expected, 1e-5)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1000),
    channels=st.integers(6, 10),
    height=st.integers(5, 11),
    width=st.integers(5, 16),
    kernel=st.sampled_from([3, 5]),
    stride=st.sampled_from([1, 2]),
    has_bias=st.booleans(),
    mean=st.tuples(*[st.integers(0, 255)] * 3),
    std=st.tuples(*[st.floats(1, 100)] * 3),
)
def test_a_painted_border_keeps_every_output(
    seed: int,
    channels: int,
    height: int,
    width: int,
    kernel: int,
    stride: int,
    has_bias: bool,
    mean: tuple[int, ...],
    std: tuple[float, ...],
    make_model: MakeModel,
    evaluate: Evaluate,
) -> None:
    names = "images w b" if has_bias else "images w"
    constants = {"w": normal(seed, channels, 3, kernel, kernel), "b": normal(1, channels)}
    facts = {"strides": [stride] * 2, "pads": [kernel // 2] * 4}
    model = make_model([("Conv", names, "logits", facts)], constants, (height, width, 3), mean, std)
    pixels = pixels_of(seed, height, width, 3, images=3)
    before = evaluate(model, pixels)
    graph = Graph(model)
    entry = fold_normalisation(graph)
    assert entry is not None
    assert entry.border == mean
    group_pixels(graph)
    assert paint_border(graph, entry) is (set(mean) != {entry.zero})
    onnx.checker.check_model(model, full_check=True)
    same(evaluate(model, pixels), before, 1e-4)
    same(evaluate(model, pixels[:1]), before[:1], 1e-4)
    assert not paint_border(graph, entry)  # it is painted once


def test_a_border_is_within_half_a_pixel_step_of_the_means(
    make_model: MakeModel, evaluate: Evaluate
) -> None:
    weight = normal(1, 8, 3, 3, 3)
    lines = [("Conv", "images w", "logits", STRIDE_2)]
    model = make_model(lines, {"w": weight}, (10, 12, 3), MEAN, STD)
    pixels = pixels_of(0, 10, 12, 3)
    before = evaluate(model, pixels)
    graph = Graph(model)
    entry = fold_normalisation(graph)
    assert entry is not None
    assert paint_border(graph, entry)
    off = np.abs(np.rint(MEAN) - MEAN) / STD
    most = (np.abs(weight).sum((2, 3)) * off).sum(1).max()
    assert np.abs(evaluate(model, pixels) - before).max() <= most


@pytest.mark.parametrize(
    ("mean", "facts"), [((120.0, 120.0, 120.0), STRIDE_2), (MEAN, {"strides": [2, 2]})]
)
def test_a_border_of_one_grey_or_none_is_left_alone(
    mean: tuple[float, ...], facts: dict[str, Any], make_model: MakeModel
) -> None:
    lines = [("Conv", "images w", "logits", facts)]
    model = make_model(lines, {"w": normal(1, 8, 3, 3, 3)}, (8, 8, 3), mean, STD)
    graph = Graph(model)
    entry = fold_normalisation(graph)
    assert entry is not None
    before = model.SerializeToString(deterministic=True)
    assert not paint_border(graph, entry)
    assert model.SerializeToString(deterministic=True) == before


def ending(act: str) -> list[Any]:
    """A convolution's output "y" through an activation, and the largest of each 3x3 places."""
    middle: dict[str, list[Any]] = {
        "none": [("Identity", "y", "a", {})],
        "relu": [("Relu", "y", "a", {})],
        "relu6": [("Clip", "y zero six", "a", {})],
        "hswish": [
            ("HardSigmoid", "y", "gate", {"alpha": 1 / 6}),
            ("Mul", "y gate", "a", {}),
        ],
    }
    return [*middle[act], ("MaxPool", "a", "logits", {"kernel_shape": [3, 3], "pads": [1] * 4})]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1000),
    channels=st.integers(8, 13),
    colours=st.sampled_from([1, 3]),
    height=st.integers(2, 9),
    groups=st.integers(1, 4),
    act=st.sampled_from(["none", "relu", "relu6", "hswish"]),
    has_bias=st.booleans(),
)
def test_grouping_pixels_keeps_outputs(
    seed: int,
    channels: int,
    colours: int,
    height: int,
    groups: int,
    act: str,
    has_bias: bool,
    make_model: MakeModel,
    evaluate: Evaluate,
) -> None:
    names = "images w b" if has_bias else "images w"
    constants = {"w": normal(seed, channels, colours, 3, 3), "b": normal(1, channels), **CLIP}
    shape = (height, 4 * groups, colours)
    lines = [("Conv", names, "y", STRIDE_2), *ending(act)]
    model = make_model(lines, constants, shape, MEAN[:colours], STD[:colours])
    graph = Graph(model)
    assert fold_normalisation(graph) is not None
    pixels = pixels_of(seed, *shape, images=3)
    before = evaluate(model, pixels)
    assert group_pixels(graph) is True
    onnx.checker.check_model(model, full_check=True)
    same(evaluate(model, pixels), before, 1e-5)
    same(evaluate(model, pixels[:1]), before[:1], 1e-5)
    assert group_pixels(graph) is False  # four pixels are taken once


def test_grouping_leaves_constants_of_other_layers(
    make_model: MakeModel, evaluate: Evaluate
) -> None:
    lines = [
        ("Conv", "images w b", "first", STRIDE_2),
        ("Conv", "first v b", "second", {}),
        ("Mul", "second v_scale", "logits", {}),
    ]
    constants = {
        "w": normal(1, 8, 3, 3, 3),
        "v": normal(2, 8, 8, 1, 1),
        "b": normal(3, 8),
        "v_scale": np.float32(2),
    }
    model = make_model(lines, constants, (8, 8, 3), MEAN, STD)
    pixels = pixels_of(0, 8, 8, 3)
    graph = Graph(model)
    assert fold_normalisation(graph) is not None
    before = evaluate(model, pixels)
    assert group_pixels(graph) is True
    same(evaluate(model, pixels), before, 1e-5)
    np.testing.assert_array_equal(Graph(model).constants["b"], constants["b"])


@pytest.mark.parametrize(
    ("shape", "weight", "facts"),
    [
        ((8, 8, 3), (8, 3, 3, 3), {"strides": [1, 1], "pads": [1] * 4}),
        ((8, 8, 3), (8, 3, 3, 3), {"strides": [2, 1], "pads": [1] * 4}),
        ((8, 8, 3), (8, 3, 3, 3), {"strides": [4, 4], "pads": [1] * 4}),
        ((8, 8, 3), (8, 3, 5, 5), {"strides": [2, 2], "pads": [2] * 4}),
        ((8, 8, 3), (8, 3, 1, 1), {"strides": [2, 2], "pads": [0] * 4}),
        ((8, 8, 3), (8, 3, 3, 3), {"strides": [2, 2]}),
        ((8, 8, 3), (8, 3, 3, 3), {"strides": [2, 2], "pads": [0, 0, 1, 1]}),
        ((8, 8, 3), (8, 3, 3, 3), {**STRIDE_2, "dilations": [2, 2]}),
        ((8, 8, 3), (9, 1, 3, 3), {**STRIDE_2, "group": 3}),
        ((8, 10, 3), (8, 3, 3, 3), STRIDE_2),
        ((8, 7, 3), (8, 3, 3, 3), STRIDE_2),
        ((8, 8, 3), (7, 3, 3, 3), STRIDE_2),
    ],
)
def test_other_first_convolutions_are_not_grouped(
    shape: tuple[int, ...],
    weight: tuple[int, ...],
    facts: dict[str, Any],
    make_model: MakeModel,
) -> None:
    lines = [("Conv", "images w", "logits", facts)]
    model = make_model(lines, {"w": normal(0, *weight)}, shape, MEAN, STD)
    graph = Graph(model)
    before = model.SerializeToString(deterministic=True)
    assert group_pixels(graph) is False
    assert model.SerializeToString(deterministic=True) == before
