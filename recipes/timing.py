"""Small ONNX graphs, made node by node, and the time ONNX Runtime takes for them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from pocketvision.measure.latency import LatencyProtocol, measure_latency
from pocketvision.nn.conv import ConvSpec
from pocketvision.record.timing import Latency
from pocketvision.runtimes.onnxfile import inspect_onnx, random_inputs, write_model
from pocketvision.runtimes.onnxruntime import foreign_run

OPSET, IR_VERSION = 17, 10  # every ONNX Runtime of the last years reads them
THREADS = 1
PROTOCOL = LatencyProtocol(rounds=20, min_runs=3, seconds=2.0, retries=2)
NONE: Mapping[str, float | list[int]] = MappingProxyType({})
ACTIVATIONS = {"relu": "Relu", "hswish": "HardSwish"}


class Graph:
    """An ONNX graph that grows; every method takes and gives names of tensors.

    Weights are normal, scaled so that signals neither grow nor fade; biases are 0.
    """

    def __init__(self, shape: tuple[int, int, int, int], *, seed: int = 0) -> None:
        self.shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[np.generic]] = {}
        self._generator = np.random.default_rng(seed)

    def op(
        self, kind: str, *inputs: str, attributes: Mapping[str, float | list[int]] = NONE
    ) -> str:
        """One node of the standard operators."""
        name = f"t{len(self.nodes)}"
        node = helper.make_node(kind, list(inputs), [name])
        node.attribute.extend(helper.make_attribute(key, attributes[key]) for key in attributes)
        self.nodes.append(node)
        return name

    def constant(self, value: NDArray[np.generic]) -> str:
        """A stored tensor."""
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def conv(self, x: str, spec: ConvSpec) -> str:
        """A convolution into which its norm has been folded, and its activation."""
        shape = (spec.c_out, spec.c_in // spec.groups, spec.kernel, spec.kernel)
        gain = 1.0 if spec.act == "none" else 2.0  # a ReLU halves the power
        scale = math.sqrt(gain / math.prod(shape[1:]))
        weight = self._generator.standard_normal(shape, dtype=np.float32) * np.float32(scale)
        out = self.op(
            "Conv",
            x,
            self.constant(weight),
            self.constant(np.zeros(spec.c_out, np.float32)),
            attributes={
                "kernel_shape": [spec.kernel] * 2,
                "strides": [spec.stride] * 2,
                "pads": [spec.kernel // 2] * 4,
                "group": spec.groups,
            },
        )
        return out if spec.act == "none" else self.op(ACTIVATIONS[spec.act], out)

    def model(self) -> onnx.ModelProto:
        """The model: float (N, C, H, W) "x" -> whatever the last node gives."""
        graph = helper.make_graph(
            self.nodes,
            "recipe",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(self.nodes[-1].output[0], TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def measure_graphs(
    graphs: Mapping[str, Graph], protocol: LatencyProtocol = PROTOCOL
) -> dict[str, Latency]:
    """Time all graphs in turns, with ONNX Runtime on one thread; what was measured, by name."""
    with tempfile.TemporaryDirectory() as folder:
        sessions = {}
        for index, (name, graph) in enumerate(graphs.items()):
            path = Path(folder) / f"{index}.onnx"
            write_model(graph.model(), path)
            sessions[name] = foreign_run(path, random_inputs(inspect_onnx(path)), THREADS)
        return measure_latency(sessions, protocol, THREADS)


def optimised_operators(graph: Graph) -> list[str]:
    """The operators ONNX Runtime runs once it has optimised a graph, in order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3  # it warns that such a file suits this machine only
        onnxruntime.InferenceSession(
            graph.model().SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return [node.op_type for node in onnx.load(path).graph.node]


def cell(latency: Latency) -> str:
    """The median in ms with its 95 % interval, for a table."""
    return f"{latency.median_ms:.3g} ({latency.low_ms:.3g} to {latency.high_ms:.3g})"


def how_measured(latencies: Iterable[Latency]) -> str:
    """What stands beside a table of times: what they are, and whether they can be trusted."""
    latencies = list(latencies)
    runs = [latency.runs for latency in latencies]
    noisy = sum(bool(latency.noise) for latency in latencies)
    return (
        "Times are medians of single runs taken in turns, with the 95 % interval of the median; "
        f"n = {min(runs)} to {max(runs)} runs each. "
        + (f"{noisy} of {len(runs)} intervals are wider than a fifth of the median." * bool(noisy))
    ).strip()
