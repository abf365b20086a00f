"""The way from pixels to the first convolution, in integers.

An exported file subtracts a mean from every colour and multiplies by a scale. As a quantized
operator that costs more than any layer: ONNX Runtime works on pixels side by side, three numbers at
a time. Folded into the first convolution it costs nothing, and the bytes of the pixels are its
quantized input as they are: value = (pixel - PIXEL_ZERO) / 64.

The kernel of ONNX Runtime for symmetric weights takes channels by fours; three colours go through
another, twice as slow. Four pixels side by side are twelve channels: a 3x3 convolution with stride
2 becomes a 3x2 one over groups of four that gives two places at a time, and the bytes stay where
they are.

A convolution pads with zeros, which are the mean of each colour; bytes have one zero for all, a
grey. Where the means differ, the pixels are therefore given a border of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from pocketvision.runtimes.graph import Graph, attributes, set_attribute, tensor_shapes

PIXEL_SCALE = 1 / 64  # about the spread of normalised pixels, and exact in float32
GROUP = 4  # pixels side by side


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """The quantized input of a graph: value = (pixel - zero) * scale.

    tensor: what the first convolution reads. nodes: names of those that make it from bytes.
    bytes_tensor: the pixels, transposed, as bytes. border: the mean of each colour.
    """

    tensor: str
    bytes_tensor: str
    zero: int
    nodes: tuple[str, ...]
    border: tuple[int, ...]
    scale: float = PIXEL_SCALE

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value."""
        return -self.zero * self.scale, (255 - self.zero) * self.scale


def fold_normalisation(graph: Graph) -> Entry | None:
    """Move mean and scale of the colours into the first convolution; None: no such beginning.

    Outputs stay the same but for the outermost places, where the padding of the convolution is
    then a grey, the mean of the colours' means, in place of each colour's own: see `paint_border`.
    """
    found = _beginning(graph)
    if found is None:
        return None
    transpose, cast, subtract, multiply, conv = found
    mean = graph.constants[subtract.input[1]].reshape(-1).astype(np.float64)
    scale = graph.constants[multiply.input[1]].reshape(-1).astype(np.float64)
    weight = graph.constants[conv.input[1]].astype(np.float64)
    bias = _bias(graph, conv, len(weight))
    zero = int(np.clip(np.rint(mean.mean()), 0, 255))
    shift = np.einsum("oikl,i->o", weight, (zero - mean) * scale)
    folded = weight * scale[None, :, None, None] / PIXEL_SCALE
    graph.set_constant(graph.own(conv, 1), folded.astype(np.float32))
    _set_bias(graph, conv, (bias + shift).astype(np.float32))
    subtract.input[1] = graph.set_constant("pixel_zero", np.float32(zero))
    multiply.input[1] = graph.set_constant("pixel_scale", np.float32(PIXEL_SCALE))
    return Entry(
        tensor=multiply.output[0],
        bytes_tensor=transpose.output[0],
        zero=zero,
        nodes=(cast.name, subtract.name, multiply.name),
        border=tuple(np.rint(mean).clip(0, 255).astype(int).tolist()),
    )


def group_pixels(graph: Graph) -> bool:
    """Let the first convolution read four pixels at a time; False: it is of another form.

    Outputs stay the same. After `fold_normalisation`.
    """
    found = _beginning(graph)
    if found is None:
        return False
    transpose, _, _, _, conv = found
    weight = graph.constants[conv.input[1]]
    facts = attributes(conv)
    _, _, width, colours = tensor_shapes(graph.model)[graph.proto.input[0].name]
    plain = facts.get("group", 1) == 1 and list(facts.get("dilations", [1, 1])) == [1, 1]
    is_usual = (
        plain
        and weight.shape[1:] == (colours, 3, 3)
        and list(facts.get("strides", [1, 1])) == [2, 2]
        and list(facts.get("pads", [0] * 4)) == [1, 1, 1, 1]
    )
    if not is_usual or width % GROUP or 2 * len(weight) < 16:
        return False
    last = graph.only_reader(conv.output[0])
    end = last if last is not None and last.op_type in ("Relu", "Clip") else conv
    _write_groups(graph, transpose, conv, end, weight, colours)
    return True


def paint_border(graph: Graph, entry: Entry) -> bool:
    """Pad the pixels with each colour's mean, as bytes; False: the convolution's own zeros do.

    Outputs are those before `fold_normalisation`, but for the rounding of the means to bytes.
    After `group_pixels`, if that is done.
    """
    found = _beginning(graph)
    if found is None or all(colour == entry.zero for colour in entry.border):
        return False
    transpose, _, _, _, conv = found
    facts = attributes(conv)
    if not any(facts.get("pads", [0])):
        return False
    kernel = graph.constants[conv.input[1]].shape[2:]
    pads, strides = list(facts["pads"]), facts.get("strides", [1, 1])
    sizes = tensor_shapes(graph.model)[transpose.input[0]]
    colours = np.resize(np.array(entry.border, np.uint8), (1, 1, 1, sizes[3]))
    graph.set_constant("border_colours", colours)
    source, made = transpose.input[0], []
    for axis in (0, 1):
        first, last, size = pads[axis], pads[axis + 2], sizes[axis + 1]
        places = (size + first + last - kernel[axis]) // strides[axis] + 1
        last = max((places - 1) * strides[axis] + kernel[axis] - first - size, 0)  # that is read
        nodes = _bordered(graph, source, axis + 1, first, last)
        source = nodes[-1].output[0] if nodes else source
        made += nodes
        pads[axis], pads[axis + 2] = 0, pads[axis + 2] - last
    name = transpose.input[0]
    graph.replace([transpose], [*made, transpose])
    graph.rename_input(name, source, of=[graph.maker(entry.bytes_tensor) or transpose])
    set_attribute(graph.maker(conv.output[0]) or conv, "pads", pads)
    return True


