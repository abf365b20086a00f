"""The same weights give the same pixels and the same boxes in torchvision."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pocketvision.boxes import Selection, select
from pocketvision.measure.count import count
from pocketvision.models.arch import ArchSpec
from pocketvision.models.dense_weights import start_dense
from pocketvision.models.detector import decoded, ssdlite
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


def large() -> ArchSpec:
    """As torchvision's SSDLite has it, where it is not given weights of the backbone."""
    return mobilenet_v3_large(reduced_tail=True)


def greedy(boxes: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """Suppression one by one, in place of torchvision's compiled one, which CPU builds lack."""
    kept: list[int] = []
    for row in scores.argsort(descending=True, stable=True).tolist():
        corner = torch.maximum(boxes[row, :2], boxes[kept, :2])
        opposite = torch.minimum(boxes[row, 2:], boxes[kept, 2:])
        shared = (opposite - corner).clamp(min=0).prod(1)
        sizes = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        if not (shared / (sizes[row] + sizes[kept] - shared) > threshold).any():
            kept.append(row)
    return torch.tensor(kept, dtype=torch.int64)


@torch.no_grad()
def test_ssdlite_gives_torchvision_s_scores_and_codes(torchvision: Any, tmp_path: Path) -> None:
    theirs = seeded(
        torchvision.models.detection.ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=91
        )
    )
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours, _ = start_dense(ssdlite(large(), 91), tmp_path / "theirs.pth")
    x = torch.randn(2, 3, 320, 320, generator=torch.Generator().manual_seed(1))
    raw = theirs.head(list(theirs.backbone(x).values()))
    logits, codes = ours.eval()(x)
    torch.testing.assert_close(logits, raw["cls_logits"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(codes, raw["bbox_regression"], atol=1e-4, rtol=1e-4)
    entry = torchvision.models.detection.SSDLite320_MobileNet_V3_Large_Weights.DEFAULT
    assert count(ours.spec).parameters == entry.meta["num_params"]


@torch.no_grad()
def test_scores_and_codes_give_torchvision_s_boxes(
    torchvision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows the network there, on scores of which no two are equal."""
    monkeypatch.setattr(torchvision.ops.boxes, "nms", greedy)
    theirs = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5, score_thresh=0.3
    ).eval()
    spec = ssdlite(large(), 5).at(320)
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, spec.num_anchors, 5, generator=generator)
    codes = torch.randn(2, spec.num_anchors, 4, generator=generator)
    maps = [torch.zeros(2, 1, *size) for size in spec.map_sizes]
    images = torchvision.models.detection.image_list.ImageList(
        torch.zeros(2, 3, 320, 320), [(320, 320)] * 2
    )
    anchors = theirs.anchor_generator(images, maps)
    found = theirs.postprocess_detections(
        {"cls_logits": logits, "bbox_regression": codes}, anchors, images.image_sizes
    )
    boxes = decoded(codes, spec.anchors()).numpy()
    for row, expected in enumerate(found):
        ours = select(boxes[row], logits[row].softmax(-1).numpy(), Selection(least=0.3))
        assert len(ours.scores) == len(expected["scores"]) == 300
        np.testing.assert_allclose(ours.scores, expected["scores"], atol=1e-6)
        np.testing.assert_allclose(320 * ours.boxes, expected["boxes"], atol=1e-3)
        np.testing.assert_array_equal(ours.classes, expected["labels"])
