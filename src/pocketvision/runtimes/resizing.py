"""Resizing in exported files, as runtimes like it best."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pocketvision.runtimes.graph import Graph, attributes, copied, set_attribute, tensor_shapes

NHWC = [0, 2, 3, 1]  # the axes of NCHW, the channels last


def fix_scales(model: onnx.ModelProto) -> None:
    """Let every Resize of places have its factors as a constant, in place.

    The exporter computes sizes in the graph, for the sake of a batch that is left alone. (Sizes for
    two axes alone, which need no batch, are more than ONNX Runtime can turn with its layouts.)
    """
    shapes = tensor_shapes(model)
    for number, node in enumerate(model.graph.node):
        if node.op_type != "Resize":
            continue
        before, after = shapes[node.input[0]][2:], shapes[node.output[0]][2:]
        factors = [factor_to(*pair) for pair in zip(before, after, strict=True)]
        name = f"factors_{number}"
        constant = numpy_helper.from_array(np.array([1, 1, *factors], np.float32), name)
        model.graph.initializer.append(constant)
        del node.input[1:]
        node.input.extend(["", name])
    _drop_unread(model.graph)


def factor_to(before: int, after: int) -> np.float32:
    """The smallest that brings `before` places to `after`: ONNX rounds their product down."""
    factor = np.float32(after / before)
    while before * float(factor) < after:
        factor = np.nextafter(factor, np.float32(np.inf))
    return factor


def classes_last(model: onnx.ModelProto) -> None:
    """Resize the logits of places with the classes side by side, in place.

    A pixel's logits then lie together for the ArgMax that picks its class, and one interpolation
    serves all of them.
    """
    graph = Graph(model)
    for node in list(graph.proto.node):
        resize = graph.maker(node.input[0]) if node.op_type == "ArgMax" else None
        if resize is None or resize.op_type != "Resize" or attributes(node).get("axis") != 1:
            continue
        source, turned = resize.input[0], f"{resize.input[0]}_last"
        transpose = helper.make_node(
            "Transpose", [source], [turned], name=f"{resize.name}_last", perm=NHWC
        )
        moved = copied(resize)
        factors = f"{moved.input[2]}_last"
        moved.input[0] = turned
        moved.input[2] = graph.set_constant(factors, graph.constants[moved.input[2]][NHWC])
        set_attribute(node, "axis", 3)
        graph.replace([resize], [transpose, moved])


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Remove nodes whose outputs nobody takes."""
    while True:
        read = {name for node in graph.node for name in node.input}
        read |= {value.name for value in graph.output}
        unread = [k for k, node in enumerate(graph.node) if not read & set(node.output)]
        if not unread:
            return
        for place in reversed(unread):
            del graph.node[place]
