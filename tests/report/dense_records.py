"""Records of networks that name pixels or find objects, made of plausible figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from records import FRUIT, full_record
from whole_records import whole_record

from pocketvision.record.run import Record
from pocketvision.record.scores import (
    Comparison,
    DetectedImage,
    DetectionFigures,
    Score,
    SegmentationFigures,
    SegmentedImage,
)
from pocketvision.record.words import Metric, TaskName

CONFUSION = ((9_600, 300, 100), (500, 1_400, 100), (0, 0, 0))  # pixels; the last does not occur
IOUS = (9_600 / 10_500, 1_400 / 2_300, None)
CLASS_APS = (0.412, 0.087, None)  # the last has no object on the headline split
CLASS_AP50S = (0.731, 0.204, None)
PICTURES = ("aGFyZGVzdA==", "aGFyZA==")  # base64, the worst image first


def segmenter_record(classes: Sequence[str] = FRUIT[:3]) -> Record:
    """Of three classes, one of which occurs nowhere."""
    return replace(
        _dense("segment", "mIoU", 0.761, classes),
        confusion=CONFUSION,
        segmentation=SegmentationFigures(
            pixel_accuracy=11_000 / 12_000,
            class_ious=IOUS,
            images=tuple(
                SegmentedImage(path=f"val/{name}.jpg", miou=miou, picture=picture)
                for name, miou, picture in zip(classes, (0.213, 0.347), PICTURES, strict=False)
            ),
        ),
    )


def detector_record(classes: Sequence[str] = FRUIT[:3]) -> Record:
    """Of three classes, one of which has no object on the headline split, none of them large."""
    record = _dense("detect", "mAP", 0.249, classes)
    test = next(split for split in record.data.splits if split.name == "test")
    counted = replace(test, counts=(61, 17, 0), images=40)
    splits = tuple(counted if split is test else split for split in record.data.splits)
    return replace(
        record,
        confusion=(),
        data=replace(record.data, splits=splits),
        detection=DetectionFigures(
            ap50=0.468,
            ap75=0.226,
            ap_small=0.053,
            ap_medium=0.317,
            ap_large=None,
            class_aps=CLASS_APS,
            class_ap50s=CLASS_AP50S,
            recall=0.394,
            precisions=(_curve(0.98, 80), _curve(0.61, 30), ()),
            images=tuple(
                DetectedImage(path=f"val/{name}.jpg", objects=9, found=found, picture=picture)
                for name, found, picture in zip(classes, (2, 13), PICTURES, strict=False)
            ),
        ),
    )


def _dense(task: TaskName, metric: Metric, value: float, classes: Sequence[str]) -> Record:
    """A whole record whose scores are of another metric, without what is of a classifier alone."""
    record = whole_record(full_record(classes=classes))
    headline, quantized = _score(metric, value), record.quantization
    assert quantized is not None
    return replace(
        record,
        task=task,
        verdict=replace(record.verdict, sentence=f"It {headline.reached('test images')}."),
        headline=headline,
        variants=tuple(
            replace(one, comparison=one.comparison and _compared(metric, value, one.comparison))
            for one in record.variants
        ),
        quantization=replace(
            quantized,
            rungs=tuple(
                replace(one, comparison=one.comparison and _compared(metric, value, one.comparison))
                for one in quantized.rungs
            ),
        ),
        verification=tuple(_compared(metric, value, one) for one in record.verification),
        train_score=_score(metric, value + 0.1),
        val_score=_score(metric, value + 0.02),
        calibration=None,
        mistakes=(),
        narrowing=None,
        search=None,
    )


def _score(metric: Metric, value: float) -> Score:
    return Score(value=value, low=value - 0.03, high=value + 0.04, n=40, metric=metric)


def _compared(metric: Metric, value: float, one: Comparison) -> Comparison:
    return replace(
        one,
        accuracy=_score(metric, value),
        reference_accuracy=_score(metric, value + one.drop),
        largest_difference=None,
    )


def _curve(highest: float, reach: int) -> tuple[float, ...]:
    """Precision at the recalls 0, 0.01 .. 1; nothing is found beyond `reach` hundredths."""
    return tuple(max(0.0, highest * (1 - (x / reach) ** 2)) for x in range(101))
