"""Channels that fill the registers: zeros are added where a kernel would take a slow way.

ONNX Runtime's kernels for symmetric weights take depthwise convolutions by 16 channels and others
by 4; what does not divide goes through a general kernel that is twice as slow. Widths such as 72 or
58 are therefore filled up between two convolutions: the first gives zeros more, the second gives
them no weight. Every number of the network stays the same.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx

from pocketvision.runtimes.graph import (
    CHANNELWISE,
    Graph,
    is_depthwise,
    set_attribute,
    tensor_shapes,
)

DEPTHWISE_MULTIPLE = 16
MULTIPLE = 4
MOST = 4 / 3  # the filled width, at most, as a share of the width: 24 becomes 32, 8 stays


def fill_channels(graph: Graph) -> int:
    """Fill up the widths that are between convolutions; returns how many were."""
    shapes = tensor_shapes(graph.model)
    filled = 0
    for tensors in _tied_tensors(graph, shapes):
        width = shapes[tensors[0]][1]
        wanted = _wanted(graph, tensors, width)
        if wanted > width and _is_free(graph, tensors):
            _fill(graph, tensors, wanted)
            filled += 1
    return filled


def _tied_tensors(graph: Graph, shapes: dict[str, tuple[int, ...]]) -> list[list[str]]:
    """Maps (N, C, H, W) in groups that share their channels one by one, in the graph's order."""
    parent = {name: name for name, shape in shapes.items() if len(shape) == 4}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in graph.proto.node:
        names = [*node.input[:1], node.output[0]] if _keeps_channels(graph, node) else []
        if node.op_type in ("Add", "Mul"):
            names = [*node.input, node.output[0]]
        # A number that is added to every channel ties nothing.
        tied = [n for n in names if n in parent and n not in graph.constants]
        for name in tied[1:]:
            parent[root(name)] = root(tied[0])
    groups = defaultdict(list)
    for name in parent:
        groups[root(name)].append(name)
    return [names for names in groups.values() if len({shapes[name][1] for name in names}) == 1]


def _keeps_channels(graph: Graph, node: onnx.NodeProto) -> bool:
    if node.op_type == "Conv" and node.input[1] in graph.constants:
        return is_depthwise(node, graph.constants[node.input[1]])
    return node.op_type in CHANNELWISE


def _wanted(graph: Graph, tensors: list[str], width: int) -> int:
    """The width the kernels like that read these tensors."""
    readers = [node for name in tensors for node in graph.readers(name) if node.op_type == "Conv"]
    depthwise = any(_keeps_channels(graph, node) for node in readers)
    multiple = DEPTHWISE_MULTIPLE if depthwise else MULTIPLE if readers else 1
    filled = -(-width // multiple) * multiple
    return filled if filled <= MOST * width else width


def _is_free(graph: Graph, tensors: list[str]) -> bool:
    """True if nothing but convolutions gives these tensors and takes them away."""
    inside = set(tensors)
    if inside & (graph.outputs | {value.name for value in graph.proto.input}):
        return False
    for name in tensors:
        maker = graph.maker(name)
        if maker is None or not (_is_dense(graph, maker) or _is_inside(graph, maker)):
            return False
        for reader in graph.readers(name):
            if not (_is_dense(graph, reader) or _is_inside(graph, reader)):
                return False
    return True


def _is_dense(graph: Graph, node: onnx.NodeProto) -> bool:
    """A convolution over all channels whose weights are known."""
    is_known = node.op_type == "Conv" and all(name in graph.constants for name in node.input[1:])
    return is_known and all(a.i == 1 for a in node.attribute if a.name == "group")


def _is_inside(graph: Graph, node: onnx.NodeProto) -> bool:
    if node.op_type in ("Add", "Mul"):
        constants = [graph.constants[name] for name in node.input if name in graph.constants]
        return all(value.size == 1 for value in constants)
    return _keeps_channels(graph, node)


def _fill(graph: Graph, tensors: list[str], width: int) -> None:
    inside = set(tensors)
    for node in graph.proto.node:
        if node.op_type != "Conv":
            continue
        gives, takes = node.output[0] in inside, node.input[0] in inside
        depthwise = _keeps_channels(graph, node)
        if not gives and not takes:
            continue
        axes = {0: width} if gives else {}
        if takes and not depthwise:
            axes[1] = width
        weight = graph.own(node, 1)
        graph.set_constant(weight, _with_zeros(graph.constants[weight], axes))
        if gives and len(node.input) > 2:
            bias = graph.own(node, 2)
            graph.set_constant(bias, _with_zeros(graph.constants[bias], axes))
        if depthwise:
            set_attribute(node, "group", width)


def _with_zeros(array: np.ndarray, lengths: dict[int, int]) -> np.ndarray:
    """The array with zeros at the end of some axes, up to their lengths."""
    ends = [(0, lengths.get(axis, size) - size) for axis, size in enumerate(array.shape)]
    return np.pad(array, ends)
