"""Products of an integer graph: found, their biases kept in 32 bits and their means in float."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto

from pocketvision.runtimes.graph import PRODUCTS, Graph
from pocketvision.runtimes.int8 import static
from pocketvision.runtimes.int8.rounding import (
    SAFE_BIAS,
    apply_product,
    correct_biases,
    dequantized_weight,
    guard_biases,
    integer_products,
    mean_over_places,
)
from pocketvision.runtimes.int8.static import Quantized
from pocketvision.runtimes.int8.statistics import watched
from pocketvision.runtimes.runtime import Int8Config, Pixels

MakeModel = Callable[..., onnx.ModelProto]
Evaluate = Callable[..., NDArray[np.float32]]
Array = NDArray[np.float32]
Quantize = Callable[..., Quantized]
Line = tuple[str, str, str, dict[str, Any]]

MINMAX = Int8Config(ranges="minmax", round_weights=False)
UNCORRECTED = replace(MINMAX, correct_biases=False)


@pytest.fixture(scope="module")
def corrected(
    tiny_model: onnx.ModelProto, quantize_model: Quantize, tiny_batches: list[Pixels]
) -> Quantized:
    """Corrected whether that helps the logits or not."""
    found = quantize_model(tiny_model, UNCORRECTED)
    model = onnx.ModelProto()
    model.CopyFrom(found.model)
    outputs = layer_means(found.prepared, tiny_batches)
    count = correct_biases(Graph(model), outputs, tiny_batches)
    return replace(found, model=model, corrected=count)


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_every_product_of_a_quantized_network_is_found(
    corrected: Quantized, tiny_batches: list[Pixels], evaluate: Evaluate
) -> None:
    graph = Graph(corrected.model)
    products = list(integer_products(graph))
    layers = [n for n in corrected.prepared.graph.node if n.op_type in PRODUCTS]
    assert [p.node.name for p in products] == [n.name for n in layers]
    assert [p.source for p in products] == [n.input[0] for n in layers]
    pixels = tiny_batches[0]
    for product in products:
        read = watched(corrected.model, [product.bytes], TensorProto.UINT8)
        integers = read(pixels)[product.bytes].astype(np.float32)
        values = (integers - product.scale.zero) * np.float32(product.scale.scale)
        found = evaluate(corrected.model, pixels, product.node.input[0])
        np.testing.assert_allclose(found, values, rtol=1e-6)
        assert graph.constants[product.weight].dtype == np.int8
        assert product.bias is not None
        assert graph.constants[product.bias].dtype == np.int32


def test_integers_stand_for_what_the_float_graph_holds(
    corrected: Quantized, tiny_batches: list[Pixels], evaluate: Evaluate
) -> None:
    """Inputs and weights of every product are near to those of the prepared graph."""
    graph, floats = Graph(corrected.model), Graph(corrected.prepared)
    nodes = {node.name: node for node in corrected.prepared.graph.node}
    pixels = tiny_batches[0]
    for product in integer_products(graph):
        weight = floats.constants[nodes[product.node.name].input[1]]
        error = np.abs(dequantized_weight(graph, product) - weight)
        steps = graph.constants[product.weight_scale].reshape(-1, *[1] * (weight.ndim - 1))
        assert (error <= 0.501 * steps).all(), product.node.name
        values = evaluate(corrected.prepared, pixels, product.source)
        found = evaluate(corrected.model, pixels, product.node.input[0])
        assert np.corrcoef(found.ravel(), values.ravel())[0, 1] > 0.98, product.node.name
    first = next(integer_products(graph))
    np.testing.assert_allclose(  # the pixels are not rounded at all
        evaluate(corrected.model, pixels, first.node.input[0]),
        evaluate(corrected.prepared, pixels, first.source),
        atol=1e-6,
    )


def test_products_left_in_float_are_not_among_them(
    tiny_model: onnx.ModelProto, quantize_model: Quantize
) -> None:
    found = quantize_model(tiny_model, Int8Config(ranges="minmax", float_layers=("stem", "narrow")))
    names = [product.node.name for product in integer_products(Graph(found.model))]
    assert not {"s", "n"} & set(names)
    assert len(names) == 8


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Shape of the input, of the weights, and attributes."""
    rank = draw(st.integers(1, 3))
    axes = range(rank)
    groups, each, given = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 3)) for _ in axes]
    facts = {
        "group": groups,
        "strides": [draw(st.integers(1, 3)) for _ in axes],
        "dilations": [draw(st.integers(1, 2)) for _ in axes],
        "pads": [draw(st.integers(0, 2)) for _ in (*axes, *axes)],
    }
    kept = {key: facts[key] for key in sorted(facts) if draw(st.booleans()) or key == "group"}
    sides = [draw(st.integers(5, 8)) for _ in axes]
    return (groups * each, *sides), (groups * given, each, *kernel), kept


