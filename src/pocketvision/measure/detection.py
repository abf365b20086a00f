"""What a detector is judged by: COCO's average precision with intervals, and agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pocketvision.boxes import Detections, Objects, iou
from pocketvision.errors import DataError, GateError, at_least, check_shape, require
from pocketvision.measure.detection_matches import EXTRA, match, pixel_boxes

Sizes = npt.NDArray[np.int32]  # (N, 2), width and height of images in pixels
Floats = npt.NDArray[np.float64]

AT_50, AT_75 = 0, 5  # places of IoU 0.50 and 0.75 among COCO's thresholds
ALL, SMALL, MEDIUM, LARGE = range(4)  # its ranges of area, from 0, 32² and 96² pixels up
PERCENTILES = (2.5, 97.5)

# A box as sure as SURE is one that a user would be shown. Its counterpart may be half as sure: a
# box whose score barely crosses the line in one of two detectors is no disagreement.
SURE, FAINT = 0.3, 0.15
SAME = 0.5  # IoU of one thing found twice


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionScores:
    """COCO's figures, 0..1; None where there is no object of that kind.

    ap: mean over the IoU thresholds 0.50, 0.55, .. 0.95 and the classes; ap50, ap75: at one
    threshold. ap_small, ap_medium, ap_large: of objects whose box is below 32², to 96², above, in
    pixels of the image; COCO's own figures go by the area of its outlines, which annotations of
    boxes lack and which is smaller. per_class, per_class_ap50: one per class. recall: of at most
    100 boxes of each class in an image, mean over thresholds and classes. precisions: for each
    class at IoU 0.5 and the recalls 0, 0.01, .. 1, the best at that recall or a higher one, 0 where
    none is as high: AP at 0.5 is their mean; () without objects.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    per_class: tuple[float | None, ...]
    per_class_ap50: tuple[float | None, ...]
    recall: float | None
    precisions: tuple[tuple[float, ...], ...]


def detection_scores(
    found: Sequence[Detections], objects: Objects, sizes: Sizes, classes: Sequence[str]
) -> DetectionScores:
    """Scores of what was found in N images; class k of `classes` is k + 1 in `found`.

    sizes: (N, 2), width and height of the images in pixels. Ignored objects are COCO's crowds.
    Raises: DataError: no images, classes outside those named. ConfigError: columns that do not
    match. GateError: scores or boxes that are NaN or infinite. MissingExtraError: without
    faster-coco-eval.
    Source: Lin et al., Microsoft COCO: Common Objects in Context; cocodataset.org, "Detection
    Evaluation".
    """
    precision, recall = _evaluated(found, objects, sizes, classes)
    everywhere = precision[..., ALL]  # (T, R, K)
    curves = everywhere[AT_50].T  # (K, R)
    return DetectionScores(
        ap=_mean(everywhere),
        ap50=_mean(everywhere[AT_50]),
        ap75=_mean(everywhere[AT_75]),
        ap_small=_mean(precision[..., SMALL]),
        ap_medium=_mean(precision[..., MEDIUM]),
        ap_large=_mean(precision[..., LARGE]),
        per_class=tuple(_mean(everywhere[..., k]) for k in range(len(classes))),
        per_class_ap50=tuple(_mean(everywhere[AT_50, :, k]) for k in range(len(classes))),
        recall=_mean(recall[..., ALL]),
        precisions=tuple(() if curve[0] < 0 else tuple(curve.tolist()) for curve in curves),
    )


def ap_draws(
    found: Sequence[Detections],
    objects: Objects,
    sizes: Sizes,
    classes: Sequence[str],
    *,
    seed: int,
    draws: int = 200,
) -> Floats:
    """(1 + draws,): AP as `detection_scores` has it, then of images drawn with replacement.

    As many images are drawn each time as there are, the same ones for the same seed. A class that a
    draw has no object of does not count in it; NaN without any object.
    Raises: as `detection_scores`. ConfigError: no draws.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13.
    """
    _check(found, objects, sizes, classes)
    at_least("draws", draws, 1)
    images = len(found)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(images, np.full(images, 1 / images), size=draws)
    matches = match(found, objects, sizes, len(classes))
    return matches.ap(np.concatenate([np.ones((1, images), np.int64), drawn]))


def percentile_interval(draws: Floats) -> tuple[float, float] | None:
    """95 % interval of what `ap_draws` gives, or of a difference of two; None without objects."""
    told = draws[1:][np.isfinite(draws[1:])]
    if not len(told):
        return None
    low, high = np.percentile(told, PERCENTILES).tolist()
    return low, high


