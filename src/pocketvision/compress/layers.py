"""What the integers of a network cost, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray

from pocketvision.measure.judge import Judge
from pocketvision.record.files import QuantizedLayer
from pocketvision.runtimes.graph import (
    PRODUCTS,
    Graph,
    attributes,
    is_depthwise,
    tensor_shapes,
)
from pocketvision.runtimes.int8.rounding import IntegerProduct, integer_products, read_scale
from pocketvision.runtimes.int8.static import Quantized, layer_name, nodes_of
from pocketvision.runtimes.int8.statistics import Batches, few, watched, whole
from pocketvision.runtimes.onnxfile import OUTPUT

IMAGES = 16  # that noise is measured on
QUIET_DB = 120.0  # where there is no noise at all; no ratio is told beyond it

Array = NDArray[np.float32]
Progress = Callable[[int, int], None]  # layers done, in all


def quantized_layers(quantized: Quantized, batches: Batches) -> tuple[QuantizedLayer, ...]:
    """Every convolution and matrix product, in the order of the network.

    batches: calibration inputs; the noise is measured on the first IMAGES.
    """
    graph, integer_graph = Graph(quantized.prepared), Graph(quantized.model)
    nodes = [n for n in graph.proto.node if _is_layer(graph, n)]
    macs = _macs(graph, nodes)
    products = {product.node.name: product for product in integer_products(integer_graph)}
    noise = _noise(quantized, graph, integer_graph, few(batches, IMAGES))
    found = []
    for node in nodes:
        product = products.get(node.name)
        method, (low, high) = quantized.ranges.get(node.input[0], ("float", (0.0, 0.0)))
        found.append(
            QuantizedLayer(
                name=layer_name(node),
                operator=operator_of(graph, node),
                macs_share=macs[node.name] / max(sum(macs.values()), 1),
                low=low,
                high=high,
                ranges=method,
                weight_spread=1.0 if product is None else _spread(integer_graph, product),
                in_integers=product is not None,
                sqnr_db=noise.get(node.name, QUIET_DB),
            )
        )
    return tuple(found)


def alone(
    quantized: Quantized,
    layers: Sequence[QuantizedLayer],
    batches: Batches,
    judged: tuple[Batches, Judge] | None = None,
    progress: Progress | None = None,
    *,
    split: str = "val",
) -> tuple[QuantizedLayer, ...]:
    """The same rows with what each layer costs when it alone is in integers.

    judged: images with who judges their logits, for what is lost in pairs, and the split they are
    of; None: only the noise of the logits is measured.
    """
    few_batches = few(batches, IMAGES)
    expected = whole(quantized.prepared, OUTPUT, few_batches)
    reference = None if judged is None else whole(quantized.prepared, OUTPUT, judged[0])
    found = []
    for number, layer in enumerate(layers):
        if layer.in_integers:
            model = quantized.only(nodes_of(quantized.prepared, [layer.name]))
            noise = sqnr_db(expected, whole(model, OUTPUT, few_batches))
            layer = replace(layer, alone_sqnr_db=noise)
            if judged is not None and reference is not None:
                compared = judged[1].compare(
                    whole(model, OUTPUT, judged[0]),
                    reference,
                    subject=f"{layer.name} in integers",
                    reference_name="float",
                    split=split,
                )
                layer = replace(layer, alone=compared)
        found.append(layer)
        if progress is not None:
            progress(number + 1, len(layers))
    return tuple(found)


def culprits(layers: Sequence[QuantizedLayer]) -> list[QuantizedLayer]:
    """Layers in integers, those that cost most first."""

    def quality(layer: QuantizedLayer) -> float:
        return layer.sqnr_db if layer.alone_sqnr_db is None else layer.alone_sqnr_db

    return sorted((layer for layer in layers if layer.in_integers), key=quality)


def operator_of(graph: Graph, node: onnx.NodeProto) -> str:
    """What a layer is: "conv 1x1", "depthwise 3x3", "linear"."""
    if node.op_type != "Conv":
        return "linear"
    weight = graph.constants[node.input[1]]
    size = "x".join(map(str, weight.shape[2:]))
    if is_depthwise(node, weight):
        return f"depthwise {size}"
    groups = attributes(node).get("group", 1)
    return f"conv {size}" if groups == 1 else f"conv {size}, {groups} groups"


def sqnr_db(signal: Array, noisy: Array) -> float:
    """Signal over quantization noise, in decibels; what all values share is no signal."""
    noise = float(np.square(noisy - signal, dtype=np.float64).sum())
    power = float(np.square(signal - signal.mean(), dtype=np.float64).sum())
    return decibels(power, noise)


def decibels(power: float, noise: float) -> float:
    """One over the other, within `QUIET_DB` either way."""
    if noise <= 0:
        return QUIET_DB
    return float(np.clip(10 * math.log10(max(power, 1e-30) / noise), -QUIET_DB, QUIET_DB))


def _is_layer(graph: Graph, node: onnx.NodeProto) -> bool:
    return node.op_type in PRODUCTS and node.input[1] in graph.constants


def _macs(graph: Graph, nodes: Sequence[onnx.NodeProto]) -> dict[str, int]:
    """Products of each layer for one image, as they are executed."""
    shapes = tensor_shapes(graph.model)
    found = {}
    for node in nodes:
        weight = graph.constants[node.input[1]]
        places = math.prod(shapes[node.output[0]][2:]) if node.op_type == "Conv" else 1
        found[node.name] = places * weight.size
    return found


def _spread(graph: Graph, product: IntegerProduct) -> float:
    scales = np.atleast_1d(graph.constants[product.weight_scale]).astype(np.float64)
    weight = graph.constants[product.weight]
    used = scales[np.abs(weight).reshape(len(weight), -1).max(1) > 0] if len(scales) > 1 else scales
    return float(used.max() / used.min()) if len(used) else 1.0


def _noise(
    quantized: Quantized, graph: Graph, integer_graph: Graph, batches: Batches
) -> dict[str, float]:
    """By node: signal over noise of what a layer gives inside the INT8 network."""
    pairs = {}  # node -> float tensor, bytes, their scale
    for node in integer_graph.proto.node:
        if node.op_type not in PRODUCTS:
            continue
        after = [n for n in integer_graph.readers(node.output[0]) if n.op_type == "QuantizeLinear"]
        if after and graph.maker(node.output[0]) is not None:
            pairs[node.name] = (
                node.output[0],
                after[0].output[0],
                read_scale(integer_graph, after[0]),
            )
    run_float = watched(quantized.prepared, list({p[0]: None for p in pairs.values()}))
    run_bytes = watched(
        quantized.model, list({p[1]: None for p in pairs.values()}), onnx.TensorProto.UINT8
    )
    power, noise = dict.fromkeys(pairs, 0.0), dict.fromkeys(pairs, 0.0)
    for batch in batches:
        signals, integers = run_float(batch), run_bytes(batch)
        for name, (tensor, stored, scale) in pairs.items():
            signal = signals[tensor]
            given = (integers[stored].astype(np.float32) - scale.zero) * np.float32(scale.scale)
            power[name] += float(np.square(signal - signal.mean()).sum())
            noise[name] += float(np.square(given - signal).sum())
    return {name: decibels(power[name], noise[name]) for name in pairs}
