"""Boxes: overlap, the code that a detector learns, and non-maximum suppression.

A box is (x0, y0, x1, y1) in fractions of the image's width and height, so that it holds at every
size; x0 <= x1 and y0 <= y1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketvision.errors import at_least, check_shape, in_range

Boxes = npt.NDArray[np.float32]  # (N, 4)
Scores = npt.NDArray[np.float32]  # (N,)
Rows = npt.NDArray[np.int64]  # (n,)

# SSD's variances: codes are divided by 0.1 of an anchor's extent, and by 0.2 in log scale.
CODE_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
LARGEST_LOG = math.log(1000 / 16)  # a code cannot enlarge its anchor more than that


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Objects:
    """What is to be found in each of N images, one column per fact of M objects.

    boxes: (M, 4) float32. labels: (M,) int32, index into the classes, among which the background
    is not. ignored: (M,) bool, objects whose finding neither counts nor fails (VOC's "difficult",
    COCO's crowds). starts: (N + 1,) int64: the objects of image i are rows starts[i] to
    starts[i + 1].

    Raises: ConfigError: columns that do not match.
    """

    boxes: Boxes
    labels: npt.NDArray[np.int32]
    ignored: npt.NDArray[np.bool_]
    starts: Rows

    def __post_init__(self) -> None:
        count = int(self.starts[-1])
        check_shape("boxes", self.boxes.shape, (count, 4))
        check_shape("labels", self.labels.shape, (count,))
        check_shape("ignored", self.ignored.shape, (count,))

    @classmethod
    def joined(cls, parts: Sequence[Objects]) -> Objects:
        """The images of all parts, in turn."""
        counts = [np.diff(part.starts) for part in parts]
        return cls(
            boxes=np.concatenate([np.zeros((0, 4), np.float32), *(p.boxes for p in parts)]),
            labels=np.concatenate([np.zeros(0, np.int32), *(p.labels for p in parts)]),
            ignored=np.concatenate([np.zeros(0, bool), *(p.ignored for p in parts)]),
            starts=np.concatenate([[0], np.cumsum(np.concatenate([[], *counts]))]).astype(np.int64),
        )

    def __len__(self) -> int:
        """Images."""
        return len(self.starts) - 1

    def take(self, images: Rows) -> Objects:
        """Those images, in that order."""
        return Objects.joined([self.of(image) for image in images.tolist()])

    def of(self, image: int) -> Objects:
        """One image alone."""
        start, end = int(self.starts[image]), int(self.starts[image + 1])
        return Objects(
            boxes=self.boxes[start:end],
            labels=self.labels[start:end],
            ignored=self.ignored[start:end],
            starts=np.array([0, end - start], np.int64),
        )


def areas(boxes: Boxes) -> npt.NDArray[np.float32]:
    """(..., 4) -> (...)."""
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    found: npt.NDArray[np.float32] = sides[..., 0] * sides[..., 1]
    return found


def iou(first: Boxes, second: Boxes) -> npt.NDArray[np.float32]:
    """Intersection over union of each with each: (N, 4), (M, 4) -> (N, M); 0 of empty boxes."""
    # One coordinate at a time: numpy is slow along axes of two.
    (left, top, right, bottom), (x0, y0, x1, y1) = first.T[:, :, None], second.T[:, None]
    widths = np.minimum(right, x1) - np.maximum(left, x0)
    heights = np.minimum(bottom, y1) - np.maximum(top, y0)
    shared = np.maximum(widths, 0) * np.maximum(heights, 0)
    union = areas(first)[:, None] + areas(second)[None] - shared
    found: npt.NDArray[np.float32] = np.zeros_like(shared)
    np.divide(shared, union, out=found, where=union > 0)
    return found


def suppressed(boxes: Boxes, scores: Scores, threshold: float) -> Rows:
    """Rows that stay, best first: none overlaps a better one by an IoU above `threshold`.

    Of equal scores the earlier row is the better one.
    """
    order = np.argsort(-scores, kind="stable")
    overlaps = iou(boxes[order], boxes[order]) > threshold
    alive = np.ones(len(order), bool)
    for row in range(len(order)):
        if alive[row]:
            alive[row + 1 :] &= ~overlaps[row, row + 1 :]
    kept: Rows = order[alive].astype(np.int64)
    return kept


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which of a detector's boxes are told.

    least: score, 0..1. candidates: of each class, that are looked at. overlap: IoU above which the
    worse of two boxes of a class goes. most: boxes of an image. The defaults are torchvision's for
    SSDLite, which tell nearly all, as an evaluation wants it.

    Raises: ConfigError: a field outside its range.
    """

    least: float = 0.001
    candidates: int = 300
    overlap: float = 0.55
    most: int = 300

    def __post_init__(self) -> None:
        in_range("least", self.least, 0.0, 1.0)
        at_least("candidates", self.candidates, 1)
        in_range("overlap", self.overlap, 0.0, 1.0)
        at_least("most", self.most, 1)


# What a user is told: shipped scripts and files with the selection inside tell these.
TOLD = Selection(least=0.3, candidates=100, overlap=0.55, most=100)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Detections:
    """What was found in one image, the surest first. classes: (n,) int64, the background 0."""

    boxes: Boxes
    scores: Scores
    classes: Rows


def select(boxes: Boxes, scores: Scores, selection: Selection) -> Detections:
    """The boxes that are told, of (M, 4) boxes and (M, K) probabilities, class 0 the background."""
    clipped = np.clip(boxes, 0, 1)
    label, row = np.nonzero(scores.T[1:] > selection.least)
    label += 1
    chances = scores[row, label]
    # A box can only be suppressed by surer ones: the first few tell all that will be told.
    looked, alive = 0, np.zeros(0, np.int64)
    while looked < len(chances) and len(alive) < selection.most:
        looked = max(2 * looked, 2 * selection.most)
        first = _surest(chances, looked)
        alive = first[_alive(clipped[row[first]], chances[first], label[first], selection)]
    told = alive[: selection.most]
    return Detections(boxes=clipped[row[told]], scores=chances[told], classes=label[told])


def _surest(chances: Scores, count: int) -> Rows:
    """Places of so many at least, the surest first; of equal ones all, in their order."""
    if count < len(chances):
        places = np.flatnonzero(chances >= np.partition(chances, -count)[-count])
    else:
        places = np.arange(len(chances))
    return places[np.argsort(-chances[places], kind="stable")]


def _alive(boxes: Boxes, scores: Scores, classes: Rows, selection: Selection) -> Rows:
    """Places, rising, of the boxes that no surer one of their class suppresses; surest first."""
    kept = [np.zeros(0, np.int64)]
    for label in np.unique(classes):
        of_class = np.flatnonzero(classes == label)[: selection.candidates]
        kept.append(of_class[suppressed(boxes[of_class], scores[of_class], selection.overlap)])
    return np.sort(np.concatenate(kept))
