"""What is written otherwise for OpenVINO gives what the network gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pocketvision.measure.untrained import stand_in, untrained_card, write_untrained
from pocketvision.models.registry import spec
from pocketvision.models.segmenter import lr_aspp
from pocketvision.nn.dense_heads import LrAspp
from pocketvision.runtimes.direct import write_directly
from pocketvision.runtimes.onnxfile import read_model, write_model
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.openvino import OpenVino
from pocketvision.runtimes.openvino_graph import (
    name_by_pixel,
    resize_maps,
    shuffled_groups,
    transpose_shuffles,
)
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


def test_logits_are_resized_as_maps_and_the_classes_stay(tmp_path: Path) -> None:
    network = lr_aspp(spec("mobilenet_v3_small", width=0.35, resolution=64), 5).build(seed=0).eval()
    assert isinstance(network.head, LrAspp)
    torch.nn.init.normal_(network.head.low_classifier.weight, 0.0, 10.0)  # maps of many classes
    path = tmp_path / "float.onnx"
    write_directly(network, path, untrained_card(network.spec))
    pixels: Pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    expected = OnnxRuntime().session(path, "f32", 1).run(pixels)
    assert len(np.unique(expected)) > 2
    model = read_model(path)
    ends = []
    for rewrite in (resize_maps, name_by_pixel):
        assert rewrite(model) == 1
        ends.append([node.op_type for node in model.graph.node][-4:])
        write_model(model, tmp_path / "rewritten.onnx")
        found = OnnxRuntime().session(tmp_path / "rewritten.onnx", "f32", 1).run(pixels)
        assert (found == expected).mean() > 0.999
    assert ends == [["Add", "Resize", "ArgMax", "Cast"], ["Resize", "Transpose", "ArgMax", "Cast"]]
    assert resize_maps(model) == 0


def test_a_classifier_has_no_maps_to_resize(tmp_path: Path) -> None:
    write_untrained(spec("mobilenet_v3_small", width=0.35, resolution=32), tmp_path / "n.onnx")
    model = read_model(tmp_path / "n.onnx")
    assert (resize_maps(model), name_by_pixel(model)) == (0, 0)
