"""What a segmenter says of pixels: scored, recorded and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pocketvision.data.folders import printable
from pocketvision.data.masks.mask import VOID, Mask, resized_mask
from pocketvision.data.masks.samples import MaskedSamples
from pocketvision.fitting.artefact import upright
from pocketvision.fitting.pictures import as_jpeg, as_png, small_image, voc_colours
from pocketvision.fitting.tasks.task import Evidence
from pocketvision.measure.judge import Answers
from pocketvision.measure.segmentation import (
    SegmentationJudge,
    class_ious,
    iou_score,
    mean_iou,
    pixel_accuracy,
)
from pocketvision.record.scores import Score, SegmentationFigures, SegmentedImage
from pocketvision.storage import write_atomic

SHOWN = 12  # images in the report, the worst
SHOWN_SIDE = 160  # pixels of the longer side of each of the three pictures
STRENGTH = 0.55  # of the colours over the image


def judge_of(samples: MaskedSamples, rows: np.ndarray) -> SegmentationJudge:
    """Who knows the masks of those rows."""
    return SegmentationJudge(read=samples.masks.read, rows=rows, classes=len(samples.classes))


def score_of(samples: MaskedSamples, rows: np.ndarray, answers: Answers) -> Score:
    """mIoU of the answers for those rows, at the size of their masks."""
    return iou_score(judge_of(samples, rows).counts(answers))


def segmenter_evidence(samples: MaskedSamples, rows: np.ndarray, answers: Answers) -> Evidence:
    """What is recorded of the shipped file's answers for those rows, (n, h, w) uint8.

    Raises: DataError: an image or a mask changed since it was scanned.
    """
    counts = judge_of(samples, rows).counts(answers)
    whole, each = counts.sum(axis=0), mean_iou(counts)
    worst = np.argsort(each, kind="stable")[:SHOWN]
    ious = [None if np.isnan(iou) else float(iou) for iou in class_ious(whole)]
    return Evidence(
        confusion=tuple(tuple(row) for row in whole.tolist()),
        segmentation=SegmentationFigures(
            pixel_accuracy=pixel_accuracy(whole),
            class_ious=tuple(ious),
            images=tuple(
                SegmentedImage(
                    path=printable(samples.paths[rows[k]]),
                    miou=float(each[k]),
                    picture=_picture(samples, int(rows[k]), answers[k]),
                )
                for k in worst
            ),
        ),
    )


def _picture(samples: MaskedSamples, row: int, answer: Mask) -> str:
    """The image, with its mask over it, and with the answer over it, side by side."""
    image = small_image(samples.read_unchanged(row), SHOWN_SIDE)
    plain = np.asarray(image)
    size = (image.height, image.width)
    masks = (samples.masks.read(row), answer)
    shown = [plain, *(overlaid(plain, resized_mask(mask, size)) for mask in masks)]
    return as_jpeg(Image.fromarray(np.concatenate(shown, axis=1)))


def overlaid(image: np.ndarray, classes: Mask) -> np.ndarray:
    """(H, W, 3) uint8 with the colour of each pixel's class over it; void stays as it is."""
    colours = voc_colours(256)[classes].astype(np.float32)
    mixed = (1 - STRENGTH) * image + STRENGTH * colours
    shown: np.ndarray = np.where((classes == VOID)[..., None], image, mixed.round())
    return shown.astype(np.uint8)


def class_shares(classes: Mask, names: Sequence[str]) -> dict[str, float]:
    """The share of an image's pixels that each class has, the largest first; absent ones not."""
    counts = np.bincount(classes.ravel(), minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    return {names[k]: float(counts[k] / classes.size) for k in order if counts[k]}


def picture_of(image: Path, classes: Mask, out: Path) -> None:
    """Write a PNG of an image file with the colours of its classes over it, atomically.

    classes: (H, W) uint8, of the upright image. Raises: DataError: it cannot be read.
    """
    write_atomic(out, as_png(Image.fromarray(overlaid(upright(image), classes))))
