"""Operations of a network as the nodes that the exporter makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from pocketvision.nn.dense_heads import POOL_STRIDE, pool_window, windows_of
from pocketvision.nn.layer import Size
from pocketvision.nn.operations import Operation
from pocketvision.runtimes.onnxfile import INPUT
from pocketvision.runtimes.resizing import NHWC, factor_to
from pocketvision.runtimes.runtime import FileCard

SIMPLE = {
    "relu": "Relu",
    "hswish": "HardSwish",
    "sigmoid": "Sigmoid",
    "global_mean": "GlobalAveragePool",
    "add": "Add",
    "multiply": "Mul",
    "flatten": "Flatten",
}


class NodeWriter:
    """Nodes and constants so far; tensors are named by the place of their operation.

    sizes: height and width of maps, by the name of the tensor.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.names: dict[int, str] = {}  # of the tensor that an operation gives
        self.sizes: dict[str, Size] = {}

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
        self.sizes[_tensor(0)] = (card.preprocessing.resolution,) * 2

    def write(self, step: Operation, place: int, steps: tuple[Operation, ...]) -> None:
        """Append what `step` does, unless an operation before it did."""
        if place in self.names:
            return
        inputs = [self.names[source] for source in step.inputs]
        name = self.names[place] = _tensor(place)
        self.sizes[name] = self.size_behind(step, inputs)
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
            case "window_means":
                window = list(pool_window(self.sizes[inputs[0]]))
                how = {"kernel_shape": window, "strides": list(POOL_STRIDE)}
                self.node("AveragePool", inputs, name, **how)
            case "resize":
                self.resize(inputs[0], name, self.sizes[inputs[1]])
            case "spread":
                shape = self.constant(f"{name}_shape", np.array([1, 1, *self.sizes[name]]))
                self.node("Expand", [inputs[0], shape], name)
            case "by_anchor":
                self.node("Transpose", inputs, f"{name}_places", perm=NHWC)
                shape = self.constant(f"{name}_shape", np.array([0, -1, step.number]))
                self.node("Reshape", [f"{name}_places", shape], name)
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

    def resize(self, source: str, name: str, size: Size, *, classes_last: bool = False) -> None:
        """Bilinear. classes_last: the channels are the last axis, in what comes in and goes out."""
        factors = [factor_to(*pair) for pair in zip(self.sizes[source], size, strict=True)]
        order = [1, *factors, 1] if classes_last else [1, 1, *factors]
        constant = self.constant(f"{name}_factors", np.array(order, np.float32))
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        self.node("Resize", [source, "", constant], name, **how, nearest_mode="floor")

    def size_behind(self, step: Operation, inputs: list[str]) -> Size:
        """Height and width of what an operation gives; (1, 1) where it has no places."""
        if step.kind.startswith("global_") or step.kind in ("flatten", "linear"):
            return 1, 1
        if step.kind == "window_means":
            return windows_of(self.sizes[inputs[0]])
        if step.kind in ("resize", "spread"):
            return self.sizes[inputs[1]]
        size = max(self.sizes[name] for name in inputs)  # a gate has one place
        module = step.module
        if not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            return size
        height, width = (_places(side, module) for side in size)
        return height, width

    def halves(self, step: Operation, place: int, steps: tuple[Operation, ...]) -> None:
        """Both halves at once: the other has an operation of its own, further on."""
        both = {half: f"split_{_tensor(place)}_{half}" for half in (0, 1)}
        self.names[place] = both[step.number]
        self.sizes.update(dict.fromkeys(both.values(), self.sizes[_tensor(place)]))
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
        places = np.arange(channels, dtype=np.int64)
        return self.constant(name, places.reshape(groups, -1).T.flatten())

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        name = f"node_{operator}_{len(self.nodes):03d}"
        self.nodes.append(helper.make_node(operator, inputs, [output], name, **attributes))

    def constant(self, name: str, values: NDArray[np.generic] | np.generic) -> str:
        """Store `values`, once, under a name: shuffles share orders, CBAM uses layers twice."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(values), name)
        return name


def _tensor(place: int) -> str:
    """As long as the names that the exporter gives: INT8 files repeat them, and sizes should be
    those of the files that will ship."""
    return f"tensor_{place:03d}"


def _places(side: int, module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> int:
    """Places along an axis behind a convolution or pool, which are the same along both."""
    kernel, stride, padding = (_one(v) for v in (module.kernel_size, module.stride, module.padding))
    reach = _one(getattr(module, "dilation", 1)) * (kernel - 1) + 1
    return (side + 2 * padding - reach) // stride + 1


def _one(value: int | str | tuple[int, ...]) -> int:
    return int(value[0]) if isinstance(value, tuple) else int(value)


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
