"""Records that hold everything a record can, and one of a run that shipped nothing."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image
from records import BUDGET, accuracy, full_record, latency

from pocketvision.record import (
    Calibration,
    Conditions,
    Finding,
    IntegerWork,
    LayerTime,
    Mistake,
    Record,
    ReliabilityBin,
    Throughput,
    Verdict,
)

CALIBRATION = Calibration(
    split="test",
    temperature=1.38,
    ece=0.061,
    ece_scaled=0.018,
    bins=tuple(
        ReliabilityBin(confidence=sure, top1=right, n=n)
        for sure, right, n in (
            (0.36, 0.25, 4),
            (0.47, 0.44, 9),
            (0.55, 0.45, 11),
            (0.65, 0.54, 13),
            (0.76, 0.71, 17),
            (0.85, 0.77, 26),
            (0.97, 0.94, 112),
        )
    ),
)


def whole_record(record: Record | None = None) -> Record:
    """Everything a record can hold; `full_record` is as the first version of the schema."""
    record = record or full_record()
    names = record.data.classes
    return replace(
        record,
        shipped=replace(record.shipped, integers=IntegerWork(layers=52, of=54, share=0.987)),
        peak_bytes=13_400_000,
        throughput=Throughput(
            images_per_s=612.4, low=598.0, high=625.1, latency=replace(latency(13.1), batch=8)
        ),
        conditions=Conditions(
            load=0.21, governor="performance", steal=0.0, busy=0.012, throttled=0, pinned=True
        ),
        findings=(
            Finding(
                severity="error",
                code="copies-across-splits",
                sentence="3 images of test lie in train as well; take them out of train.",
            ),
            Finding(
                severity="warning",
                code="tiny-class",
                sentence=f"{names[-1]} has 12 images; 20 or more are advised.",
            ),
            Finding(severity="note", code="set-aside", sentence="val was set aside by content."),
        ),
        alarms=(
            Finding(
                severity="warning",
                code="overfit",
                sentence="Train is 9.7 points above val; more augmentation may help.",
            ),
        ),
        train_top1=accuracy(953, 960),
        val_top1=accuracy(172, 192),
        calibration=CALIBRATION,
        mistakes=_mistakes(names),
        layers=_layers(),
    )


def missed_record() -> Record:
    """A run that shipped nothing: the figures are those of the file that came nearest."""
    record = whole_record()
    sentence = (
        "mobilenet_v3_small x0.75 @128 is trained but cannot be shipped within 1.5 ms and 4 MB: "
        "int8 on onnxruntime measures up to 2.16 ms and 1.86 MB. Of the file that came nearest: "
        "it gets 91.1% of 192 test images right."
    )
    return replace(
        record,
        verdict=Verdict(met=False, sentence=sentence),
        budget=replace(BUDGET, latency_ms=1.5),
        shipped=replace(record.shipped, files={}),
        variants=tuple(replace(one, shipped=False) for one in record.variants),
        tried=tuple(replace(one, chosen=False) for one in record.tried),
    )


def _mistakes(names: Sequence[str]) -> tuple[Mistake, ...]:
    """The surest first; pictures of all proportions."""
    return tuple(
        Mistake(
            path=f"test/{names[k % len(names)]}/IMG {4711 + k}.jpg",
            true=names[k % len(names)],
            named=names[(k + 1) % len(names)],
            probability=0.996 - 0.02 * k,
            thumbnail=_picture(96 if k % 3 else 40, 96 if k % 3 != 1 else 60, 20 * k),
        )
        for k in range(14)
    )


def _picture(width: int, height: int, hue: int) -> str:
    written = io.BytesIO()
    Image.new("HSV", (width, height), (hue % 256, 120, 190)).convert("RGB").save(written, "JPEG")
    return base64.b64encode(written.getvalue()).decode("ascii")


def _layers() -> tuple[LayerTime, ...]:
    kinds = ("QLinearConv", "QLinearConv", "QLinearMul", "QLinearLeakyRelu", "Cast")
    times = [0.02 + 0.09 * abs(math.sin(k)) for k in range(48)]
    return tuple(
        LayerTime(
            name=f"node_{kinds[k % 5]}_{500 + k}",
            operator=kinds[k % 5],
            median_ms=time,
            share=time / sum(times),
        )
        for k, time in enumerate(times)
    )
