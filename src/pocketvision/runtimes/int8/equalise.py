"""Cross-layer equalisation: small channels made as large as the largest, and back.

relu(s x) = s relu(x) for s > 0, so a convolution may give a channel s times as large if the next
one takes it by 1/s. A tensor has one scale for all its channels; equalised, each of them uses all
256 integers. Before a depthwise convolution this is free, as its weights have a scale for every
channel; before another, activations and weights share the burden evenly.

Valid through nothing, ReLU, and ReLU6 where a channel stays below 6 on the calibration images; not
through h-swish, sigmoids or sums.
Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction (2019).
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from pocketvision.runtimes.graph import Graph, attributes, is_depthwise
from pocketvision.runtimes.int8.statistics import Batches, channel_peaks

MOST = 64.0  # a channel that is hardly used is not blown up beyond this
FLOOR = 1e-6  # of the largest channel; below, a channel is dead and left as it is


def equalise(graph: Graph, batches: Batches) -> int:
    """Scale the channels between pairs of convolutions; returns how many pairs.

    batches: calibration inputs, which tell how large each channel becomes.
    """
    pairs = [
        (first, *found) for first in graph.proto.node if (found := _pair(graph, first)) is not None
    ]
    peaks = channel_peaks(graph.model, [between for _, between, _, _ in pairs], batches)
    scaled = 0
    for first, between, cap, second in pairs:
        # A depthwise convolution is second of one pair and first of the next: what it is given
        # changes, what it gives does not, so all peaks hold.
        scales = _scales(peaks[between].astype(np.float64), _needs(graph, second), cap)
        if np.allclose(scales, 1):
            continue
        _scale_given(graph, first, scales)
        _scale_taken(graph, second, scales)
        scaled += 1
    return scaled


def _pair(graph: Graph, first: onnx.NodeProto) -> tuple[str, float | None, onnx.NodeProto] | None:
    """The tensor between a convolution and the one that alone reads it, and the cap of a ReLU6."""
    if first.op_type != "Conv" or first.input[1] not in graph.constants:
        return None
    tensor, cap = first.output[0], None
    reader = graph.only_reader(tensor)
    if reader is not None and reader.op_type in ("Relu", "Clip"):
        if reader.op_type == "Clip":
            limits = [graph.constants.get(name) for name in reader.input[1:3]]
            if len(limits) < 2 or limits[0] is None or limits[1] is None or limits[0] != 0:
                return None
            cap = float(limits[1])
        tensor = reader.output[0]
        reader = graph.only_reader(tensor)
    if reader is None or reader.op_type != "Conv" or reader.input[1] not in graph.constants:
        return None
    groups = attributes(reader).get("group", 1)
    if groups > 1 and not is_depthwise(reader, graph.constants[reader.input[1]]):
        return None
    return tensor, cap, reader


def _needs(graph: Graph, second: onnx.NodeProto) -> NDArray[np.float64] | None:
    """Largest weight the second convolution has for each channel; None: it does not matter."""
    weight = graph.constants[second.input[1]]
    if is_depthwise(second, weight):
        return None
    return np.asarray(np.abs(weight).max((0, *range(2, weight.ndim))), np.float64)


def _scales(
    peaks: NDArray[np.float64], needs: NDArray[np.float64] | None, cap: float | None
) -> NDArray[np.float64]:
    highest = peaks.max(initial=0.0)
    alive = peaks > FLOOR * highest
    if needs is not None:
        alive &= needs > FLOOR * needs.max(initial=0.0)
    if not alive.any():
        return np.ones_like(peaks)
    safe = np.where(alive, peaks, 1.0)
    scales = highest / safe
    if needs is not None:
        scales = np.sqrt(np.where(alive, needs, 1.0) / safe)
        scales *= highest / (scales * safe)[alive].max()
    scales = np.clip(scales, 1 / MOST, MOST)
    scales[~alive] = 1.0
    if cap is not None:
        scales[peaks >= cap] = 1.0  # it is clipped, and must be at the same value
    return np.asarray(scales)


def _scale_given(graph: Graph, conv: onnx.NodeProto, scales: NDArray[np.float64]) -> None:
    for position in range(1, len(conv.input)):
        name = graph.own(conv, position)
        value = graph.constants[name]
        shaped = scales.reshape(-1, *[1] * (value.ndim - 1))
        graph.set_constant(name, (value * shaped).astype(np.float32))


def _scale_taken(graph: Graph, conv: onnx.NodeProto, scales: NDArray[np.float64]) -> None:
    name = graph.own(conv, 1)
    weight = graph.constants[name]
    depthwise = is_depthwise(conv, weight)
    axes = (-1, 1) if depthwise else (1, -1)
    shaped = scales.reshape(*axes, *[1] * (weight.ndim - 2))
    graph.set_constant(name, (weight / shaped).astype(np.float32))
