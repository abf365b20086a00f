"""Which boxes that were found hit an object, kept so that AP of resampled images costs little.

Matches of an image do not depend on other images. An image drawn twice counts twice: AP of any
sample follows from the matches of all images and how often each of these was drawn. (Of equal
scores within one image, its copies stand together here, where the evaluator has one copy of the
image behind the other.)

Source: Lin et al., Microsoft COCO, and COCO's evaluation code; boxes of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pocketvision.boxes import Boxes, Detections, Objects
from pocketvision.errors import require

EXTRA = "detection"  # brings faster-coco-eval

OVERLAPS = np.linspace(0.5, 0.95, 10)  # (T,) IoU at which boxes count as hits
RECALLS = np.linspace(0.0, 1.0, 101)  # at which precision is read
MOST = 100  # boxes of a class in an image that are looked at, best first

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Hits:
    """The D boxes of a class that count at one overlap, best first, up to the last that hits.

    images: (D,) the image of each. places: (H,) the rows of them that hit, rising.
    """

    images: Rows
    places: Rows

    def precisions(self, weights: Rows, objects: int) -> Floats:
        """(101,) at `RECALLS`: the best precision at that recall or a higher one.

        weights: (N,) how often each image counts. objects: to be found in them, at least 1.
        """
        counted = np.cumsum(weights[self.images])[self.places]
        right = np.cumsum(weights[self.images[self.places]])
        precision = np.zeros(len(right))
        np.divide(right, counted, out=precision, where=counted > 0)
        best = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(right / objects, RECALLS, side="left")
        found: Floats = np.append(best, 0.0)[at]
        return found


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Matches:
    """What a detector hit in N images.

    hits: of each class, at each of `OVERLAPS`. objects: (K, N) int64, those of each class in each
    image that are to be found.
    """

    hits: tuple[tuple[Hits, ...], ...]
    objects: Rows

    def ap(self, weights: Rows) -> float:
        """COCO's AP of the images, each counted weights (N,) times; NaN of no objects.

        Classes without objects among them do not count.
        """
        counts = (self.objects @ weights).tolist()
        per_class = [
            np.mean([one.precisions(weights, count).mean() for one in overlaps])
            for overlaps, count in zip(self.hits, counts, strict=True)
            if count
        ]
        return float(np.mean(per_class)) if per_class else float("nan")


def match(
    found: Sequence[Detections],
    objects: Objects,
    sizes: npt.NDArray[np.int32],
    num_classes: int,
) -> Matches:
    """Match what was found in N images to their objects, as COCO does for objects of any size.

    sizes: (N, 2), width and height of the images in pixels. num_classes: without the background.
    Raises: MissingExtraError: without faster-coco-eval.
    """
    per_class = [_Collected() for _ in range(num_classes)]
    counts = np.zeros((num_classes, len(found)), np.int64)
    for image, detections in enumerate(found):
        truth = objects.of(image)
        order = np.argsort(-detections.scores, kind="stable")
        classes, scores = detections.classes[order], detections.scores[order]
        boxes = pixel_boxes(detections.boxes[order], sizes[image])
        wanted = pixel_boxes(truth.boxes, sizes[image])
        counts[:, image] = np.bincount(truth.labels[~truth.ignored], minlength=num_classes)
        for label in (np.unique(classes) - 1).tolist():
            rows = np.flatnonzero(classes == label + 1)[:MOST]
            of_class = truth.labels == label
            real, ignored = wanted[of_class & ~truth.ignored], wanted[of_class & truth.ignored]
            per_class[label].add(image, scores[rows], *_hits(boxes[rows], real, ignored))
    return Matches(hits=tuple(one.hits() for one in per_class), objects=counts)


def pixel_boxes(boxes: Boxes, size: npt.NDArray[np.int32]) -> Floats:
    """Corners (n, 4) in fractions -> x, y, width, height in pixels, as COCO writes boxes.

    size: width and height of the one image, (2,), or of that of every box, (n, 2).
    """
    corners = boxes.astype(np.float64) * np.tile(size, 2)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


class _Collected:
    """Boxes of a class, image by image."""

    def __init__(self) -> None:
        self.images = [np.zeros(0, np.int64)]
        self.scores = [np.zeros(0, np.float32)]
        self.hit = [np.zeros((len(OVERLAPS), 0), bool)]
        self.ignored = [np.zeros((len(OVERLAPS), 0), bool)]

    def add(self, image: int, scores: npt.NDArray[np.float32], hit: Flags, ignored: Flags) -> None:
        """scores: (n,), best first. hit, ignored: (T, n)."""
        self.images.append(np.full(len(scores), image, np.int64))
        self.scores.append(scores)
        self.hit.append(hit)
        self.ignored.append(ignored)

    def hits(self) -> tuple[Hits, ...]:
        """Best first over all images; of equal scores those of earlier images."""
        order = np.argsort(-np.concatenate(self.scores), kind="stable")
        images = np.concatenate(self.images)[order]
        hit = np.concatenate(self.hit, axis=1)[:, order]
        counts = ~np.concatenate(self.ignored, axis=1)[:, order]
        found = []
        for right, kept in zip(hit, counts, strict=True):
            places = np.flatnonzero(right[kept])
            read = places[-1] + 1 if len(places) else 0  # boxes behind it change no precision
            found.append(Hits(images=images[kept][:read], places=places))
        return tuple(found)


def _hits(boxes: Floats, wanted: Floats, ignored: Floats) -> tuple[Flags, Flags]:
    """(T, n) each: the boxes that hit an object, and those that hit only an ignored one.

    boxes: (n, 4), the best first, which takes the object it overlaps most of those not yet taken.
    An ignored object may be hit often, and by the share of the box that lies within it.
    """
    hit = np.zeros((len(OVERLAPS), len(boxes)), bool)
    if not len(wanted) and not len(ignored):
        return hit, hit
    overlaps = _overlaps(boxes, wanted, crowd=False)  # (n, m)
    free = np.ones((len(OVERLAPS), len(wanted)), bool)
    for row in np.flatnonzero((overlaps >= OVERLAPS[0]).any(axis=1)):
        able = free & (overlaps[row] >= OVERLAPS[:, None])
        # The last of equal ones, as in COCO's code.
        best = len(wanted) - 1 - np.where(able, overlaps[row], -1.0)[:, ::-1].argmax(axis=1)
        hit[:, row] = able.any(axis=1)
        free[hit[:, row], best[hit[:, row]]] = False
    hidden = _overlaps(boxes, ignored, crowd=True).max(axis=1, initial=0) >= OVERLAPS[:, None]
    return hit, hidden & ~hit


def _overlaps(boxes: Floats, objects: Floats, *, crowd: bool) -> Floats:
    """(n, m), by the evaluator's own arithmetic: an IoU of just 0.5 falls on the same side."""
    if not len(boxes) or not len(objects):
        return np.zeros((len(boxes), len(objects)))
    iou = require("faster_coco_eval", EXTRA).mask.iou
    found: Floats = np.asarray(iou(boxes, objects, [int(crowd)] * len(objects)))
    return found