def matched_share(found: Sequence[Detections], reference_found: Sequence[Detections]) -> float:
    """How far two detectors agree on the same images, 0..1; needs no objects.

    The share of boxes with a score of 0.3 or more, of either detector, for which the other has a
    box of the same class, of a score of 0.15 or more, with an IoU of 0.5 or more. Half the score is
    enough there: a box that is near the line in both must not count as a disagreement. 1 where
    neither finds a sure box.
    Raises: ConfigError: another number of images.
    """
    check_shape("found", (len(found),), (len(reference_found),))
    counts = np.zeros(2, np.int64)  # matched, sure
    for own, other in zip(found, reference_found, strict=True):
        counts += _seen_by(own, other)
        counts += _seen_by(other, own)
    matched, sure = counts.tolist()
    return matched / sure if sure else 1.0


def _seen_by(detections: Detections, other: Detections) -> npt.NDArray[np.int64]:
    """(2,): how many sure boxes the other detector has too, and how many there are."""
    sure, able = detections.scores >= SURE, other.scores >= FAINT
    same = detections.classes[sure][:, None] == other.classes[able][None]
    close = iou(detections.boxes[sure], other.boxes[able]) >= SAME
    return np.array([(same & close).any(axis=1).sum(), sure.sum()])


def _mean(values: Floats) -> float | None:
    """Of the values that are; the evaluator writes -1 where there is no object."""
    told = values[values > -1]
    return float(told.mean()) if told.size else None


def _evaluated(
    found: Sequence[Detections], objects: Objects, sizes: Sizes, classes: Sequence[str]
) -> tuple[Floats, Floats]:
    """Precision (T, R, K, A) and recall (T, K, A) of at most 100 boxes of a class in an image."""
    package: Any = require("faster_coco_eval", EXTRA)
    _check(found, objects, sizes, classes)
    images = [
        {"id": image + 1, "width": width, "height": height}
        for image, (width, height) in enumerate(sizes.tolist())
    ]
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(classes)]
    sides = []
    for boxes in (_truth(objects, sizes), _told(found, sizes)):
        dataset = {"images": images, "categories": categories, "annotations": boxes}
        sides.append(package.COCO(dataset, print_function=_silent))
    evaluator = package.COCOeval_faster(*sides, iouType="bbox", print_function=_silent)
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator.eval["precision"][..., -1], evaluator.eval["recall"][..., -1]


def _silent(*_: object) -> None:
    """In place of the evaluator's log."""


def _truth(objects: Objects, sizes: Sizes) -> list[dict[str, Any]]:
    images = np.repeat(np.arange(len(objects)), np.diff(objects.starts))
    nothing = np.zeros(len(images))
    columns = (objects.boxes, objects.labels + 1, nothing, objects.ignored.astype(int))
    return _annotations(images, sizes, *columns)


def _told(found: Sequence[Detections], sizes: Sizes) -> list[dict[str, Any]]:
    images = np.repeat(np.arange(len(found)), [len(one.scores) for one in found])
    boxes = np.concatenate([one.boxes for one in found])
    classes = np.concatenate([one.classes for one in found])
    scores = np.concatenate([one.scores for one in found])
    return _annotations(images, sizes, boxes, classes, scores, np.zeros(len(images), int))


def _annotations(
    images: npt.NDArray[np.int64],
    sizes: Sizes,
    boxes: npt.NDArray[np.float32],
    classes: npt.NDArray[np.integer],
    scores: npt.NDArray[np.floating],
    crowds: npt.NDArray[np.integer],
) -> list[dict[str, Any]]:
    """COCO's, one for each of n boxes. images: (n,) from 0. classes: (n,) from 1."""
    columns = (images + 1, classes, pixel_boxes(boxes, sizes[images]), scores, crowds)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        {
            "id": number,  # from 1: 0 means no match
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "area": box[2] * box[3],  # of the box: no outline is known
            "score": score,
            "iscrowd": crowd,
        }
        for number, (image, category, box, score, crowd) in enumerate(rows, 1)
    ]


def _check(
    found: Sequence[Detections], objects: Objects, sizes: Sizes, classes: Sequence[str]
) -> None:
    """Raises: as `detection_scores`."""
    if not len(objects):
        raise DataError("there are no images to measure a detector on.")
    check_shape("found", (len(found),), (len(objects),))
    check_shape("sizes", sizes.shape, (len(objects), 2))
    told = np.concatenate([one.classes for one in found])
    for name, numbers, first in (("labels of objects", objects.labels, 0), ("found", told, 1)):
        last = first + len(classes) - 1
        if len(numbers) and (numbers.min() < first or numbers.max() > last):
            raise DataError(
                f"{name}: classes go from {numbers.min()} to {numbers.max()}, but there are "
                f"{len(classes)}: {first} to {last}."
            )
    bad = sum(not (np.isfinite(d.scores).all() and np.isfinite(d.boxes).all()) for d in found)
    if bad:
        raise GateError(
            f"the detector gives scores or boxes that are not numbers on {bad} of {len(found)} "
            "images."
        )
