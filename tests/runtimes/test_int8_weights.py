"""Weights rounded together: the error of what a layer gives falls, scales and limits stay."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product as every

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from pocketvision.runtimes.graph import Graph
from pocketvision.runtimes.int8 import weights
from pocketvision.runtimes.int8.rounding import (
    apply_product,
    dequantized_weight,
    integer_products,
    mean_over_places,
)
from pocketvision.runtimes.int8.static import Quantized
from pocketvision.runtimes.int8.statistics import watched
from pocketvision.runtimes.int8.weights import fed_back, round_weights
from pocketvision.runtimes.runtime import Int8Config, Pixels

Quantize = Callable[..., Quantized]
MakeModel = Callable[..., onnx.ModelProto]
NEAREST = Int8Config(ranges="minmax", round_weights=False, correct_biases=False)


def drawn(seed: int, groups: int, outputs: int, inputs: int) -> tuple[Tensor, Tensor]:
    """Weights in steps, and the covariance of inputs that are much alike."""
    generator = torch.Generator().manual_seed(seed)
    weights = 40 * torch.randn(groups, outputs, inputs, generator=generator)
    mixed = torch.randn(groups, inputs, inputs, generator=generator, dtype=torch.float64)
    shared = torch.randn(groups, inputs, 1, generator=generator, dtype=torch.float64)
    mixed += 3 * shared
    return weights, mixed @ mixed.transpose(1, 2)


def lost(weights: Tensor, integers: Tensor, covariance: Tensor) -> Tensor:
    """(G, O) mean squared error of the outputs, their means left out."""
    error = (weights - integers).double()
    return ((error @ covariance) * error).sum(2)


@settings(max_examples=50)
@given(
    seed=st.integers(0, 1000),
    groups=st.integers(1, 3),
    outputs=st.integers(1, 4),
    inputs=st.integers(1, 24),
)
def test_integers_are_within_their_limits(
    seed: int, groups: int, outputs: int, inputs: int
) -> None:
    weights, covariance = drawn(seed, groups, outputs, inputs)
    integers = fed_back(weights, covariance, limit=64)
    assert integers.shape == weights.shape
    torch.testing.assert_close(integers, integers.round().clamp(-64, 64), rtol=0, atol=0)


def test_inputs_that_have_nothing_in_common_are_rounded_to_the_nearest() -> None:
    weights, _ = drawn(0, 2, 3, 8)
    variances = torch.arange(1, 9).double().expand(2, 8)
    integers = fed_back(weights, torch.diag_embed(variances), limit=127)
    torch.testing.assert_close(integers, weights.round(), rtol=0, atol=0)
    still = fed_back(weights, torch.zeros(2, 8, 8, dtype=torch.float64), limit=127)
    torch.testing.assert_close(still, weights.round(), rtol=0, atol=0)


@pytest.mark.parametrize("inputs", [9, 200])
def test_less_is_lost_than_by_the_nearest(inputs: int) -> None:
    weights, covariance = drawn(1, 4, 16, inputs)
    together = lost(weights, fed_back(weights, covariance, limit=10_000), covariance)
    nearest = lost(weights, weights.round(), covariance)
    assert together.mean() < nearest.mean() / 2


def test_it_comes_near_the_best_of_all_roundings() -> None:
    weights, covariance = drawn(2, 1, 8, 6)
    found = lost(weights, fed_back(weights, covariance, limit=10_000), covariance)[0]
    offsets = torch.tensor(list(every((0.0, 1.0), repeat=6)))
    candidates = weights[0].floor()[:, None] + offsets
    errors = (weights[0][:, None] - candidates).double()
    best = ((errors @ covariance[0]) * errors).sum(2).amin(1)
    nearest = lost(weights, weights.round(), covariance)[0]
    assert found.mean() < (best.mean() + nearest.mean()) / 2


def test_layers_of_a_network_give_nearer_what_they_give_in_float(
    tiny_model: onnx.ModelProto, quantize_model: Quantize, tiny_batches: list[Pixels]
) -> None:
    nearest = quantize_model(tiny_model, NEAREST)
    errors = errors_of_layers(nearest, tiny_batches)
    graph = Graph(nearest.model)
    before = dict(graph.constants)
    assert round_weights(graph, Graph(nearest.prepared), tiny_batches) == 10
    changed = {name for name in before if not np.array_equal(before[name], graph.constants[name])}
    assert changed <= {product.weight for product in integer_products(graph)}
    better = errors_of_layers(nearest, tiny_batches)
    assert sum(np.log(better[name] / errors[name]) for name in errors) < -2
    for name in changed:
        limit = np.abs(before[name]).max()
        assert np.abs(graph.constants[name]).max() <= limit


def test_little_memory_takes_more_passes_to_the_same_weights(
    tiny_model: onnx.ModelProto,
    quantize_model: Quantize,
    tiny_batches: list[Pixels],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nearest = quantize_model(tiny_model, NEAREST)
    found = []
    for limit in (weights.COVARIANCE_BYTES, 1.0):
        monkeypatch.setattr(weights, "COVARIANCE_BYTES", limit)
        model = onnx.ModelProto()
        model.CopyFrom(nearest.model)
        graph = Graph(model)
        assert round_weights(graph, Graph(nearest.prepared), tiny_batches) == 10
        found.append(graph.constants)
    at_once, one_by_one = found
    assert all(np.array_equal(at_once[name], one_by_one[name]) for name in at_once)


def errors_of_layers(quantized: Quantized, batches: list[Pixels]) -> dict[str, float]:
    """By node, the variance over images and places of what rounded weights change."""
    graph, floats = Graph(quantized.model), Graph(quantized.prepared)
    nodes = {node.name: node for node in floats.proto.node}
    sources = {node.input[0] for node in nodes.values()}
    products = [p for p in integer_products(graph) if p.source in sources]
    run = watched(quantized.prepared, sorted({p.source for p in products}))
    found = {}
    for product in products:
        node, values = nodes[product.node.name], run(batches[0])[product.source]
        off = dequantized_weight(graph, product) - floats.constants[node.input[1]]
        given: NDArray[np.float32] = apply_product(node, values, np.asarray(off, np.float32))
        centred = given - mean_over_places(node, given).mean(0).astype(np.float32).reshape(
            1, -1, *[1] * (given.ndim - 2)
        )
        found[product.node.name] = float(np.square(centred).mean()) + 1e-30
    return found


def test_layers_that_share_weights_and_those_of_other_kinds_keep_theirs(
    make_model: MakeModel, quantize_model: Quantize
) -> None:
    generator = np.random.default_rng(0)
    constants = {
        "first": generator.standard_normal((8, 3, 1, 1)).astype(np.float32),
        "shared": generator.standard_normal((8, 8, 1, 1)).astype(np.float32),
    }
    lines = [
        ("Conv", "images first", "x", {}),
        ("HardSigmoid", "x", "x2", {"alpha": 1 / 6}),
        ("Conv", "x2 shared", "y", {}),
        ("HardSigmoid", "y", "y2", {"alpha": 1 / 6}),
        ("Conv", "y2 shared", "z", {}),
        ("GlobalAveragePool", "z", "mean_map", {}),
        ("Flatten", "mean_map", "logits", {}),
    ]
    model = make_model(lines, constants, (8, 8, 3), [120.0] * 3, [60.0] * 3)
    pixels = generator.integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    found = quantize_model(model, NEAREST, [pixels])
    graph = Graph(found.model)
    before = dict(graph.constants)
    assert round_weights(graph, Graph(found.prepared), [pixels]) == 1
    shared = next(p.weight for p in integer_products(graph) if p.node.name == "y")
    np.testing.assert_array_equal(before[shared], graph.constants[shared])
