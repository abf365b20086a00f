"""From a float file to an INT8 graph: prepared, observed, ranged, quantized, corrected.

Activations are uint8 with a zero point, weights int8 with one scale per output channel. ONNX
Runtime's own quantizer writes the graph; the ranges it is given, and what is made of the graph
before and after, are ours.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    TensorData,
    TensorsData,
)
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process

from pocketvision.cpu import cpu
from pocketvision.errors import ConfigError, did_you_mean
from pocketvision.runtimes.graph import PRODUCTS, Graph, copied
from pocketvision.runtimes.int8.channels import fill_channels
from pocketvision.runtimes.int8.choose import choose_ranges
from pocketvision.runtimes.int8.equalise import equalise
from pocketvision.runtimes.int8.gates import drop, gates_in_integers, logits_in_float, take_bytes
from pocketvision.runtimes.int8.ranges import Range, range_of
from pocketvision.runtimes.int8.rounding import (
    correct_biases,
    guard_biases,
    integer_products,
    mean_over_places,
)
from pocketvision.runtimes.int8.statistics import (
    Batches,
    Observed,
    few,
    observe,
    watched,
    whole,
)
from pocketvision.runtimes.int8.stem import (
    Entry,
    fold_normalisation,
    group_pixels,
    paint_border,
)
from pocketvision.runtimes.int8.weights import round_weights
from pocketvision.runtimes.onnxfile import (
    drop_unused_constants,
    metadata,
    read_model,
    set_metadata,
    write_model,
)
from pocketvision.runtimes.runtime import Int8Config
from pocketvision.runtimes.tail import with_tail, without_tail

ROUNDING = 96  # images that weights are rounded by
CORRECTING = 32  # images that biases are corrected on; a session for every layer runs them
OPERATORS = sorted({*QDQRegistry, *QLinearOpsRegistry} - {"Cast"})


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Quantized:
    """An INT8 graph, the float graph it was made of, with the same names of nodes, and the file's.

    Both end with the raw outputs, as integers do; `file` goes on as the file does.
    ranges: of every tensor that became integers, with the method that set it. entry: the pixels.
    left_out: names of nodes that stay in float. pairs: equalised ones. widths: that were filled up.
    corrected: biases. guarded: channels whose bias was too large for its scale.
    """

    model: onnx.ModelProto
    prepared: onnx.ModelProto
    source: onnx.ModelProto
    ranges: dict[str, tuple[str, Range]]
    entry: Entry | None
    left_out: tuple[str, ...]
    pairs: int
    widths: int
    corrected: int = 0
    guarded: int = 0

    @property
    def methods(self) -> dict[str, int]:
        """How many tensors took their range from each method."""
        return dict(Counter(method for method, _ in self.ranges.values()))

    @property
    def file(self) -> onnx.ModelProto:
        """The INT8 graph whole, with what the file does behind the raw outputs."""
        whole = with_tail(self.model, self.source)
        drop_unused_constants(whole.graph)
        return whole

    def only(self, names: Collection[str]) -> onnx.ModelProto:
        """The network with these nodes alone in integers; biases are not corrected."""
        others = [n.name for n in self.prepared.graph.node if n.name not in names]
        ranges = {name: found for name, (_, found) in self.ranges.items()}
        capped = _before_caps(Graph(self.prepared), ranges)
        model = _integers(self.prepared, ranges | capped, others, cpu().weight_bits)
        guard_biases(Graph(model))
        return model


def static_int8(
    source: Path,
    folder: Path,
    batches: Batches,
    config: Int8Config,
    *,
    float_nodes: Sequence[str] = (),
) -> Quantized:
    """The INT8 graph of a float file, in quantize-dequantize form, with the file's metadata.

    folder: takes temporary files. batches: of calibration inputs. float_nodes: names of nodes that
    are left in float, besides the layers of `config`.
    Raises: ConfigError: values that are not numbers.
    """
    prepared = _prepare(source, folder)
    graph = Graph(prepared)
    entry = fold_normalisation(graph)
    widths = fill_channels(graph)
    if entry is not None:
        group_pixels(graph)
        paint_border(graph, entry)
    pairs = equalise(graph, batches) if config.equalise else 0
    observed = observe(prepared, activations(graph, entry), batches)
    chosen = _ranges(graph, observed, batches, config)
    if entry is not None:
        chosen[entry.tensor] = ("pixels", entry.range)
    begun = Quantized(
        model=prepared,
        prepared=prepared,
        source=read_model(source),
        ranges=chosen,
        entry=entry,
        left_out=tuple(float_nodes),
        pairs=pairs,
        widths=widths,
    )
    return with_float_layers(begun, config, batches)


def with_float_layers(begun: Quantized, config: Int8Config, batches: Batches) -> Quantized:
    """The network quantized again with the ranges it has and the layers of `config` in float.

    batches: the calibration inputs, for the biases.
    """
    entry, graph = begun.entry, Graph(begun.prepared)
    ranges = {name: found for name, (_, found) in begun.ranges.items()}
    left_out = [*begun.left_out, *nodes_of(begun.prepared, config.float_layers)]
    # The maps of a detector have scales of their own until they stand in one tensor.
    left_out += [node.name for node in graph.behind_products()]
    left_out += [] if entry is None else entry.nodes
    bits = cpu().weight_bits
    model = _integers(begun.prepared, ranges | _before_caps(graph, ranges), left_out, bits)
    integer_graph = Graph(model)
    guarded = guard_biases(integer_graph)
    if config.round_weights:
        round_weights(integer_graph, graph, few(batches, ROUNDING))
    gates_in_integers(integer_graph)
    if entry is not None:
        take_bytes(integer_graph, entry)
    logits_in_float(integer_graph)
    corrected = 0
    if config.correct_biases:
        corrected = _correct(integer_graph, graph, few(batches, CORRECTING))
    _tidy(model, begun.source, config, sum(map(len, batches)), bits)
    return replace(begun, model=model, corrected=corrected, guarded=guarded)


def activations(graph: Graph, entry: Entry | None) -> list[str]:
    """The float tensors that become integers, in the order of the graph.

    What only a ReLU or ReLU6 reads never exists in integers: saturation is the cap.
    """
    kinds = _element_types(graph.model)
    normalising = set() if entry is None else set(entry.nodes)
    return [
        name
        for node in graph.proto.node
        for name in node.output
        if kinds.get(name) == onnx.TensorProto.FLOAT
        and node.name not in normalising
        and not _is_capped(graph, name)
    ]


def _is_capped(graph: Graph, tensor: str) -> bool:
    reader = graph.only_reader(tensor)
    return reader is not None and reader.op_type in ("Relu", "Clip")


def _before_caps(graph: Graph, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The quantizer wants a range before the cap too: that of what comes out."""
    return {
        node.input[0]: ranges[node.output[0]]
        for node in graph.proto.node
        if node.op_type in ("Relu", "Clip")
        and node.output[0] in ranges
        and _is_capped(graph, node.input[0])
    }


