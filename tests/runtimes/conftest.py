"""One small network, its batch norms settled on images, exported and quantized once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import normalise
from pocketvision.models.arch import Network
from pocketvision.models.registry import spec
from pocketvision.runtimes.export import export_onnx
from pocketvision.runtimes.int8.static import Quantized, static_int8
from pocketvision.runtimes.int8.statistics import watched
from pocketvision.runtimes.onnxfile import INPUT, OUTPUT
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.runtime import Calibration, FileCard, Int8Config, Pixels

RESOLUTION = 32


@pytest.fixture(scope="session")
def make_network() -> Callable[[int], Network]:
    """in_chans -> the first blocks of a MobileNetV3: h-swish, gates, a residual; 4 classes."""

    def make(in_chans: int) -> Network:
        whole = spec("mobilenet_v3_small", resolution=RESOLUTION, num_classes=4, in_chans=in_chans)
        blocks = whole.blocks[:6]
        head = replace(whole.head, c_in=blocks[-1].c_out)
        return replace(whole, blocks=blocks, head=head).build(seed=0)

    return make


@pytest.fixture(scope="session")
def card() -> FileCard:
    return FileCard(
        name="mobilenet_v3_small",
        classes=("ant", "bee", 'c"at', "dög"),
        preprocessing=Preprocessing.for_resolution(RESOLUTION),
    )


@pytest.fixture(scope="session")
def pixels() -> Pixels:
    """Images with structure: coarse noise of changing brightness."""
    generator = np.random.default_rng(1)
    coarse = generator.integers(0, 256, (24, 8, 8, 3)).astype(np.float64)
    images = coarse.repeat(4, 1).repeat(4, 2) * generator.uniform(0.3, 1, (24, 1, 1, 1))
    return images.astype(np.uint8)


@pytest.fixture(scope="session")
def network(make_network: Callable[[int], Network], card: FileCard, pixels: Pixels) -> Network:
    """Its logits differ from image to image, as a trained network's do."""
    built = make_network(3)
    images = normalise(torch.from_numpy(pixels), card.preprocessing)
    norms = [module for module in built.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = None  # the plain average of what was seen
            norm.reset_running_stats()
        built.train()(images)
        for parameter in built.head.parameters():
            parameter.mul_(30)
    return built.eval()


@pytest.fixture(scope="session")
def float_file(network: Network, card: FileCard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("float") / "model.onnx"
    export_onnx(network, path, card)
    return path


@pytest.fixture(scope="session")
def int8_file(float_file: Path, pixels: Pixels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "model.onnx"
    OnnxRuntime().quantize(float_file, path, Calibration(pixels=pixels))
    return path


Line = tuple[str, str, str, Mapping[str, Any]]  # operator, what it takes, what it gives, attributes

OPSET, IR_VERSION = 21, 10  # of the graphs made by hand


@pytest.fixture(scope="session")
def make_model() -> Callable[..., onnx.ModelProto]:
    """lines, constants, shape of one input -> a graph from "input" to "logits".

    Each node is named after what it gives. With mean and std of the colours the input is pixels,
    (H, W, C) bytes, and the lines begin with "images", (C, H, W), as in an exported file.
    """

    def make(
        lines: Sequence[Line],
        constants: Mapping[str, ArrayLike],
        shape: Sequence[int],
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
    ) -> onnx.ModelProto:
        stored = {name: np.asarray(value) for name, value in constants.items()}
        first: list[Line] = []
        if mean:
            stored["mean"] = np.array(mean, np.float32).reshape(1, -1, 1, 1)
            stored["scale"] = 1 / np.array(std, np.float32).reshape(1, -1, 1, 1)
            first = [
                ("Transpose", INPUT, "planes", {"perm": [0, 3, 1, 2]}),
                ("Cast", "planes", "floats", {"to": TensorProto.FLOAT}),
                ("Sub", "floats mean", "centred", {}),
                ("Mul", "centred scale", "images", {}),
            ]
        nodes = [
            helper.make_node(operator, taken.split(" "), given.split(" "), name=given, **attributes)
            for operator, taken, given, attributes in [*first, *lines]
        ]
        kind = TensorProto.UINT8 if mean else TensorProto.FLOAT
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info(INPUT, kind, ["batch", *shape])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in stored.items()],
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        del model.graph.value_info[:]
        onnx.checker.check_model(model, full_check=True)
        return model

    return make


@pytest.fixture(scope="session")
def evaluate() -> Callable[..., NDArray[np.float32]]:
    """A model, a batch of inputs, the name of a float tensor -> that tensor."""

    def run(
        model: onnx.ModelProto, inputs: NDArray[Any], tensor: str = OUTPUT
    ) -> NDArray[np.float32]:
        return watched(model, [tensor])(inputs)[tensor]

    return run


@pytest.fixture(scope="session")
def tiny_model(make_model: Callable[..., onnx.ModelProto]) -> onnx.ModelProto:
    """From 16x16 pixels to 5 logits: h-swish, squeeze-and-excitation, ReLU6, a residual.

    Channels differ in size as a trained network's do.
    """
    generator = np.random.default_rng(0)
    stored: dict[str, ArrayLike] = {"zero": np.float32(0), "six": np.float32(6)}

    def layer(name: str, given: int, taken: int, kernel: int = 1) -> str:
        shape = (given, taken, kernel, kernel)
        sizes = generator.uniform(0.3, 3, (given, 1, 1, 1)) / np.sqrt(taken * kernel * kernel)
        stored[f"network.{name}.weight"] = np.float32(generator.standard_normal(shape) * sizes)
        stored[f"network.{name}.bias"] = np.float32(generator.standard_normal(given) / 2)
        return f"network.{name}.weight network.{name}.bias"

    def hswish(taken: str, given: str) -> list[Line]:
        gate = ("HardSigmoid", taken, f"{given}_gate", {"alpha": 1 / 6})
        return [gate, ("Mul", f"{taken} {given}_gate", given, {})]

    pads = {"pads": [1, 1, 1, 1]}
    lines: list[Line] = [
        ("Conv", f"images {layer('stem', 8, 3, 3)}", "s", {**pads, "strides": [2, 2]}),
        *hswish("s", "s2"),
        ("Conv", f"s2 {layer('expand', 24, 8)}", "e", {}),
        ("Relu", "e", "e2", {}),
        ("Conv", f"e2 {layer('depthwise', 24, 1, 3)}", "d", {**pads, "group": 24}),
        *hswish("d", "d2"),
        ("GlobalAveragePool", "d2", "g", {}),
        ("Conv", f"g {layer('reduce', 6, 24)}", "r", {}),
        ("Relu", "r", "r2", {}),
        ("Conv", f"r2 {layer('restore', 24, 6)}", "q", {}),
        ("HardSigmoid", "q", "gate", {"alpha": 1 / 6}),
        ("Mul", "d2 gate", "d3", {}),
        ("Conv", f"d3 {layer('project', 8, 24)}", "p", {}),
        ("Add", "p s2", "sum", {}),
        ("Conv", f"sum {layer('widen', 18, 8)}", "w", {}),
        ("Clip", "w zero six", "w2", {}),
        (
            "Conv",
            f"w2 {layer('filter', 18, 1, 3)}",
            "f",
            {**pads, "strides": [2, 2], "group": 18},
        ),
        ("Clip", "f zero six", "f2", {}),
        ("Conv", f"f2 {layer('narrow', 12, 18)}", "n", {}),
        ("GlobalAveragePool", "n", "mean_map", {}),
        ("Flatten", "mean_map", "flat", {}),
        ("Gemm", "flat network.head.weight network.head.bias", "logits", {"transB": 1}),
    ]
    stored["network.head.weight"] = np.float32(generator.standard_normal((5, 12)) * 5)
    stored["network.head.bias"] = np.float32(generator.standard_normal(5))
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    return make_model(lines, stored, (16, 16, 3), mean, std)


@pytest.fixture(scope="session")
def tiny_batches() -> list[Pixels]:
    """16 + 8 images of 16x16 pixels with structure, for `tiny_model`."""
    generator = np.random.default_rng(1)
    coarse = generator.integers(0, 256, (24, 4, 4, 3)).astype(np.float64)
    images = coarse.repeat(4, 1).repeat(4, 2) * generator.uniform(0.3, 1, (24, 1, 1, 1))
    return [images[:16].astype(np.uint8), images[16:].astype(np.uint8)]


@pytest.fixture(scope="session")
def quantize_model(
    tiny_batches: list[Pixels], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Quantized]:
    """A model, a configuration, other images than `tiny_batches` -> its INT8 graph."""

    def run(
        model: onnx.ModelProto, config: Int8Config, batches: Sequence[Pixels] = ()
    ) -> Quantized:
        folder = tmp_path_factory.mktemp("quantized")
        path = folder / "model.onnx"
        path.write_bytes(model.SerializeToString())
        found = static_int8(path, folder, batches or tiny_batches, config)
        onnx.checker.check_model(found.model, full_check=True)
        return found

    return run