@settings(max_examples=60)
@given(drawn=convolutions(), images=st.integers(1, 4), seed=st.integers(0, 1000))
def test_products_and_their_means_are_those_of_the_runtime(
    drawn: tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]],
    images: int,
    seed: int,
    make_model: MakeModel,
    evaluate: Evaluate,
) -> None:
    shape, kernel, facts = drawn
    weight, inputs = normal(seed, *kernel), normal(seed + 1, images, *shape)
    model = make_model([("Conv", "input w", "logits", facts)], {"w": weight}, shape)
    node = model.graph.node[0]
    expected = evaluate(model, inputs)
    tolerance = 1e-5 * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(apply_product(node, inputs, weight), expected, atol=tolerance)
    found = mean_over_places(node, apply_product(node, inputs, weight))
    places = expected.mean(tuple(range(2, expected.ndim)))
    np.testing.assert_allclose(found, places, atol=tolerance)


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        (("Gemm", "input w", "logits", {}), (6, 4)),
        (("Gemm", "input w", "logits", {"transB": 1}), (4, 6)),
        (("MatMul", "input w", "logits", {}), (6, 4)),
    ],
)
def test_matrix_products_are_those_of_the_runtime(
    line: Line, shape: tuple[int, ...], make_model: MakeModel, evaluate: Evaluate
) -> None:
    weight, inputs = normal(0, *shape), normal(1, 7, 6)
    model = make_model([line], {"w": weight}, (6,))
    expected = evaluate(model, inputs)
    assert expected.shape == (7, 4)
    node = model.graph.node[0]
    found = apply_product(node, inputs, weight)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(mean_over_places(node, found), expected, atol=1e-5)


def in_integers(
    line: Line, weight: NDArray[np.int8], bias: NDArray[np.int32], make_model: MakeModel
) -> tuple[onnx.ModelProto, Array]:
    """One product of bytes in quantize-dequantize form, and the scales of its channels."""
    operator, _, _, facts = line
    axis = 0 if operator == "Conv" or facts.get("transB") else 1
    scales = np.geomspace(1e-6, 1e-2, len(bias)).astype(np.float32)
    constants = {
        "w": weight,
        "w_scale": scales,
        "b": bias,
        "b_scale": scales * np.float32(0.1),
        "x_scale": np.float32(0.1),
        "x_zero": np.uint8(100),
    }
    lines: list[Line] = [
        ("QuantizeLinear", "input x_scale x_zero", "xq", {}),
        ("DequantizeLinear", "xq x_scale x_zero", "xd", {}),
        ("DequantizeLinear", "w w_scale", "wd", {"axis": axis}),
        ("DequantizeLinear", "b b_scale", "bd", {"axis": 0}),
        (operator, "xd wd bd", "logits", facts),
    ]
    shape = (3, 5, 5) if operator == "Conv" else (6,)
    return make_model(lines, constants, shape), scales


