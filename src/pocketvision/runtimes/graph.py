"""An ONNX graph that is being rewritten: who makes and who reads a tensor, constants as arrays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

# Operators that work within channels: what they give has the channels of what they take.
CHANNELWISE = frozenset(
    {"Relu", "Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Sigmoid", "MaxPool", "AveragePool"}
    | {"GlobalAveragePool"}
)
PRODUCTS = ("Conv", "Gemm", "MatMul")

Proto = TypeVar("Proto", onnx.ModelProto, onnx.NodeProto)


class Graph:
    """A view of `model.graph` that is edited in place; edits keep the maps up to date."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.proto = model.graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in self.proto.initializer}
        self.outputs = {value.name for value in self.proto.output}
        self._map()

    def _map(self) -> None:
        self._makers: dict[str, onnx.NodeProto] = {}
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.proto.node:
            for name in node.output:
                self._makers[name] = node
            for name in dict.fromkeys(node.input):
                self._readers[name].append(node)

    def maker(self, tensor: str) -> onnx.NodeProto | None:
        """The node that gives a tensor; None for inputs and constants."""
        return self._makers.get(tensor)

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that take a tensor, each once, in the order of the graph."""
        return self._readers.get(tensor, [])

    def only_reader(self, tensor: str) -> onnx.NodeProto | None:
        """The one node that takes a tensor; None where there are several, or it is an output."""
        readers = self.readers(tensor)
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def behind_products(self) -> list[onnx.NodeProto]:
        """The nodes that no convolution or matrix product follows, and that are none."""
        read_by_products: set[str] = set()
        behind: list[onnx.NodeProto] = []
        for node in reversed(self.proto.node):
            if node.op_type in PRODUCTS or read_by_products & set(node.output):
                read_by_products.update(node.input)
            else:
                behind.append(node)
        return behind[::-1]

    def own(self, node: onnx.NodeProto, position: int) -> str:
        """The name of a constant input that no other node reads; a shared one is copied first."""
        name: str = node.input[position]
        used = sum(name == other for n in self.proto.node for other in n.input)
        if used > 1:
            made = f"{name}_of_{node.output[0]}"
            self.set_constant(made, self.constants[name])
            node.input[position] = made
            self._map()
            name = made
        return name

    def set_constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        """Store `value` under `name`, over what is there; returns the name."""
        array = np.array(value, order="C")
        tensor = numpy_helper.from_array(array, name)
        for index, stored in enumerate(self.proto.initializer):
            if stored.name == name:
                self.proto.initializer[index].CopyFrom(tensor)
                break
        else:
            self.proto.initializer.append(tensor)
        self.constants[name] = array
        return name

    def drop_constant(self, name: str) -> None:
        """Forget a constant that no node reads."""
        del self.constants[name]
        index = next(k for k, stored in enumerate(self.proto.initializer) if stored.name == name)
        del self.proto.initializer[index]

    def replace(self, old: Iterable[onnx.NodeProto], new: Sequence[onnx.NodeProto]) -> None:
        """Put `new` nodes where the first of `old` stood, and remove these."""
        gone = {id(node) for node in old}
        nodes = list(self.proto.node)
        first = min(index for index, node in enumerate(nodes) if id(node) in gone)
        kept = [node for node in nodes[:first] if id(node) not in gone]
        after = [node for node in nodes[first:] if id(node) not in gone]
        copies = [copied(node) for node in (*kept, *new, *after)]
        del self.proto.node[:]
        self.proto.node.extend(copies)
        self._map()

    def remove(self, old: Iterable[onnx.NodeProto]) -> None:
        """Remove nodes; what they gave has no readers any more."""
        for node in list(old):
            self.proto.node.remove(node)
        self._map()

    def rename_input(self, old: str, new: str, *, of: Iterable[onnx.NodeProto]) -> None:
        """Let the nodes `of` read `new` where they read `old`."""
        for node in of:
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new
        self._map()


def copied(message: Proto) -> Proto:
    """A copy of a model or of a part of one."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node as Python values."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Set an attribute of a node, over what is there."""
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def is_depthwise(node: onnx.NodeProto, weight: NDArray[Any]) -> bool:
    """True for a convolution whose every channel has a filter of its own."""
    groups = attributes(node).get("group", 1)
    return bool(groups > 1 and weight.shape[1] == 1 and weight.shape[0] == groups)


def upto(model: onnx.ModelProto, tensor: str) -> onnx.ModelProto:
    """The part of a model that a tensor comes from; it has no outputs."""
    makers = {name: node for node in model.graph.node for name in node.output}
    wanted, todo = set(), [tensor]
    while todo:
        node = makers.get(todo.pop())
        if node is not None and id(node) not in wanted:
            wanted.add(id(node))
            todo += node.input
    nodes = [node for node in model.graph.node if id(node) in wanted]
    read = {name for node in nodes for name in node.input}
    part = copied(model)
    for items in (part.graph.node, part.graph.initializer, part.graph.output):
        del items[:]
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(t for t in model.graph.initializer if t.name in read)
    return part


def tensor_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors for one image; open axes are 0."""
    single = copied(model)
    single.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    del single.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    return {
        value.name: tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
