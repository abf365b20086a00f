"""What OpenVINO has to be told otherwise.

Channel shuffles: OpenVINO 2026.4 moves a Gather that changes the order of channels through a
depthwise convolution into the weights behind it, and there applies the order itself where its
inverse is due. The two are one for reversed colours, which that is meant for, and not for the
shuffles of the ShuffleNets.

Maps of classes: the order of axes in which logits are resized and the best is found decides whether
that takes it one millisecond or twenty.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from pocketvision.runtimes.graph import Graph, attributes, copied, set_attribute, tensor_shapes
from pocketvision.runtimes.resizing import NHWC

NCHW = [0, 3, 1, 2]  # the axes of NHWC, the channels in front again
TURNED = ("Resize", "Transpose")  # what `resizing.classes_last` has before an ArgMax


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


def resize_maps(model: onnx.ModelProto) -> int:
    """Undo `resizing.classes_last`, in place: logits are resized as maps; returns how many.

    OpenVINO 2026.4 takes 18 times as long to resize what has its classes last.
    """
    graph, changed = Graph(model), 0
    for name in _named_classes(graph):
        argmax = graph.maker(name)
        assert argmax is not None
        resize = graph.maker(argmax.input[0])
        turn = None if resize is None else graph.maker(resize.input[0])
        if resize is None or turn is None or (resize.op_type, turn.op_type) != TURNED:
            continue
        moved, chosen = copied(resize), copied(argmax)
        moved.input[0] = turn.input[0]
        factors = graph.constants[resize.input[2]][NCHW]
        moved.input[2] = graph.set_constant(f"{resize.input[2]}_maps", factors)
        set_attribute(chosen, "axis", 1)
        graph.replace([turn, resize, argmax], [moved, chosen])
        changed += 1
    return changed


def name_by_pixel(model: onnx.ModelProto) -> int:
    """Let ArgMax take logits that lie together, behind maps that were resized; returns how many.

    OpenVINO 2026.4 then takes a fifteenth of the time in float32; in bfloat16 it would take more.
    """
    graph = Graph(model)
    names = _named_classes(graph)
    for name in names:
        argmax = graph.maker(name)
        assert argmax is not None
        turned, chosen = f"{argmax.input[0]}_turned", copied(argmax)
        turn = helper.make_node("Transpose", [argmax.input[0]], [turned], perm=NHWC)
        chosen.input[0] = turned
        set_attribute(chosen, "axis", 3)
        graph.replace([argmax], [turn, chosen])
    return len(names)


def _named_classes(graph: Graph) -> list[str]:
    return [node.output[0] for node in graph.proto.node if node.op_type == "ArgMax"]