LARGEST = 2**31 - 1
biases = st.one_of(
    st.integers(-LARGEST, LARGEST),
    st.integers(SAFE_BIAS - 1, SAFE_BIAS + 1),
    st.sampled_from([-LARGEST, LARGEST, 0]),
)
KINDS: dict[str, tuple[Line, tuple[int, ...]]] = {
    "conv": (("Conv", "", "", {"pads": [1] * 4}), (4, 3, 3, 3)),
    "gemm": (("Gemm", "", "", {}), (6, 4)),
    "gemm_transposed": (("Gemm", "", "", {"transB": 1}), (4, 6)),
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(drawn=st.lists(biases, min_size=4, max_size=4), seed=st.integers(0, 1000))
def test_guarded_biases_leave_room_and_outputs_nearly_as_they_are(
    drawn: list[int], seed: int, kind: str, make_model: MakeModel, evaluate: Evaluate
) -> None:
    line, shape = KINDS[kind]
    weight = np.random.default_rng(seed).integers(-127, 128, shape).astype(np.int8)
    bias = np.array(drawn, np.int32)
    model, scales = in_integers(line, weight, bias, make_model)
    inputs = normal(seed, 2, *((3, 5, 5) if kind == "conv" else (6,)))
    before = evaluate(model, inputs)
    beyond = np.abs(bias.astype(np.int64)) > SAFE_BIAS
    assert guard_biases(Graph(model)) == beyond.sum()
    graph = Graph(model)
    after = evaluate(model, inputs)
    assert np.abs(graph.constants["b"].astype(np.int64)).max() <= SAFE_BIAS
    assert (graph.constants["b"] == bias)[~beyond].all()
    assert (graph.constants["w_scale"] == scales)[~beyond].all()
    products = graph.constants["w_scale"] * np.float32(0.1)
    np.testing.assert_allclose(graph.constants["b_scale"], products, rtol=1e-6)
    # A weight is off by half of its new step, at most; the bias by one and its last digits.
    reach = np.abs(inputs).sum() + 1
    limit = graph.constants["w_scale"] * reach + 1e-6 * np.abs(before).max()
    axes = (0, 2, 3) if kind == "conv" else (0,)
    assert (np.abs(after - before).max(axes) <= limit).all()
    assert guard_biases(graph) == 0


def test_a_channel_of_tiny_weights_and_a_huge_bias_is_guarded(
    make_model: MakeModel, evaluate: Evaluate, quantize_model: Quantize
) -> None:
    lines: list[Line] = [
        ("Conv", "images first first_bias", "x", {}),
        ("Conv", "x second second_bias", "y", {}),
        ("GlobalAveragePool", "y", "mean_map", {}),
        ("Flatten", "mean_map", "logits", {}),
    ]
    second = normal(2, 4, 6, 1, 1)
    second[2] *= 1e-8
    constants = {
        "first": normal(0, 6, 3, 1, 1),
        "first_bias": normal(1, 6),
        "second": second,
        "second_bias": np.array([1, -2, 7, 0.5], np.float32),
    }
    model = make_model(lines, constants, (8, 8, 3), [120.0] * 3, [60.0] * 3)
    pixels = np.random.default_rng(3).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    found = quantize_model(model, UNCORRECTED, [pixels])
    assert found.guarded == 1
    graph = Graph(found.model)
    for product in integer_products(graph):
        assert product.bias is not None
        assert np.abs(graph.constants[product.bias].astype(np.int64)).max() <= SAFE_BIAS
    expected, logits = evaluate(model, pixels), evaluate(found.model, pixels)
    low, high = found.ranges["y"][1]
    np.testing.assert_allclose(logits, expected, atol=2 * (high - low) / 255)


def test_layers_that_share_weights_are_guarded_together(
    tiny_batches: list[Pixels],
    make_model: MakeModel,
    evaluate: Evaluate,
    quantize_model: Quantize,
) -> None:
    """A channel of tiny weights and a large bias in both; h-swish keeps them apart."""
    gate = {"alpha": 1 / 6}
    lines: list[Line] = [
        ("Conv", "images first bias", "x", {}),
        ("HardSigmoid", "x", "x2", gate),
        ("Conv", "x2 shared bias", "y", {}),
        ("HardSigmoid", "y", "y2", gate),
        ("Conv", "y2 shared bias", "z", {}),
        ("Add", "z x2", "sum", {}),
        ("GlobalAveragePool", "sum", "mean_map", {}),
        ("Flatten", "mean_map", "logits", {}),
    ]
    shared = normal(1, 8, 8, 1, 1)
    shared[2] *= 1e-9
    constants = {"first": normal(0, 8, 3, 1, 1), "shared": shared, "bias": 3 * normal(2, 8)}
    model = make_model(lines, constants, (16, 16, 3), [120.0] * 3, [60.0] * 3)
    expected = evaluate(model, tiny_batches[0])
    for config in (UNCORRECTED, MINMAX):
        found = quantize_model(model, config)
        assert found.guarded == 1
        low, high = found.ranges["sum"][1]
        logits = evaluate(found.model, tiny_batches[0])
        np.testing.assert_allclose(logits, expected, atol=8 * (high - low) / 255)


def layer_means(model: onnx.ModelProto, batches: list[Pixels]) -> dict[str, Array]:
    """(N, channels) mean over places of each product, before it is capped or rounded."""
    nodes = {node.name: node for node in model.graph.node if node.op_type in PRODUCTS}
    run = watched(model, [node.output[0] for node in nodes.values()])
    found = [run(batch) for batch in batches]
    return {
        name: np.concatenate([mean_over_places(node, given[node.output[0]]) for given in found])
        for name, node in nodes.items()
    }


def test_corrected_layers_give_on_a_middling_image_what_they_give_in_float(
    corrected: Quantized,
    tiny_model: onnx.ModelProto,
    quantize_model: Quantize,
    tiny_batches: list[Pixels],
) -> None:
    before = quantize_model(tiny_model, UNCORRECTED)
    assert (before.corrected, corrected.corrected) == (0, 10)
    expected = layer_means(corrected.prepared, tiny_batches)
    was = layer_means(before.model, tiny_batches)
    now = layer_means(corrected.model, tiny_batches)
    graph = Graph(corrected.model)
    for product in integer_products(graph):
        name = product.node.name
        assert product.bias_scale is not None
        off_before = np.abs(np.median(was[name] - expected[name], 0))
        off_now = np.abs(np.median(now[name] - expected[name], 0))
        assert off_now.sum() < off_before.sum() / 3, name
        # Half a step of the bias for its correction, half for itself.
        assert (off_now <= 1.1 * graph.constants[product.bias_scale]).all(), name


def test_one_image_far_outside_does_not_move_the_biases(
    tiny_model: onnx.ModelProto, quantize_model: Quantize, tiny_batches: list[Pixels]
) -> None:
    """Ranges clip what it holds; the shift of its mean is no reason to shift all others."""
    found = quantize_model(tiny_model, UNCORRECTED)
    graph = Graph(found.model)
    float_outputs = layer_means(found.prepared, tiny_batches)
    product = next(p for p in integer_products(graph) if p.node.name == "s")
    outputs = {"s": float_outputs["s"]}
    correct_biases(graph, outputs, tiny_batches)
    assert product.bias is not None
    expected = graph.constants[product.bias].astype(np.int64)
    outputs["s"] = outputs["s"].copy()
    outputs["s"][0] += 1000.0
    correct_biases(graph, outputs, tiny_batches)
    assert product.bias_scale is not None
    moved = np.abs(graph.constants[product.bias] - expected) * graph.constants[product.bias_scale]
    assert (moved < 1.0).all()


def test_corrections_that_do_not_help_the_logits_are_taken_back(
    tiny_model: onnx.ModelProto, quantize_model: Quantize, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(graph: Graph, outputs: dict[str, Array], batches: list[Pixels]) -> int:
        for product in integer_products(graph):
            assert product.bias is not None
            graph.set_constant(product.bias, graph.constants[product.bias] + np.int32(10_000))
        return 10

    monkeypatch.setattr(static, "correct_biases", spoil)
    found = quantize_model(tiny_model, MINMAX)
    monkeypatch.undo()
    expected = quantize_model(tiny_model, UNCORRECTED)
    assert found.corrected == 0
    before, after = Graph(expected.model).constants, Graph(found.model).constants
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_correcting_changes_biases_alone(
    corrected: Quantized, tiny_model: onnx.ModelProto, quantize_model: Quantize
) -> None:
    graph, before = Graph(corrected.model), Graph(quantize_model(tiny_model, UNCORRECTED).model)
    biases = {product.bias for product in integer_products(graph)}
    changed = {
        name for name, value in graph.constants.items() if np.any(value != before.constants[name])
    }
    assert changed == biases
    assert [n.name for n in graph.proto.node] == [n.name for n in before.proto.node]
