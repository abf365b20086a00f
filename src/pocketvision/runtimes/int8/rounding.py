"""Quantized products of a QDQ graph: their integers, scales and biases, read and corrected."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pocketvision.runtimes.graph import PRODUCTS, Graph, attributes, upto
from pocketvision.runtimes.int8.statistics import Batches, watched

SAFE_BIAS = 2**30  # half of 32 bits is left to the sums

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """value = (integer - zero) * scale, integers 0..255."""

    scale: float
    zero: int

    def round(self, values: Array) -> Array:
        """The values as their integers tell them."""
        integers: Array = np.rint(values / np.float32(self.scale)) + self.zero
        np.clip(integers, 0, 255, out=integers)
        integers -= self.zero
        integers *= np.float32(self.scale)
        return integers


@dataclass(frozen=True, kw_only=True, slots=True)
class IntegerProduct:
    """A convolution or matrix product whose input and weights are integers.

    source: the float tensor that its input stands for; bytes: its integers. weight, bias: names of
    the stored integers; bias None: it has none.
    """

    node: onnx.NodeProto
    source: str
    bytes: str
    scale: Scale
    weight: str
    weight_scale: str
    bias: str | None
    bias_scale: str | None


def integer_products(graph: Graph) -> Iterator[IntegerProduct]:
    """The products of a graph in QDQ form that run in integers, in its order."""
    for node in graph.proto.node:
        if node.op_type not in PRODUCTS:
            continue
        inputs = [graph.maker(name) for name in node.input]
        if any(maker is None or maker.op_type != "DequantizeLinear" for maker in inputs):
            continue
        x, w, *b = (maker for maker in inputs if maker is not None)
        if w.input[0] not in graph.constants:
            continue
        yield IntegerProduct(
            node=node,
            source=dequantized_from(graph, x),
            bytes=x.input[0],
            scale=read_scale(graph, x),
            weight=w.input[0],
            weight_scale=w.input[1],
            bias=b[0].input[0] if b else None,
            bias_scale=b[0].input[1] if b else None,
        )


def read_scale(graph: Graph, node: onnx.NodeProto) -> Scale:
    """Scale and zero point of a QuantizeLinear or DequantizeLinear of activations."""
    zero = graph.constants[node.input[2]] if len(node.input) > 2 else 0
    return Scale(scale=float(graph.constants[node.input[1]]), zero=int(zero))


def dequantized_from(graph: Graph, node: onnx.NodeProto) -> str:
    """The float tensor that a DequantizeLinear gives back; its own, where bytes never were one."""
    quantize = graph.maker(node.input[0])
    is_pair = quantize is not None and quantize.op_type == "QuantizeLinear"
    return str(quantize.input[0] if quantize is not None and is_pair else node.output[0])


def correct_biases(graph: Graph, outputs: Mapping[str, Array], batches: Batches) -> int:
    """Shift each bias so that its layer gives on average what it gives in float; returns how many.

    outputs: (N, channels) the mean over places of what layers give in float on each of these
    images, by the name of the node. The shift is the median over images: one whose values lie far
    outside the ranges must not move those of all others. Layers are taken in turn, as each sees
    what those before it give once they are corrected; all at once they would correct the same
    shift again and again.

    Source: Nagel et al. (2019), section 4.2, with measured means in place of assumed ones.
    """
    corrected = 0
    for product in integer_products(graph):
        if product.bias is None or product.node.name not in outputs:
            continue
        given = _mean_outputs(graph, product, batches)
        shift = np.median(outputs[product.node.name].astype(np.float64) - given, 0)
        _shift_bias(graph, product, shift)
        corrected += 1
    return corrected


def _mean_outputs(graph: Graph, product: IntegerProduct, batches: Batches) -> NDArray[np.float64]:
    """(N, channels) mean over places of what a product gives in integers on each image."""
    assert product.bias is not None
    assert product.bias_scale is not None
    bias = graph.constants[product.bias] * graph.constants[product.bias_scale].astype(np.float64)
    weight = dequantized_weight(graph, product)
    run = watched(upto(graph.model, product.bytes), [product.bytes], onnx.TensorProto.UINT8)
    found = []
    for batch in batches:
        steps = run(batch)[product.bytes].astype(np.float32) - np.float32(product.scale.zero)
        values = steps * np.float32(product.scale.scale)
        found.append(mean_over_places(product.node, apply_product(product.node, values, weight)))
    return np.asarray(np.concatenate(found) + bias, np.float64)


def mean_over_places(node: onnx.NodeProto, given: Array) -> NDArray[np.float64]:
    """(N, channels) of (N, channels, ...), or, where a matrix product gives it, (..., channels)."""
    axes = range(2, given.ndim) if node.op_type == "Conv" else range(1, given.ndim - 1)
    return np.asarray(given.mean(tuple(axes), dtype=np.float64))


def _shift_bias(graph: Graph, product: IntegerProduct, shift: NDArray[np.float64]) -> None:
    assert product.bias is not None
    assert product.bias_scale is not None
    scale = graph.constants[product.bias_scale].astype(np.float64)
    steps = graph.constants[product.bias].astype(np.float64) + np.rint(shift / scale)
    graph.set_constant(product.bias, steps.clip(-SAFE_BIAS, SAFE_BIAS).astype(np.int32))


def guard_biases(graph: Graph) -> int:
    """Widen the scale of channels whose bias leaves the sums no room; returns how many.

    A channel of tiny weights has a tiny scale, and its bias takes more than 32 bits.
    """
    sharing: dict[str, list[IntegerProduct]] = defaultdict(list)
    for product in integer_products(graph):
        if product.bias is not None:
            sharing[product.weight].append(product)
    guarded = 0
    for products in sharing.values():  # layers that share weights share their scales
        biases = [graph.constants[p.bias] for p in products if p.bias is not None]
        growth = np.maximum(np.abs(np.array(biases, np.float64)).max(0) / SAFE_BIAS, 1.0)
        if (growth > 1).any():
            _widen(graph, products, growth)
            guarded += int((growth > 1).sum())
    return guarded


def _widen(graph: Graph, products: list[IntegerProduct], growth: NDArray[np.float64]) -> None:
    """Make the steps of each channel larger, in layers that share their weights."""
    first = products[0]
    weight = graph.constants[first.weight]
    shape = [1] * weight.ndim
    shape[weight_axis(first.node)] = -1
    graph.set_constant(first.weight, np.rint(weight / growth.reshape(shape)).astype(np.int8))
    for bias in {p.bias for p in products if p.bias is not None}:
        graph.set_constant(bias, np.rint(graph.constants[bias] / growth).astype(np.int32))
    bias_scales = {p.bias_scale for p in products if p.bias_scale is not None}
    for scale in {first.weight_scale} | bias_scales:
        graph.set_constant(scale, (graph.constants[scale] * growth).astype(np.float32))


def dequantized_weight(graph: Graph, product: IntegerProduct) -> Array:
    """The weights as the stored integers tell them."""
    integers = graph.constants[product.weight].astype(np.float32)
    scale = np.atleast_1d(graph.constants[product.weight_scale])
    axis = weight_axis(product.node)
    shape = [1] * integers.ndim
    shape[axis] = -1
    return np.asarray(integers * scale.reshape(shape))


def weight_axis(node: onnx.NodeProto) -> int:
    """The axis of a product's weights that holds the output channels."""
    if node.op_type == "Conv" or attributes(node).get("transB"):
        return 0
    return 1


def apply_product(node: onnx.NodeProto, inputs: Array, weight: Array) -> Array:
    """(N, C, ...) through a convolution or matrix product without its bias."""
    x, w = torch.from_numpy(inputs), torch.from_numpy(np.array(weight))
    if node.op_type != "Conv":
        return np.asarray((x @ (w.T if weight_axis(node) == 0 else w)).numpy())
    facts: dict[str, Any] = attributes(node)
    rank = weight.ndim - 2
    pads = list(facts.get("pads", [0] * 2 * rank))
    flat = [pads[axis + side * rank] for axis in reversed(range(rank)) for side in (0, 1)]
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
    given = convolve(
        F.pad(x, flat),
        w,
        stride=facts.get("strides", [1] * rank),
        dilation=facts.get("dilations", [1] * rank),
        groups=facts.get("group", 1),
    )
    return np.asarray(given.numpy())
