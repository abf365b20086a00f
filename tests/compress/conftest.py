"""A small trained-looking network as a float file, images it tells apart, and their answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from quick import export_quickly
from torch import nn

from pocketvision.compress.ladder import Subject
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import normalise
from pocketvision.measure.accuracy import LabelJudge
from pocketvision.models.registry import spec
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.runtime import FileCard, Pixels

RESOLUTION = 32


@pytest.fixture(scope="session")
def pixels() -> Pixels:
    generator = np.random.default_rng(1)
    coarse = generator.integers(0, 256, (24, 8, 8, 3)).astype(np.float64)
    images = coarse.repeat(4, 1).repeat(4, 2) * generator.uniform(0.3, 1, (24, 1, 1, 1))
    return images.astype(np.uint8)


@pytest.fixture(scope="session")
def subject(pixels: Pixels, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    whole = spec("mobilenet_v3_small", resolution=RESOLUTION, num_classes=4)
    blocks = whole.blocks[:5]
    head = replace(whole.head, c_in=blocks[-1].c_out)
    network = replace(whole, blocks=blocks, head=head).build(seed=0)
    pre = Preprocessing.for_resolution(RESOLUTION)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                module.reset_running_stats()
        network.train()(normalise(torch.from_numpy(pixels), pre))
        for parameter in network.head.parameters():
            parameter.mul_(30)
    path = tmp_path_factory.mktemp("float") / "float.onnx"
    card = FileCard(name="small", classes=("a", "b", "c", "d"), preprocessing=pre)
    export_quickly(network.eval(), path, card)
    answers = OnnxRuntime().session(path, "f32", 1).run(pixels).argmax(1)
    return Subject(
        float_onnx=path,
        calibration=pixels[:12],
        judged=pixels,
        judge=LabelJudge(labels=answers),
        max_drop_points=100.0,
    )
