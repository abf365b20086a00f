"""Shuffled channels: OpenVINO gives what the network gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pocketvision.measure.untrained import stand_in, untrained_card
from pocketvision.models.registry import spec
from pocketvision.runtimes.direct import write_directly
from pocketvision.runtimes.onnxfile import read_model
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.openvino import OpenVino
from pocketvision.runtimes.openvino_graph import shuffled_groups, transpose_shuffles
from pocketvision.runtimes.runtime import Pixels


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "shufflenet_v1_g3"])
def test_shuffled_networks_answer_as_in_onnx_runtime(name: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    network = stand_in(spec(name, resolution=32, num_classes=4))
    source, target = tmp_path / "float.onnx", tmp_path / "model.xml"
    write_directly(network, source, untrained_card(network.spec))
    assert transpose_shuffles(read_model(source)) > 0
    OpenVino().convert(source, target)
    pixels: Pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    expected = OnnxRuntime().session(source, "f32", 1).run(pixels)
    found = OpenVino().session(target, "f32", 1).run(pixels)
    np.testing.assert_allclose(found, expected, atol=1e-4 * float(np.abs(expected).max()))


@pytest.mark.parametrize(
    ("order", "groups"),
    [
        ([0, 2, 4, 1, 3, 5], 3),
        ([0, 3, 1, 4, 2, 5], 2),
        ([0, 1, 2, 3], None),
        ([3, 2, 1, 0], None),
        ([0, 2, 1, 3, 5, 4], None),
        ([0, 2, 4], None),
    ],
)
def test_shuffles_are_told_from_other_orders(order: list[int], groups: int | None) -> None:
    channels = 6 if len(order) == 3 else len(order)
    assert shuffled_groups(np.array(order), channels) == groups
    assert shuffled_groups(None, channels) is None
