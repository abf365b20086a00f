"""What is made of a quantized graph so that it runs in integers from pixels to logits."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper

from pocketvision.runtimes.graph import Graph, attributes
from pocketvision.runtimes.int8.stem import Entry


def gates_in_integers(graph: Graph) -> int:
    """Hard sigmoids (of h-swish and squeeze-and-excitation) as a change of scale; how many.

    Quantized with scale 6/255 and zero point 128, x saturates where the gate does; the same bytes
    read with scale 1/255 and zero point 0 are x/6 + 128/255, the gate. There is no integer kernel
    for HardSigmoid; LeakyRelu with slope 1 is the identity, and becomes one table look-up.
    """
    changed = 0
    for node in list(graph.proto.node):
        after = graph.only_reader(node.output[0])
        if node.op_type != "HardSigmoid" or after is None or after.op_type != "QuantizeLinear":
            continue
        facts = attributes(node)
        if abs(facts.get("alpha", 0.2) - 1 / 6) > 1e-6 or facts.get("beta", 0.5) != 0.5:
            continue
        node.op_type = "LeakyRelu"
        del node.attribute[:]
        node.attribute.append(helper.make_attribute("alpha", 1.0))
        after.input[1:] = ["gate_in_scale", "gate_in_zero"]
        for reader in graph.readers(after.output[0]):
            reader.input[1:] = ["gate_out_scale", "gate_out_zero"]
        changed += 1
    if changed:
        graph.set_constant("gate_in_scale", np.float32(6 / 255))
        graph.set_constant("gate_in_zero", np.uint8(128))
        graph.set_constant("gate_out_scale", np.float32(1 / 255))
        graph.set_constant("gate_out_zero", np.uint8(0))
    return changed


def take_bytes(graph: Graph, entry: Entry) -> bool:
    """Let the first convolution read the bytes of the pixels; False: it runs in float."""
    quantize = graph.only_reader(entry.tensor)
    if quantize is None or quantize.op_type != "QuantizeLinear":
        return False
    readers = graph.readers(quantize.output[0])
    scale = graph.set_constant("pixel_scale", np.float32(entry.scale))
    zero = graph.set_constant("pixel_zero_point", np.uint8(entry.zero))
    for reader in readers:
        reader.input[1], reader.input[2] = scale, zero
    graph.rename_input(quantize.output[0], entry.bytes_tensor, of=readers)
    names = {*entry.nodes, quantize.name}
    graph.remove(node for node in graph.proto.node if node.name in names)
    for reader in readers:  # it stands for the tensor that is gone, and takes its name
        given, reader.output[0] = reader.output[0], entry.tensor
        graph.rename_input(given, entry.tensor, of=graph.readers(given))
    return True


def logits_in_float(graph: Graph) -> bool:
    """Let the last matrix product give its sums as they are, not rounded to 256 steps.

    False: the logits do not come from one.
    """
    (logits,) = graph.outputs
    last = graph.maker(logits)
    if last is None or last.op_type != "DequantizeLinear":
        return False
    quantize = graph.maker(last.input[0])
    assert quantize is not None
    product = graph.maker(quantize.input[0])
    if product is None or product.op_type != "Gemm" or len(graph.readers(product.output[0])) > 1:
        return False
    product.output[0] = logits
    graph.remove([quantize, last])
    return True


def drop(model: onnx.ModelProto, domains: Iterable[str]) -> None:
    """Remove the imports of operator sets that no node uses, other than the `domains`."""
    used = {node.domain for node in model.graph.node} | set(domains)
    for index in reversed(range(len(model.opset_import))):
        if model.opset_import[index].domain not in used:
            del model.opset_import[index]
