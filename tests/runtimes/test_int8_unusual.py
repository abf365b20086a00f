"""Networks and images that are unlike most: refused with a sentence, or quantized all the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from pocketvision.errors import ConfigError
from pocketvision.runtimes.graph import Graph
from pocketvision.runtimes.int8.rounding import integer_products
from pocketvision.runtimes.int8.static import Quantized
from pocketvision.runtimes.runtime import Int8Config, Pixels

MakeModel = Callable[..., onnx.ModelProto]
Evaluate = Callable[..., NDArray[np.float32]]
Array = NDArray[np.float32]
Line = tuple[str, str, str, dict[str, Any]]
Quantize = Callable[..., Quantized]

MINMAX = Int8Config(ranges="minmax")


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def changed(model: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    """A copy with other constants."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    for tensor in copied.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    return copied


def constant(model: onnx.ModelProto, name: str) -> NDArray[Any]:
    return np.array(Graph(model).constants[name])


def in_integers(model: onnx.ModelProto) -> list[str]:
    return [product.node.name for product in integer_products(Graph(model))]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("layer", ["stem", "expand", "depthwise", "restore", "filter", "head"])
def test_weights_that_are_not_numbers_are_refused(
    layer: str, value: float, tiny_model: onnx.ModelProto, quantize_model: Quantize
) -> None:
    name = f"network.{layer}.weight"
    weight = constant(tiny_model, name)
    weight.reshape(-1)[3] = value
    with pytest.raises(ConfigError, match="gives values that are not numbers"):
        quantize_model(changed(tiny_model, {name: weight}), MINMAX)


@pytest.mark.parametrize(
    ("shade", "config"), [(0, MINMAX), (114, MINMAX), (255, MINMAX), (255, Int8Config())]
)
def test_images_all_alike_give_finite_logits(
    shade: int,
    config: Int8Config,
    tiny_model: onnx.ModelProto,
    quantize_model: Quantize,
    evaluate: Evaluate,
) -> None:
    pixels = np.full((3, 16, 16, 3), shade, np.uint8)
    found = quantize_model(tiny_model, config, [pixels])
    expected, logits = evaluate(tiny_model, pixels), evaluate(found.model, pixels)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits, expected, atol=0.15 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("size", "config"), [(0.0, MINMAX), (1e-42, MINMAX), (1e-42, Int8Config())]
)
@pytest.mark.parametrize("layers", [("stem",), ("expand", "reduce", "narrow")])
def test_layers_that_give_nothing_give_finite_logits(
    layers: tuple[str, ...],
    size: float,
    config: Int8Config,
    tiny_model: onnx.ModelProto,
    quantize_model: Quantize,
    tiny_batches: list[Pixels],
    evaluate: Evaluate,
) -> None:
    arrays = {}
    for layer in layers:
        for kind in ("weight", "bias"):
            name = f"network.{layer}.{kind}"
            arrays[name] = constant(tiny_model, name) * np.float32(size)
    model = changed(tiny_model, arrays)
    found = quantize_model(model, config)
    logits, expected = evaluate(found.model, tiny_batches[0]), evaluate(model, tiny_batches[0])
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits, expected, atol=0.15 * np.abs(expected).max())


def classifier(
    make_model: MakeModel, colours: int, mean: list[float], std: list[float]
) -> onnx.ModelProto:
    lines: list[Line] = [
        ("Conv", "images first first_bias", "x", {"pads": [1] * 4, "strides": [2, 2]}),
        ("Relu", "x", "r", {}),
        ("GlobalAveragePool", "r", "m", {}),
        ("Flatten", "m", "f", {}),
        ("Gemm", "f matrix", "logits", {"transB": 1}),
    ]
    constants = {
        "first": normal(0, 8, colours, 3, 3) / np.float32(std[0] * 5 if std[0] == 1 else 5),
        "first_bias": normal(1, 8) / 2,
        "matrix": normal(2, 5, 8) * 3,
    }
    return make_model(lines, constants, (16, 16, colours), mean, std)


@pytest.mark.parametrize(
    ("colours", "mean", "std"),
    [
        (1, [114.5], [57.0]),
        (3, [0.0] * 3, [255.0] * 3),
        (3, [127.5] * 3, [127.5] * 3),
        (3, [0.0] * 3, [1.0] * 3),
        (3, [255.0, 0.0, 128.0], [1.0, 30.0, 255.0]),
    ],
    ids=["grey", "to_one", "to_plus_minus_one", "as_they_are", "unlike"],
)
def test_any_normalisation_is_quantized(
    colours: int,
    mean: list[float],
    std: list[float],
    make_model: MakeModel,
    quantize_model: Quantize,
    tiny_batches: list[Pixels],
    evaluate: Evaluate,
) -> None:
    model = classifier(make_model, colours, mean, std)
    batches = [batch[..., :colours].copy() for batch in tiny_batches]
    found = quantize_model(model, MINMAX, batches)
    assert in_integers(found.model) == ["x", "logits"]
    expected, logits = evaluate(model, batches[0]), evaluate(found.model, batches[0])
    np.testing.assert_allclose(logits, expected, atol=0.1 * np.abs(expected).max())


def test_a_tensor_read_by_a_cap_and_by_another_keeps_its_range(
    make_model: MakeModel, quantize_model: Quantize, tiny_batches: list[Pixels], evaluate: Evaluate
) -> None:
    """As in a residual before its activation: what is below zero counts."""
    lines: list[Line] = [
        ("Conv", "images first", "x", {}),
        ("Relu", "x", "r", {}),
        ("Conv", "r second", "y", {}),
        ("Add", "x y", "sum", {}),
        ("GlobalAveragePool", "sum", "m", {}),
        ("Flatten", "m", "f", {}),
        ("Gemm", "f matrix", "logits", {"transB": 1}),
    ]
    constants = {
        "first": normal(0, 8, 3, 1, 1),
        "second": normal(1, 8, 8, 1, 1) / 8,
        "matrix": normal(2, 5, 8),
    }
    model = make_model(lines, constants, (16, 16, 3), [120.0] * 3, [60.0] * 3)
    found = quantize_model(model, MINMAX)
    assert found.ranges["x"][1][0] < -0.5
    expected, logits = evaluate(model, tiny_batches[0]), evaluate(found.model, tiny_batches[0])
    np.testing.assert_allclose(logits, expected, atol=0.05 * np.abs(expected).max())
