"""The same matches and the same loss as torchvision's SSD on equal input."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pocketvision.nn.ssdlite import AnchorSpec
from pocketvision.train.multibox import Targets, matched, multibox_loss

pytestmark = pytest.mark.reference

ANCHORS = AnchorSpec().boxes(((10, 10), (5, 5), (3, 3), (1, 1)))
CORNERS = torch.cat([ANCHORS[:, :2] - ANCHORS[:, 2:] / 2, ANCHORS[:, :2] + ANCHORS[:, 2:] / 2], 1)
CLASSES = 4


def some_boxes(count: int, generator: torch.Generator) -> Tensor:
    low = torch.rand(count, 2, generator=generator) * 0.7
    return torch.cat([low, low + 0.02 + torch.rand(count, 2, generator=generator) * 0.28], 1)


def targets_for(boxes: Tensor, labels: Tensor) -> Targets:
    return matched(boxes, labels, torch.zeros(len(boxes), dtype=torch.bool), ANCHORS)


def rows_of(torchvision: Any, boxes: Tensor) -> Tensor:
    """torchvision's matches: the object of each anchor, negative for none."""
    matcher = torchvision.models.detection._utils.SSDMatcher(0.5)
    rows: Tensor = matcher(torchvision.ops.boxes.box_iou(boxes, CORNERS))
    return rows


@pytest.mark.parametrize("count", [1, 3, 40])
def test_matches_are_those_of_ssd_matcher(torchvision: Any, count: int) -> None:
    for seed in range(20):
        boxes = some_boxes(count, torch.Generator().manual_seed(seed))
        boxes[-1] = boxes[0]  # two of one place
        found = targets_for(boxes, torch.arange(count))
        torch.testing.assert_close(found.labels - 1, rows_of(torchvision, boxes).clamp(min=-1))


@pytest.mark.parametrize("seed", range(5))
def test_loss_is_that_of_ssd(torchvision: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes = [some_boxes(count, generator) for count in (1, 4, 9)]
    labels = [torch.randint(0, CLASSES, (len(part),), generator=generator) for part in boxes]
    logits = torch.randn(3, len(ANCHORS), CLASSES + 1, generator=generator)
    codes = torch.randn(3, len(ANCHORS), 4, generator=generator)
    detection = torchvision.models.detection
    theirs = detection.ssd.SSD.compute_loss(
        SimpleNamespace(  # what that method reads of a whole SSD
            box_coder=detection._utils.BoxCoder(weights=(10.0, 10.0, 5.0, 5.0)),
            neg_to_pos_ratio=3.0,
        ),
        [{"boxes": b, "labels": k + 1} for b, k in zip(boxes, labels, strict=True)],
        {"bbox_regression": codes, "cls_logits": logits},
        [CORNERS] * 3,
        [rows_of(torchvision, part) for part in boxes],
    )
    parts = [targets_for(b, k) for b, k in zip(boxes, labels, strict=True)]
    targets = Targets(
        labels=torch.stack([part.labels for part in parts]),
        codes=torch.stack([part.codes for part in parts]),
        left_out=torch.stack([part.left_out for part in parts]),
    )
    ours = multibox_loss(logits, codes, targets)
    expected = theirs["classification"], theirs["bbox_regression"]
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
