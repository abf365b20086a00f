"""How well classes of pixels are told: intersection over union, with intervals over images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.masks.mask import VOID, Mask, resized_mask
from pocketvision.errors import DataError, check_shape
from pocketvision.measure.judge import Answers, Rows
from pocketvision.record.scores import Comparison, Score
from pocketvision.record.words import Metric

DRAWS = 1000  # of the bootstrap
PERCENTILES = (2.5, 97.5)
DRAWN_AT_ONCE = 50

Counts = NDArray[np.int64]  # (..., K, K): pixels, rows are the true classes


def pixel_confusion(answer: Mask, truth: Mask, classes: int) -> Counts:
    """(K, K) pixels: rows are the true classes, columns the named ones; void pixels do not count.

    answer: (h, w) uint8, of any size: each pixel of the truth takes the nearest. truth: (H, W).
    """
    named = resized_mask(answer, (truth.shape[0], truth.shape[1]))
    known = truth != VOID
    pairs = truth[known].astype(np.int64) * classes + named[known]
    counts = np.bincount(pairs, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def class_ious(counts: Counts) -> NDArray[np.float64]:
    """(..., K, K) -> (..., K): intersection over union; NaN of a class that occurs in neither."""
    right = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    union = counts.sum(-1) + counts.sum(-2) - right
    ious = np.full(right.shape, np.nan)
    np.divide(right, union, out=ious, where=union > 0)
    return ious


def mean_iou(counts: Counts) -> NDArray[np.float64]:
    """(..., K, K) -> (...): the mean over the classes that occur."""
    ious = class_ious(counts)
    occurs = np.isfinite(ious)
    mean: NDArray[np.float64] = np.where(occurs, ious, 0).sum(-1) / np.maximum(occurs.sum(-1), 1)
    return mean


def pixel_accuracy(counts: Counts) -> float:
    """The share of pixels that are named rightly."""
    return float(np.trace(counts) / max(1, counts.sum()))


def bootstrap(
    counts: Counts, figure: Callable[[Counts], NDArray[np.float64]], seed: int = 0
) -> NDArray[np.float64]:
    """(DRAWS,) of a figure, of as many images drawn with replacement; counts: (N, ...) by image."""
    generator, images = np.random.default_rng(seed), len(counts)
    flat = counts.reshape(images, -1).astype(np.float64)  # exact: pixels are far below 2^53
    found = []
    for _ in range(DRAWS // DRAWN_AT_ONCE):
        weights = generator.multinomial(images, np.full(images, 1 / images), DRAWN_AT_ONCE)
        drawn = (weights @ flat).astype(np.int64).reshape(DRAWN_AT_ONCE, *counts.shape[1:])
        found.append(figure(drawn))
    return np.concatenate(found)


def iou_score(counts: Counts) -> Score:
    """mIoU of (N, K, K) counts by image, with the bootstrap's interval."""
    low, high = np.percentile(bootstrap(counts, mean_iou), PERCENTILES).tolist()
    value = float(mean_iou(counts.sum(0)))
    return Score(
        value=value, low=min(low, value), high=max(high, value), n=len(counts), metric="mIoU"
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SegmentationJudge:
    """A `Judge` of maps of classes, (N, h, w) uint8, against masks of any size.

    read: the (H, W) uint8 mask of a row, 255 where there is no class. rows: (N,) of the images.
    """

    read: Callable[[int], Mask]
    rows: Rows
    classes: int
    metric: Metric = "mIoU"

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Rows) -> SegmentationJudge:
        return replace(self, rows=self.rows[rows])

    def counts(self, answers: Answers) -> Counts:
        """(N, K, K) pixels by image. Raises: ConfigError: answers of another shape."""
        check_shape("answers", answers.shape, (len(self), None, None))
        return np.stack(
            [
                pixel_confusion(answer, self.read(row), self.classes)
                for answer, row in zip(answers, self.rows.tolist(), strict=True)
            ]
        )

    def compare(
        self, answers: Answers, reference: Answers, *, subject: str, reference_name: str, split: str
    ) -> Comparison:
        """As `Judge.compare`; agreement is the share of pixels that both name alike.

        Raises: DataError: no images. ConfigError: answers of another shape.
        """
        if not len(self):
            raise DataError("there are no images to measure a network on.")
        check_shape(f"answers of {subject}", answers.shape, reference.shape)
        both = np.stack([self.counts(answers), self.counts(reference)], axis=1)  # (N, 2, K, K)

        def drop(drawn: Counts) -> NDArray[np.float64]:
            mean: NDArray[np.float64] = mean_iou(drawn)  # (draws, 2)
            return mean[:, 1] - mean[:, 0]

        low, high = np.percentile(bootstrap(both, drop), PERCENTILES).tolist()
        own, other = iou_score(both[:, 0]), iou_score(both[:, 1])
        return Comparison(
            subject=subject,
            reference=reference_name,
            split=split,
            accuracy=own,
            reference_accuracy=other,
            drop=other.value - own.value,
            drop_low=low,
            drop_high=high,
            agreement=float((answers == reference).mean()),
            largest_difference=None,
        )
