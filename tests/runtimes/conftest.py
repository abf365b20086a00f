"""One small network, its batch norms settled on images, exported and quantized once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import normalise
from pocketvision.models.arch import Network
from pocketvision.models.registry import spec
from pocketvision.runtimes.export import export_onnx
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.runtime import Calibration, FileCard, Pixels

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