def layer_name(node: onnx.NodeProto) -> str:
    """The layer in the network's state dict, such as "blocks.3.expand.conv"."""
    stem: str = node.input[1].partition("_of_")[0].removesuffix(".weight")
    while stem.startswith("network."):
        stem = stem.removeprefix("network.")
    return stem


def nodes_of(model: onnx.ModelProto, layers: Collection[str]) -> list[str]:
    """The names of the nodes that are these layers, each with the ReLU that belongs to it.

    Raises: ConfigError: a layer that the network does not have.
    """
    graph, found = Graph(model), []
    named = {layer_name(n): n for n in model.graph.node if n.op_type in PRODUCTS}
    for layer in layers:
        if layer not in named:
            raise ConfigError(
                f"the network has no layer {layer!r} to leave in float.{did_you_mean(layer, named)}"
            )
        found.append(named[layer].name)
        reader = graph.only_reader(named[layer].output[0])
        if reader is not None and reader.op_type in ("Relu", "Clip"):
            found.append(reader.name)
    return found


def _element_types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def _prepare(source: Path, folder: Path) -> onnx.ModelProto:
    """Hard swishes taken apart, every node with a name of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".quantize.") as temporary:
        cut, path = Path(temporary) / "cut.onnx", Path(temporary) / "prepared.onnx"
        write_model(without_tail(read_model(source)), cut)
        quant_pre_process(cut, path, skip_symbolic_shape=True)
        model = read_model(path)
    del model.graph.value_info[:]
    seen: Counter[str] = Counter()
    for node in model.graph.node:
        seen[node.name] += 1
        if not node.name or seen[node.name] > 1:
            node.name = f"{node.op_type}_{node.output[0]}"
    return model


def _ranges(
    graph: Graph, observed: Mapping[str, Observed], batches: Batches, config: Int8Config
) -> dict[str, tuple[str, Range]]:
    """Every tensor's range and the method that set it."""
    if config.ranges == "chosen":
        return dict(choose_ranges(graph, observed, batches, config.percentile))
    return {
        name: (config.ranges, range_of(seen, config.ranges, config.percentile))
        for name, seen in observed.items()
    }


