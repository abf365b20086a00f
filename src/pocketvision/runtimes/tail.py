"""What a file does behind its raw outputs: left as it is where the network becomes integers."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from pocketvision.runtimes.graph import copied
from pocketvision.runtimes.onnxfile import OUTPUT, drop_unused_constants


def without_tail(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that ends with the raw outputs; a classifier's ends there anyway."""
    cut = copied(model)
    nodes = _behind(model)
    for place in reversed(nodes):
        del cut.graph.node[place]
    for place in reversed(range(len(cut.graph.output))):
        if cut.graph.output[place].name != OUTPUT:
            del cut.graph.output[place]
    drop_unused_constants(cut.graph)
    return cut


def with_tail(model: onnx.ModelProto, source: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model`, which ends with the raw outputs, that goes on as `source` does."""
    whole = copied(model)
    constants = {tensor.name: tensor for tensor in source.graph.initializer}
    there = {tensor.name for tensor in whole.graph.initializer}
    for place in _behind(source):
        node = source.graph.node[place]
        whole.graph.node.append(node)
        for name in node.input:
            if name in constants and name not in there:
                whole.graph.initializer.append(constants[name])
                there.add(name)
    for output in source.graph.output:
        if output.name != OUTPUT:
            whole.graph.output.append(output)
    return whole


def _behind(model: onnx.ModelProto) -> Sequence[int]:
    """Places of the nodes that the raw outputs do without, in the order of the graph."""
    needed, places = {OUTPUT}, []
    for place in reversed(range(len(model.graph.node))):
        node = model.graph.node[place]
        if needed & set(node.output):
            needed.update(node.input)
        else:
            places.append(place)
    return places[::-1]