def _bordered(graph: Graph, source: str, axis: int, first: int, last: int) -> list[onnx.NodeProto]:
    """Bytes with `first` places before them and `last` behind, whatever their other sizes are."""
    made, parts = [], {}
    where = graph.set_constant(f"border_{axis}_axis", np.array([axis]))
    start = graph.set_constant("border_start", np.array([0]))
    for side, count in (("before", first), ("after", last)):
        if count < 1:
            continue
        name = f"border_{axis}_{side}"
        like, shape = f"{name}_like", f"{name}_shape"
        end = graph.set_constant(f"{name}_end", np.array([count]))
        made += [
            helper.make_node("Slice", [source, start, end, where], [like], like),
            helper.make_node("Shape", [like], [shape], shape),
            helper.make_node("Expand", ["border_colours", shape], [name], name),
        ]
        parts[side] = name
    if not made:
        return []
    order = [parts.get("before"), source, parts.get("after")]
    name = f"border_{axis}"
    return [*made, helper.make_node("Concat", list(filter(None, order)), [name], name, axis=axis)]


def _write_groups(
    graph: Graph,
    transpose: onnx.NodeProto,
    conv: onnx.NodeProto,
    end: onnx.NodeProto,
    weight: NDArray[np.float32],
    colours: int,
) -> None:
    channels = len(weight)
    graph.set_constant(graph.own(conv, 1), grouped_weight(weight))
    bias = _bias(graph, conv, channels)
    _set_bias(graph, conv, np.tile(bias, 2).astype(np.float32))
    conv_name = conv.name
    whole, placed = end.output[0], "pixels_placed"
    facts = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 1, 1, 0]}
    grouped = graph.set_constant("pixels_in", np.array([0, 0, -1, GROUP * colours]))
    apart = graph.set_constant("pixels_out", np.array([0, 0, -1, channels]))
    source = transpose.input[0]
    before = [
        helper.make_node("Reshape", [source, grouped], ["pixels_grouped"], "group_pixels"),
        helper.make_node(
            "Transpose",
            ["pixels_grouped"],
            [transpose.output[0]],
            transpose.name,
            perm=[0, 3, 1, 2],
        ),
    ]
    graph.replace([transpose], before)
    conv = next(node for node in graph.proto.node if node.name == conv_name)
    kept = [item for item in conv.attribute if item.name not in (*facts, "auto_pad")]
    del conv.attribute[:]
    conv.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in facts.items())])
    end = graph.maker(whole) or conv
    end.output[0] = placed
    after = [
        helper.make_node(
            "Transpose", [placed], [f"{placed}_last"], "places_last", perm=[0, 2, 3, 1]
        ),
        helper.make_node("Reshape", [f"{placed}_last", apart], [f"{placed}_apart"], "places_apart"),
        helper.make_node(
            "Transpose", [f"{placed}_apart"], [whole], "places_first", perm=[0, 3, 1, 2]
        ),
    ]
    graph.replace([end], [end, *after])


def grouped_weight(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """(C, c, 3, 3) of a convolution with stride 2 and padding 1 -> (2 C, 4 c, 3, 2) over groups.

    Output channel p C + o is channel o at the place 2 q + p; input channel j c + i is colour i of
    the pixel 4 q + j; the first column of the kernel is the group before.
    """
    channels, colours = weight.shape[:2]
    made = np.zeros((2, channels, GROUP, colours, 3, 2), np.float32)
    for place in range(2):
        for column in range(3):
            pixel = 2 * place + column - 1
            made[place, :, pixel % GROUP, :, :, 0 if pixel < 0 else 1] = weight[..., column]
    return made.reshape(2 * channels, GROUP * colours, 3, 2)


def _beginning(graph: Graph) -> tuple[onnx.NodeProto, ...] | None:
    """Transpose, Cast, Sub, Mul and Conv, if the graph begins with them and nothing else reads."""
    name = graph.proto.input[0].name
    nodes = []
    for wanted in ("Transpose", "Cast", "Sub", "Mul", "Conv"):
        node = graph.only_reader(name)
        while node is not None and node.op_type in ("Reshape", "Concat") and wanted == "Transpose":
            node = graph.only_reader(node.output[0])
        if node is None or node.op_type != wanted:
            return None
        if wanted in ("Sub", "Mul") and node.input[1] not in graph.constants:
            return None
        nodes.append(node)
        name = node.output[0]
    return tuple(nodes)


def _bias(graph: Graph, conv: onnx.NodeProto, channels: int) -> NDArray[np.float64]:
    if len(conv.input) < 3:
        return np.zeros(channels)
    return graph.constants[conv.input[2]].astype(np.float64)


def _set_bias(graph: Graph, conv: onnx.NodeProto, bias: NDArray[np.float32]) -> None:
    if len(conv.input) < 3:
        conv.input.append(graph.set_constant(f"{conv.input[1]}_bias", bias))
    else:
        graph.set_constant(graph.own(conv, 2), bias)
