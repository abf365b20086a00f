"""Maps of classes as OpenVINO likes them name the same classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pocketvision.measure.untrained import untrained_card, write_untrained
from pocketvision.models.registry import spec
from pocketvision.models.segmenter import lr_aspp
from pocketvision.nn.dense_heads import LrAspp
from pocketvision.runtimes.direct import write_directly
from pocketvision.runtimes.onnxfile import read_model, write_model
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.openvino_maps import name_by_pixel, resize_maps
from pocketvision.runtimes.runtime import Pixels


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
