"""Maps of classes, in the order of axes in which OpenVINO resizes them and finds the best fast."""

from __future__ import annotations

import onnx
from onnx import helper

from pocketvision.runtimes.graph import Graph, copied, set_attribute
from pocketvision.runtimes.resizing import NHWC

NCHW = [0, 3, 1, 2]  # the axes of NHWC, the channels in front again
TURNED = ("Resize", "Transpose")  # what `resizing.classes_last` has before an ArgMax


def resize_maps(model: onnx.ModelProto) -> int:
    """Undo `resizing.classes_last`, in place: logits are resized as maps; returns how many.

    OpenVINO 2026.4 is slow to resize what has its classes last.
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

    OpenVINO 2026.4 is faster so in float32, and slower in bfloat16.
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
