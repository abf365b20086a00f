"""A network's ONNX file without the exporter, in milliseconds: for files that are timed.

The nodes are those that `export_onnx` writes. What ships still comes from the exporter, which many
people use and test; what is only timed, hundreds of times, comes from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from pocketvision.boxes import CODE_WEIGHTS, LARGEST_LOG
from pocketvision.models.arch import Network
from pocketvision.models.detector import Detector
from pocketvision.models.networks import AnyNetwork
from pocketvision.models.raw import operations_of
from pocketvision.models.segmenter import Segmenter
from pocketvision.runtimes.export import BATCH
from pocketvision.runtimes.nodes import NodeWriter
from pocketvision.runtimes.onnxfile import ANSWERS, INPUT, OUTPUT, set_metadata
from pocketvision.runtimes.resizing import NHWC
from pocketvision.runtimes.runtime import FileCard
from pocketvision.storage import write_into

OPSET, IR_VERSION = 20, 10  # those of the exporter
END = np.iinfo(np.int64).max  # of a slice


def write_directly(network: AnyNetwork, path: Path, card: FileCard) -> None:
    """Write `network`, in eval mode on the CPU, as `export_onnx` writes what it answers.

    Raises: ConfigError: an operation that no network of the registry has.
    """
    writer = NodeWriter()
    writer.normalisation(network.spec.in_chans, card)
    match network:
        case Network():
            outputs = _classifier(writer, network)
        case Segmenter():
            outputs = _segmenter(writer, network)
        case Detector():
            outputs = _detector(writer, network)
    resolution, channels = card.preprocessing.resolution, network.spec.in_chans
    graph = helper.make_graph(
        writer.nodes,
        "main_graph",
        [_value(INPUT, TensorProto.UINT8, (BATCH, resolution, resolution, channels))],
        outputs,
        list(writer.constants.values()),
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    set_metadata(model, card.to_metadata())
    write_into(path, model.SerializeToString(deterministic=True))


def _classifier(writer: NodeWriter, network: Network) -> list[onnx.ValueInfoProto]:
    _raw(writer, network)
    writer.nodes[-1].output[0] = OUTPUT
    return [_value(OUTPUT, TensorProto.FLOAT, (BATCH, network.spec.num_classes))]


def _raw(writer: NodeWriter, network: AnyNetwork) -> list[str]:
    """Write all up to what the head gives; the names of that."""
    steps, outputs = operations_of(network)
    for place, step in enumerate(steps):
        writer.write(step, place, steps)
    return [writer.names[place] for place in outputs]


def _segmenter(writer: NodeWriter, network: Segmenter) -> list[onnx.ValueInfoProto]:
    """As `models.answering.SegmenterAnswers`, with the classes last as `resizing.classes_last`."""
    (coarse,) = _raw(writer, network)
    writer.nodes[-1].output[0] = OUTPUT
    size, side = writer.sizes[coarse], network.spec.resolution
    writer.node("Transpose", [OUTPUT], "logits_last", perm=NHWC)
    writer.sizes["logits_last"] = size
    writer.resize("logits_last", "logits_large", (side, side), classes_last=True)
    writer.node("ArgMax", ["logits_large"], "named", axis=3, keepdims=0)
    answer = ANSWERS["segment"]
    writer.node("Cast", ["named"], answer, to=TensorProto.UINT8)
    return [
        _value(OUTPUT, TensorProto.FLOAT, (BATCH, network.spec.num_classes, *size)),
        _value(answer, TensorProto.UINT8, (BATCH, side, side)),
    ]


def _detector(writer: NodeWriter, network: Detector) -> list[onnx.ValueInfoProto]:
    """As `models.answering.DetectorAnswers`."""
    node, constant = writer.node, writer.constant
    node("Concat", _raw(writer, network), OUTPUT, axis=2)
    bounds = {value: constant(f"bound_{value}", np.array([value])) for value in (0, 1, 2, -4, END)}

    def part(source: str, name: str, first: int, last: int) -> str:
        node("Slice", [source, bounds[first], bounds[last], bounds[2], bounds[1]], name)
        return name

    logits, codes = part(OUTPUT, "chances", 0, -4), part(OUTPUT, "codes", -4, END)
    anchors = network.spec.anchors().numpy()
    at, sides = constant("anchors_at", anchors[:, :2]), constant("anchor_sides", anchors[:, 2:])
    node("Div", [codes, constant("code_weights", np.array(CODE_WEIGHTS, np.float32))], "offsets")
    node("Mul", [part("offsets", "shifts", 0, 2), sides], "moved")
    node("Add", ["moved", at], "centres")
    largest = constant("largest_log", np.float32(LARGEST_LOG))
    node("Clip", [part("offsets", "logs", 2, END), "", largest], "capped")
    node("Exp", ["capped"], "growths")
    node("Mul", ["growths", sides], "extents")
    node("Div", ["extents", constant("two", np.float32(2))], "halves")
    node("Sub", ["centres", "halves"], "near_corners")
    node("Add", ["centres", "halves"], "far_corners")
    node("Concat", ["near_corners", "far_corners"], "boxes", axis=2)
    node("Softmax", [logits], "probabilities", axis=2)
    node("Concat", ["boxes", "probabilities"], ANSWERS["detect"], axis=2)
    shape = (BATCH, network.spec.num_anchors, network.spec.num_classes + 4)
    return [_value(name, TensorProto.FLOAT, shape) for name in (OUTPUT, ANSWERS["detect"])]


def _value(name: str, dtype: int, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)
