"""What OpenVINO has to be told otherwise.

OpenVINO 2026.4 moves a Gather that changes the order of channels through a depthwise convolution
into the weights behind it, and there applies the order itself where its inverse is due. The two are
one for reversed colours, which that is meant for, and not for the shuffles of the ShuffleNets.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from pocketvision.runtimes.graph import Graph, attributes, tensor_shapes


def transpose_shuffles(model: onnx.ModelProto) -> int:
    """Write channel shuffles as reshape, transpose, reshape, in place; returns how many."""
    graph, shapes = Graph(model), tensor_shapes(model)
    changed = 0
    for name in [node.output[0] for node in graph.proto.node if node.op_type == "Gather"]:
        node = graph.maker(name)
        assert node is not None
        shape = shapes.get(node.input[0], ())
        if len(shape) != 4 or attributes(node).get("axis", 0) != 1:
            continue
        groups = shuffled_groups(graph.constants.get(node.input[1]), shape[1])
        if groups is None:
            continue
        apart = graph.set_constant(
            f"{name}_apart", np.array([0, groups, shape[1] // groups, shape[2] * shape[3]])
        )
        back = graph.set_constant(f"{name}_back", np.array([0, *shape[1:]]))
        made = [
            helper.make_node("Reshape", [node.input[0], apart], [f"{name}_groups"]),
            helper.make_node(
                "Transpose", [f"{name}_groups"], [f"{name}_turned"], perm=[0, 2, 1, 3]
            ),
            helper.make_node("Reshape", [f"{name}_turned", back], [name]),
        ]
        graph.replace([node], made)
        changed += 1
    return changed


def shuffled_groups(order: NDArray[np.generic] | None, channels: int) -> int | None:
    """The groups of which `order` takes one channel each in turn; None: it is no such order."""
    if order is None or order.shape != (channels,) or channels < 4:
        return None
    size = int(order[1]) - int(order[0])  # from a group to the next
    if size < 2 or channels % size or channels == size:
        return None
    expected = np.arange(channels).reshape(-1, size).T.ravel()
    return channels // size if np.array_equal(order, expected) else None
