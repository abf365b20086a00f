"""The same weights give the same pixels and the same boxes in torchvision."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pocketvision.boxes import Selection, select
from pocketvision.measure.count import count
from pocketvision.models.dense_weights import start_dense
from pocketvision.models.detector import Detector, decoded, ssdlite
from pocketvision.models.mobilenet_v3 import mobilenet_v3_large
from pocketvision.models.segmenter import lr_aspp

pytestmark = pytest.mark.reference


@torch.no_grad()
def seeded(module: Any) -> Any:
    """Weights and norms in which a mistake would show."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.ndim == 1:
            low, high = (0.8, 1.4) if name.endswith("weight") else (-0.3, 0.3)
            tensor.uniform_(low, high, generator=generator)
    return module.eval()


@torch.no_grad()
def test_lr_aspp_gives_torchvision_s_logits(torchvision: Any, tmp_path: Path) -> None:
    theirs = seeded(
        torchvision.models.segmentation.lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=21
        )
    )
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours, _ = start_dense(lr_aspp(mobilenet_v3_large(), 21), tmp_path / "theirs.pth")
    x = torch.randn(2, 3, 130, 97, generator=torch.Generator().manual_seed(1))
    expected = theirs(x)["out"]
    assert expected.std() > 1e-2
    torch.testing.assert_close(ours.eval()(x), expected, atol=1e-4, rtol=1e-4)
    entry = torchvision.models.segmentation.LRASPP_MobileNet_V3_Large_Weights.DEFAULT
    assert count(ours.spec).parameters == entry.meta["num_params"]


@torch.no_grad()
def test_ssdlite_gives_torchvision_s_boxes(torchvision: Any, tmp_path: Path) -> None:
    theirs = seeded(
        torchvision.models.detection.ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=91, score_thresh=0.02
        )
    )
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    spec = ssdlite(mobilenet_v3_large(reduced_tail=True), 91).at(320)
    ours, _ = start_dense(spec, tmp_path / "theirs.pth")
    assert isinstance(ours, Detector)
    images = torch.rand(2, 3, 320, 320, generator=torch.Generator().manual_seed(1))
    x = (images - 0.5) / 0.5
    raw = theirs.head(list(theirs.backbone(x).values()))
    logits, codes = ours.eval()(x)
    torch.testing.assert_close(logits, raw["cls_logits"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(codes, raw["bbox_regression"], atol=1e-4, rtol=1e-4)
    boxes = decoded(codes, spec.anchors()).numpy()
    for row, expected in enumerate(theirs(list(images))):
        found = select(boxes[row], logits[row].softmax(-1).numpy(), Selection(least=0.02))
        assert len(found.scores) == len(expected["scores"]) > 0
        np.testing.assert_allclose(found.scores, expected["scores"], atol=1e-4)
        np.testing.assert_allclose(320 * found.boxes, expected["boxes"], atol=0.05)
        np.testing.assert_array_equal(found.classes, expected["labels"])
    entry = torchvision.models.detection.SSDLite320_MobileNet_V3_Large_Weights.DEFAULT
    assert count(spec).parameters == entry.meta["num_params"]
