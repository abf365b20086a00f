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
AT_ONCE = 4_000_000  # boxes of samples: 32 MB a column of them

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Hits:
    """The D boxes of a class, best first, up to the last that hits at any overlap.

    images: (D,) the image of each. places: for each of `OVERLAPS` the rows of them that hit,
    rising. hidden: (T, D) those that do not count at an overlap; None: all do.
    """

    images: Rows
    places: tuple[Rows, ...]
    hidden: Flags | None

    def ap(self, weights: Rows, objects: Rows) -> Floats:
        """(S,) the AP of S samples. weights: (S, N) how often each image counts. objects: (S,) to
        be found in them, at least 1.
        """
        some = max(1, AT_ONCE // max(1, len(self.images)))
        parts = [slice(start, start + some) for start in range(0, len(weights), some)]
        return np.concatenate([self._ap(weights[part], objects[part]) for part in parts])

    def _ap(self, weights: Rows, objects: Rows) -> Floats:
        drawn = weights[:, self.images]
        counted = np.cumsum(drawn, axis=1)
        found = np.zeros(len(weights))
        for overlap, places in enumerate(self.places):
            if self.hidden is not None:
                counted = np.cumsum(np.where(self.hidden[overlap], 0, drawn), axis=1)
            if len(places):
                right = np.cumsum(drawn[:, places], axis=1)
                found += _precisions(right, counted[:, places], objects).mean(axis=1)
        return found / len(self.places)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Matches:
    """What a detector hit in N images.

    hits: of each class. objects: (K, N) int64, those of each class in each image that are to be
    found.
    """

    hits: tuple[Hits, ...]
    objects: Rows

    def ap(self, weights: Rows) -> Floats:
        """(S,) COCO's AP of S samples, in which images count weights (S, N) times; NaN of no
        objects.

        Classes without objects in a sample do not count there.
        """
        total, classes = np.zeros(len(weights)), np.zeros(len(weights), np.int64)
        for hits, count in zip(self.hits, self.objects @ weights.T, strict=True):
            told = count > 0
            if told.any():
                total[told] += hits.ap(weights[told], count[told])
                classes += told
        mean = np.full(len(weights), np.nan)
        np.divide(total, classes, out=mean, where=classes > 0)
        return mean


def _precisions(right: Rows, counted: Rows, objects: Rows) -> Floats:
    """(S, 101) at `RECALLS`: the best precision at that recall or a higher one.

    right, counted: (S, H) at each hit the hits and the boxes so far. objects: (S,).
    """
    precision = np.zeros(right.shape)
    np.divide(right, counted, out=precision, where=counted > 0)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    needed = _needed(objects)
    # Rows lie one behind the other, far enough apart, so that one search serves all.
    rows = np.arange(len(right))[:, None]
    apart = 1 + max(int(right.max()), int(needed.max()))
    at = np.searchsorted((right + apart * rows).ravel(), needed + apart * rows, side="left")
    beyond = np.concatenate([best, np.zeros((len(best), 1))], axis=1)
    found: Floats = np.take_along_axis(beyond, at - rows * right.shape[1], axis=1)
    return found


def _needed(objects: Rows) -> Rows:
    """(S, 101): the fewest hits whose share of the objects, as a float, is a recall or more."""
    all_objects = objects[:, None]
    needed = np.ceil(RECALLS * all_objects).astype(np.int64)
    needed -= (needed - 1) / all_objects >= RECALLS
    needed += needed / all_objects < RECALLS
    return needed


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

    def hits(self) -> Hits:
        """Best first over all images; of equal scores those of earlier images."""
        order = np.argsort(-np.concatenate(self.scores), kind="stable")
        images = np.concatenate(self.images)[order]
        hit = np.concatenate(self.hit, axis=1)[:, order]
        places = tuple(np.flatnonzero(right) for right in hit)
        # Boxes behind the last hit change no precision.
        read = max((int(rows[-1]) + 1 for rows in places if len(rows)), default=0)
        hidden = np.concatenate(self.ignored, axis=1)[:, order[:read]]
        return Hits(images=images[:read], places=places, hidden=hidden if hidden.any() else None)


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
