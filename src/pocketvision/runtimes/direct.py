"""A classifier's ONNX file without the exporter, in milliseconds: for files that are timed.

The nodes are those that `export_onnx` writes, in their order. What ships still comes from the
exporter, which many people use and test; what is only timed, hundreds of times, comes from here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from pocketvision.models.arch import Network
from pocketvision.nn.operations import Operation, operations
from pocketvision.runtimes.export import BATCH
from pocketvision.runtimes.onnxfile import INPUT, OUTPUT, set_metadata
from pocketvision.runtimes.runtime import FileCard
from pocketvision.storage import write_into

OPSET, IR_VERSION = 20, 10  # those of the exporter
SIMPLE = {
    "relu": "Relu",
    "hswish": "HardSwish",
    "sigmoid": "Sigmoid",
    "global_mean": "GlobalAveragePool",
    "add": "Add",
    "multiply": "Mul",
    "flatten": "Flatten",
}


def write_directly(network: Network, path: Path, card: FileCard) -> None:
    """Write `network`, in eval mode on the CPU, as `export_onnx` would.

    Raises: ConfigError: an operation that no network of the registry has.
    """
    writer = _Writer()
    writer.normalisation(network.spec.in_chans, card)
    steps = operations(network.spec.in_chans, blocks=network.blocks, head=network.head)
    for place, step in enumerate(steps):
        writer.write(step, place, steps)
    resolution, channels = card.preprocessing.resolution, network.spec.in_chans
    writer.nodes[-1].output[0] = OUTPUT
    graph = helper.make_graph(
        writer.nodes,
        "main_graph",
        [_value(INPUT, TensorProto.UINT8, (BATCH, resolution, resolution, channels))],
        [_value(OUTPUT, TensorProto.FLOAT, (BATCH, network.spec.num_classes))],
        writer.constants,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    set_metadata(model, card.to_metadata())
    write_into(path, model.SerializeToString(deterministic=True))


class _Writer:
    """Nodes and constants so far; tensors are named by the place of their operation."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.names: dict[int, str] = {}  # of the tensor that an operation gives

    def normalisation(self, channels: int, card: FileCard) -> None:
        """Pixels to what the network takes, as it is exported."""
        mean = np.array(card.preprocessing.mean, np.float32)
        std = np.array(card.preprocessing.std, np.float32)
        if channels == 1:
            mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
        self.node("Transpose", [INPUT], "permute", perm=[0, 3, 1, 2])
        self.node("Cast", ["permute"], "float", to=TensorProto.FLOAT)
        centred = ["float", self.constant("mean", mean.reshape(1, -1, 1, 1))]
        self.node("Sub", centred, "centred")
        scaled = ["centred", self.constant("scale", (1 / std).reshape(1, -1, 1, 1))]
        self.node("Mul", scaled, _tensor(0))
        self.names[0] = _tensor(0)

    def write(self, step: Operation, place: int, steps: tuple[Operation, ...]) -> None:
        """Append what `step` does, unless an operation before it did."""
        if place in self.names:
            return
        inputs = [self.names[source] for source in step.inputs]
        name = self.names[place] = _tensor(place)
        match step.kind:
            case "conv":
                norm = _norm_behind(place, steps)
                if norm is not None:
                    self.names[norm] = name
                self.convolution(step, inputs, name, None if norm is None else steps[norm])
            case "linear":
                module = step.module
                assert isinstance(module, nn.Linear)
                weights = [self.constant(f"network.{step.path}.weight", _array(module.weight))]
                weights += [self.constant(f"network.{step.path}.bias", _array(module.bias))]
                self.node("Gemm", inputs + weights, name, transB=1)
            case "relu6":
                bounds = [self.constant(f"{name}_{v}", np.float32(v)) for v in (0.0, 6.0)]
                self.node("Clip", inputs + bounds, name)
            case "hsigmoid":
                self.node("HardSigmoid", inputs, name, alpha=1 / 6, beta=0.5)
            case "global_max":
                axes = self.constant(f"{name}_axes", np.array([2, 3], np.int64))
                self.node("ReduceMax", [*inputs, axes], name, keepdims=1)
            case "mean_pool" | "max_pool":
                self.pool(step, inputs, name)
            case "channel_mean" | "channel_max":
                operator = "ReduceMean" if step.kind == "channel_mean" else "ReduceMax"
                axes = self.constant(f"{name}_axes", np.array([1], np.int64))
                self.node(operator, [*inputs, axes], name, keepdims=1)
            case "concatenate":
                self.node("Concat", inputs, name, axis=1)
            case "shuffle":
                order = self.order(step.channels, step.number)
                self.node("Gather", [*inputs, order], name, axis=1)
            case "halve":
                self.halves(step, place, steps)
            case kind:
                self.node(SIMPLE[kind], inputs, name)

    def convolution(
        self, step: Operation, inputs: list[str], name: str, norm: Operation | None
    ) -> None:
        conv = step.module
        assert isinstance(conv, nn.Conv2d)
        weight = _array(conv.weight)
        bias = None if conv.bias is None else _array(conv.bias)
        if norm is not None:
            assert isinstance(norm.module, nn.BatchNorm2d)
            weight, bias = _folded(weight, bias, norm.module)
        names = [self.constant(f"network.{step.path}.weight", weight)]
        if bias is not None:
            names.append(self.constant(f"network.{step.path}.weight_bias", bias))
        (top, left), strides = (int(p) for p in conv.padding), list(conv.stride)
        self.node(
            "Conv",
            inputs + names,
            name,
            group=conv.groups,
            pads=[top, left, top, left],
            strides=strides,
            dilations=list(conv.dilation),
            kernel_shape=list(conv.kernel_size),
            auto_pad="NOTSET",
        )

    def pool(self, step: Operation, inputs: list[str], name: str) -> None:
        pool = step.module
        assert isinstance(pool, nn.MaxPool2d | nn.AvgPool2d)
        shape = {
            "kernel_shape": [pool.kernel_size] * 2,
            "strides": [pool.stride] * 2,
            "pads": [pool.padding] * 4,
        }
        if isinstance(pool, nn.MaxPool2d):
            self.node("MaxPool", inputs, name, **shape)
        else:
            self.node("AveragePool", inputs, name, **shape, count_include_pad=0)

    def halves(self, step: Operation, place: int, steps: tuple[Operation, ...]) -> None:
        """Both halves at once: the other has an operation of its own, further on."""
        both = {half: f"split_{_tensor(place)}_{half}" for half in (0, 1)}
        self.names[place] = both[step.number]
        for later in range(place + 1, len(steps)):
            if steps[later].kind == "halve" and steps[later].inputs == step.inputs:
                self.names[later] = both[steps[later].number]
        source = self.names[step.inputs[0]]
        self.nodes.append(
            helper.make_node("Split", [source], list(both.values()), axis=1, num_outputs=2)
        )

    def order(self, channels: int, groups: int) -> str:
        """The constant that a shuffle takes; units of the same width share one."""
        name = f"order_{channels}_{groups}"
        if any(constant.name == name for constant in self.constants):
            return name
        places = np.arange(channels, dtype=np.int64)
        return self.constant(name, places.reshape(groups, -1).T.flatten())

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        name = f"node_{operator}_{len(self.nodes):03d}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name, **attributes))

    def constant(self, name: str, values: NDArray[np.generic] | np.generic) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name


def _tensor(place: int) -> str:
    """As long as the names that the exporter gives: INT8 files repeat them, and sizes should be
    those of the files that will ship."""
    return f"tensor_{place:03d}"


def _norm_behind(place: int, steps: tuple[Operation, ...]) -> int | None:
    """Place of the batch norm that a convolution's output goes to; None without one."""
    after = place + 1
    if after < len(steps) and steps[after].kind == "norm" and steps[after].inputs == (place,):
        return after
    return None


def _folded(
    weight: NDArray[np.float32], bias: NDArray[np.float32] | None, norm: nn.BatchNorm2d
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight and bias of a convolution with the norm behind it in them."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = _array(norm.weight) / np.sqrt(_array(norm.running_var) + np.float32(norm.eps))
    mean = _array(norm.running_mean) if bias is None else _array(norm.running_mean) - bias
    return weight * scale[:, None, None, None], _array(norm.bias) - mean * scale


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().contiguous().numpy()
    return array


def _value(name: str, dtype: int, shape: tuple[int | str, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)
