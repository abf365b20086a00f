"""What SSD learns by: which anchor answers for which object, and the multibox loss.

Source: Liu et al., SSD, section 2.2 (matching strategy, training objective, hard negative mining);
who wins where several may is as in torchvision.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pocketvision.boxes import Objects
from pocketvision.errors import check_shape
from pocketvision.models.detector import encoded

LEAST_OVERLAP = 0.5  # IoU from which an anchor answers for an object
NEGATIVES_PER_POSITIVE = 3

# An image without objects would teach nothing by the ratio alone, though whatever is found in it is
# false. It counts as many negatives as an image in which one anchor answers for one object.
LONE_NEGATIVES = 3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Targets:
    """What M anchors should say, of one image or of a batch.

    labels: (..., M) int64, the class of the object that an anchor answers for, the background 0.
    codes: (..., M, 4) float32, the object's box as a code; 0 of the background.
    left_out: (..., M) bool, background that is not to be learned, as it shows an ignored object.
    """

    labels: Tensor
    codes: Tensor
    left_out: Tensor


def matched(boxes: Tensor, labels: Tensor, ignored: Tensor, anchors: Tensor) -> Targets:
    """The targets of one image with m objects.

    Every anchor answers for the object it overlaps most, if by an IoU of `LEAST_OVERLAP`; every
    object's best anchor answers for it whatever the IoU, for the last object where it is the best
    anchor of several. Anchors that overlap an ignored object that much and answer for none are left
    out. Objects without width or height have no code and get no anchor.

    boxes: (m, 4) float32 corners. labels: (m,) int, the background not counted. ignored: (m,) bool.
    anchors: (M, 4) float32, centre x, centre y, width, height, M >= 1.
    Source: Liu et al., SSD, section 2.2, "Matching strategy".
    """
    real = (boxes[:, 2:] > boxes[:, :2]).all(1)
    wanted = real & ~ignored
    corners = torch.cat(
        [anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2], 1
    )
    rows = _answered(_overlaps(boxes[wanted], corners))  # (M,)
    positive = rows >= 0
    hidden = (_overlaps(boxes[real & ignored], corners) >= LEAST_OVERLAP).any(0)

    classes = torch.zeros(len(anchors), dtype=torch.int64, device=anchors.device)
    classes[positive] = labels[wanted][rows[positive]].long() + 1
    codes = torch.zeros_like(anchors)
    codes[positive] = encoded(boxes[wanted][rows[positive]], anchors[positive])
    return Targets(labels=classes, codes=codes, left_out=hidden & ~positive)


def targets_of(objects: Objects, anchors: Tensor) -> Targets:
    """The targets of a batch of N >= 1 images, on the device of the (M, 4) anchors."""
    boxes, labels, ignored = (
        torch.from_numpy(column).to(anchors.device)
        for column in (objects.boxes, objects.labels, objects.ignored)
    )
    parts = [
        matched(boxes[start:end], labels[start:end], ignored[start:end], anchors)
        for start, end in itertools.pairwise(objects.starts.tolist())
    ]
    return Targets(
        labels=torch.stack([part.labels for part in parts]),
        codes=torch.stack([part.codes for part in parts]),
        left_out=torch.stack([part.left_out for part in parts]),
    )


def multibox_loss(logits: Tensor, codes: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Classification and localisation loss of a batch, two scalars to be added.

    Classification is the cross-entropy of the positive anchors and of the `hard_negatives`,
    localisation the smooth L1 distance of the positives' codes. Both are sums, divided by the
    batch's number of positives. Images without any count as one positive in that number where
    there would else be fewer: a batch of such images weighs no more for having many of them.

    logits: (N, M, K + 1), the background first. codes: (N, M, 4).
    Raises: ConfigError: shapes that do not match.
    Source: Liu et al., SSD, section 2.2, "Training objective", equations 1 to 3, alpha = 1.
    """
    check_shape("logits", logits.shape, (*targets.labels.shape, None))
    check_shape("codes", codes.shape, targets.codes.shape)
    positive = targets.labels > 0
    lone = ~positive.any(1)
    count = torch.maximum(positive.sum(), lone.sum()).clamp(min=1)

    surprise = F.cross_entropy(logits.flatten(0, 1), targets.labels.flatten(), reduction="none")
    surprise = surprise.view_as(targets.labels)
    learned = positive | hard_negatives(surprise, targets)
    distance = F.smooth_l1_loss(codes[positive], targets.codes[positive], reduction="sum")
    return surprise[learned].sum() / count, distance / count


def hard_negatives(surprise: Tensor, targets: Targets) -> Tensor:
    """(N, M) bool: the background anchors of each image that surprise most.

    They are three for each positive of the image, `LONE_NEGATIVES` in an image without any; fewer
    where there are no more (torchvision then counts positives a second time).

    surprise: (N, M), the cross-entropy of each anchor.
    Source: Liu et al., SSD, section 2.2, "Hard negative mining".
    """
    positive = targets.labels > 0
    able = ~(positive | targets.left_out)
    counts = positive.sum(1)
    counts = torch.where(counts > 0, NEGATIVES_PER_POSITIVE * counts, LONE_NEGATIVES)
    most = min(int(counts.max()), able.shape[1])
    hardest = surprise.detach().masked_fill(~able, -torch.inf).topk(most, 1).indices  # (N, most)
    within = torch.arange(most, device=counts.device) < counts[:, None]
    return torch.zeros_like(able).scatter_(1, hardest, within) & able


def _answered(overlaps: Tensor) -> Tensor:
    """(m, M) -> (M,) int64: the object that each anchor answers for, -1 for none."""
    count, anchors = overlaps.shape
    if count == 0:
        return torch.full((anchors,), -1, device=overlaps.device)
    most, rows = overlaps.max(0)
    rows = rows.masked_fill(most < LEAST_OVERLAP, -1)
    best = overlaps.argmax(1)
    # By the largest number, as writing twice to one place has no order.
    numbers = torch.arange(count, device=overlaps.device)
    forced = torch.full_like(rows, -1).scatter_reduce(0, best, numbers, "amax")
    return torch.where(forced >= 0, forced, rows)


def _overlaps(boxes: Tensor, corners: Tensor) -> Tensor:
    """IoU of each with each: (m, 4), (M, 4) of corners -> (m, M)."""
    low = torch.maximum(boxes[:, None, :2], corners[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], corners[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(part[:, 2:] - part[:, :2]).prod(-1) for part in (boxes, corners)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)
