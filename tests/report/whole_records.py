"""Records that hold everything a record can, and one of a run that shipped nothing."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image
from records import BUDGET, accuracy, comparison, full_record, latency
from search_records import narrowing, search

from pocketvision.record.files import IntegerWork, Quantization, QuantizedLayer, Rung
from pocketvision.record.run import QuantizationRecord, Record, Verdict
from pocketvision.record.scores import Calibration, Mistake, ReliabilityBin
from pocketvision.record.timing import Conditions, LayerTime, Throughput
from pocketvision.record.words import Finding

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

MARKUP = "<b>blocks</b>.4['squeeze'] & \"gate\""
QUANTIZED = (  # name, operator, share of MACs, SQNR, that of the logits alone, images lost alone
    ("stem.conv", "conv 3x3", 0.093, 41.3, 44.9, 0),
    ("blocks.0.expand.conv", "conv 1x1", 0.062, 36.8, 47.2, 0),
    ("blocks.1.depthwise", "depthwise 3x3", 0.02, 8.9, 11.6, 6),
    ("blocks.1.project.conv", "conv 1x1", 0.071, 14.1, 38.4, 1),
    ("blocks.2.expand.conv", "conv 1x1", 0.114, 16.0, 40.6, 0),
    ("blocks.2.depthwise", "depthwise 5x5", 0.036, 17.2, 26.3, 2),
    ("blocks.3.expand.conv", "conv 1x1", 0.138, 19.4, 43.0, 0),
    (MARKUP, "conv 1x1", 0.004, 12.5, 19.8, 3),
    ("blocks.4.project.conv", "conv 1x1", 0.129, 18.8, 42.7, -1),
    ("blocks.5.depthwise", "depthwise 5x5", 0.041, 20.2, 35.5, 0),
    ("head.expand.conv", "conv 1x1", 0.21, 21.7, 45.1, 0),
    ("head.classifier", "linear", 0.082, 23.9, 51.6, 0),
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
        train_score=accuracy(953, 960),
        val_score=accuracy(172, 192),
        calibration=CALIBRATION,
        mistakes=_mistakes(names),
        layers=_layers(),
        quantization=quantization(),
        narrowing=narrowing(),
        search=search(),
    )


def quantization() -> Quantization:
    """An INT8 file that passed its gate with two layers in float; every layer was tried alone."""
    spared = ("blocks.1.depthwise", MARKUP)
    return Quantization(
        runtime="onnxruntime",
        sentence="INT8 with 2 layers in float was shipped: it loses 0.5 points of at most 1.",
        judged_by="labels",
        max_drop_points=1.0,
        images=512,
        weight_bits=8,
        ranges={"minmax": 9, "mse": 61, "entropy": 0, "percentile": 20},
        equalised_pairs=7,
        filled_widths=3,
        corrected_biases=52,
        guarded_channels=4,
        layers=tuple(
            QuantizedLayer(
                name=name,
                operator=operator,
                macs_share=share,
                low=-0.37 * (k % 3),
                high=6.0 if k % 2 else 11.8,
                ranges="percentile" if k == 2 else "mse",
                weight_spread=1.7 + 29.0 * (k == 2),
                in_integers=name not in spared,
                sqnr_db=sqnr_db,
                alone_sqnr_db=alone_db,
                alone=comparison("int8", "val", 172, 172 - lost, 192),
            )
            for k, (name, operator, share, sqnr_db, alone_db, lost) in enumerate(QUANTIZED)
        ),
        rungs=(
            _rung("post-training", lost=9, passed=False),
            _rung("layers in float", lost=4, passed=False, float_layers=spared[:1]),
            _rung("layers in float", lost=1, passed=True, float_layers=spared),
            Rung(
                kind="float",
                comparison=None,
                latency=latency(3.3),
                size_bytes=4_210_000,
                passed=True,
                seconds=2.0,
            ),
        ),
    )


def _rung(kind: str, *, lost: int, passed: bool, float_layers: tuple[str, ...] = ()) -> Rung:
    return Rung(
        kind=kind,
        comparison=comparison("onnxruntime int8", "val", 172, 172 - lost, 192),
        latency=latency(2.1) if passed else None,
        size_bytes=1_820_000 + 20_000 * len(float_layers),
        passed=passed,
        seconds=14.0 + lost,
        float_layers=float_layers,
    )


def many_layers(found: Quantization, count: int) -> Quantization:
    """The same with so many layers, named by their place in the network."""
    layers = tuple(
        replace(
            found.layers[k % len(found.layers)],
            name=f"blocks.{k}.expand.conv",
            sqnr_db=22.0 + 12 * math.sin(k) + 0.01 * k,
            alone_sqnr_db=48.0 + 20 * math.sin(1.7 * k) + 0.01 * k,
        )
        for k in range(count)
    )
    return replace(found, layers=layers)


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


def quantization_record() -> QuantizationRecord:
    """What `quantize` writes of the network of `whole_record`."""
    record = whole_record()
    return QuantizationRecord(
        schema_version=record.schema_version,
        created=record.created,
        command="pocketvision quantize fitted/ --images photos/ --out quantized/",
        source=f"fitted/ {MARKUP}",
        network=record.network.name,
        resolution=record.network.resolution,
        classes=record.data.classes,
        data="photos/",
        split="val",
        quantization=quantization(),
        variants=record.variants,
        shipped=record.shipped,
        headline=comparison("shipped", "test", 170, 169, 192),
        explanation="Convolutions and matrix products take 0.2 ms in integers and 0.3 ms in float.",
        layers=record.layers,
        machine=record.machine,
        conditions=record.conditions,
        spent_s=61.5,
    )