def _integers(
    prepared: onnx.ModelProto, ranges: Mapping[str, Range], left_out: Sequence[str], bits: int
) -> onnx.ModelProto:
    """What ONNX Runtime's quantizer makes of a graph with these ranges."""
    inferred = onnx.shape_inference.infer_shapes(copied(prepared))
    data = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.items()
    }
    quantizer = QDQQuantizer(
        inferred,
        True,  # a scale for each output channel
        bits < 8,
        QuantType.QInt8,
        QuantType.QUInt8,
        TensorsData(CalibrationMethod.MinMax, data),
        [],
        list(left_out),
        OPERATORS,
        {"ActivationSymmetric": False, "WeightSymmetric": True},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    model: onnx.ModelProto = quantizer.model.model
    return model


def _correct(integer_graph: Graph, graph: Graph, batches: Batches) -> int:
    """Correct the biases, where the logits come nearer to those in float; returns how many."""
    biases = {
        product.bias: integer_graph.constants[product.bias]
        for product in integer_products(integer_graph)
        if product.bias is not None
    }
    (logits,) = graph.outputs
    expected = whole(graph.model, logits, batches)
    before = whole(integer_graph.model, logits, batches)
    corrected = correct_biases(integer_graph, _outputs(graph, batches), batches)
    after = whole(integer_graph.model, logits, batches)
    if np.square(after - expected).sum() < np.square(before - expected).sum():
        return corrected
    for name, values in biases.items():
        integer_graph.set_constant(name, values)
    return 0


def _outputs(graph: Graph, batches: Batches) -> dict[str, NDArray[np.float32]]:
    """(N, channels) the mean over places of what each layer gives, by the name of its node."""
    nodes = {node.output[0]: node for node in graph.proto.node if node.op_type in PRODUCTS}
    run = watched(graph.model, list(nodes))
    found: dict[str, list[NDArray[np.float64]]] = {node.name: [] for node in nodes.values()}
    for batch in batches:
        for tensor, values in run(batch).items():
            found[nodes[tensor].name].append(mean_over_places(nodes[tensor], values))
    return {name: np.concatenate(means).astype(np.float32) for name, means in found.items()}


def _tidy(
    model: onnx.ModelProto, source: onnx.ModelProto, config: Int8Config, images: int, bits: int
) -> None:
    """Unused imports, shapes and the quantizer's own name go; the card and our doing come."""
    del model.graph.value_info[:]
    drop(model, {""})
    model.producer_name, model.producer_version = source.producer_name, source.producer_version
    how = {
        "ranges": config.ranges,
        "percentile": config.percentile,
        "images": images,
        "weight_bits": bits,
        "equalised": config.equalise,
        "weights_rounded_together": config.round_weights,
        "biases_corrected": config.correct_biases,
        "float_layers": list(config.float_layers),
        "processor": list(cpu().features),
    }
    set_metadata(model, {**metadata(source), "quantization": json.dumps(how)})
