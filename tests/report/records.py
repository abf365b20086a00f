"""Whole records for tests, made of plausible figures; the same arguments give the same record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from pocketvision.record.files import Prior, Shipped, Tried, Variant
from pocketvision.record.run import (
    SCHEMA_VERSION,
    BudgetSummary,
    DataSummary,
    Epoch,
    NetworkSummary,
    Record,
    SplitSummary,
    Step,
    Verdict,
)
from pocketvision.record.scores import Comparison, Score
from pocketvision.record.timing import Latency, Machine
from pocketvision.record.words import Precision

FRUIT = ("apple", "banana", "cherry", "golden kiwi", "lemon", "orange", "pear", "plum")
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"quoted\" 'name' & more",
    "{{ 7 * 7 }} {% raw %}",
    '<b>bold</b> <a href="javascript:alert(1)">link</a>',
    "line\u2028separator | pipe",
    "`tick` _under_ *star* [a](http://a.example)",
    "$x^2$ %{y}",
)
BUDGET = BudgetSummary(
    latency_ms=5.0, size_bytes=4_000_000, time_s=1800.0, threads=1, max_drop_points=1.0
)
NO_BUDGET = replace(BUDGET, latency_ms=None, size_bytes=None, time_s=None)


def accuracy(correct: int, n: int) -> Score:
    """With Wilson's 95 % interval."""
    z = 1.959964
    share = correct / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Score(value=share, low=middle - half, high=middle + half, correct=correct, n=n)


def latency(median_ms: float, noise: str = "") -> Latency:
    return Latency(
        median_ms=median_ms,
        p95_ms=1.14 * median_ms,
        low_ms=0.98 * median_ms,
        high_ms=1.03 * median_ms,
        runs=400,
        threads=1,
        noise=noise,
    )


def full_record(
    *,
    classes: Sequence[str] = FRUIT,
    per_class: int = 24,
    budget: BudgetSummary = BUDGET,
    verdict: Verdict | None = None,
    num_epochs: int = 30,
) -> Record:
    """A finished run that met its budget, unless told otherwise."""
    confusion = _confusion(len(classes), per_class)
    correct = sum(row[i] for i, row in enumerate(confusion))
    headline = accuracy(correct, per_class * len(classes))
    met = "It fits: 2.10 ms of 5 ms and 1.86 MB of 4 MB."
    return Record(
        schema_version=SCHEMA_VERSION,
        created="2026-03-14T09:26:53Z",
        command="pocketvision fit photos/ --latency 5ms --size 4MB --time 30m --out fitted",
        spent_s=1234.5,
        seed=0,
        verdict=verdict or Verdict(met=True, sentence=met),
        budget=budget,
        data=_data(tuple(classes), per_class),
        network=NetworkSummary(
            name="mobilenet_v3_small",
            label="mobilenet_v3_small x0.75 @128",
            width=0.75,
            resolution=128,
            parameters=1_035_000,
            macs=14_700_000,
            peak_activation_bytes=524_288,
            start="from scratch",
        ),
        shipped=Shipped(
            runtime="onnxruntime",
            precision="int8",
            threads=1,
            options={"runtime": "onnxruntime", "precision": "int8"},
            files={"model.onnx": "3b" * 32, "run.py": "9f" * 32},
            size_bytes=1_860_000,
        ),
        headline=headline,
        latency=latency(2.1),
        decode_ms=1.37,
        variants=_variants(headline.n),
        verification=(
            comparison("onnxruntime f32", "test", correct, correct, headline.n),
            comparison("onnxruntime int8", "test", correct, correct - 1, headline.n),
        ),
        confusion=confusion,
        tried=_tried(budget),
        epochs=_epochs(num_epochs),
        steps=_steps(headline.value),
        machine=Machine(
            cpu="AMD EPYC 9R14",
            architecture="x86_64",
            cores=2,
            features=("avx2", "avx512_vnni", "amx_int8"),
            memory_bytes=8_200_000_000,
            system="Linux 6.1",
            python="3.11.9",
            versions={"torch": "2.11.0", "onnxruntime": "1.26.0", "pocketvision": "0.1.0"},
            load=0.21,
        ),
    )


def many_classes(count: int) -> tuple[str, ...]:
    """Names of different lengths, one of them very long."""
    words = ("ant", "bear", "crested gecko", "dragonfly", "eagle owl")
    names = [f"{words[i % len(words)]} {i:03d}" for i in range(count)]
    names[-1] = "a name that someone made much longer than any name should ever be 2.jpg"
    return tuple(names)


def _confusion(count: int, per_class: int) -> tuple[tuple[int, ...], ...]:
    """Class i loses i mod 5 images to the next class and one to the class after, if it is odd."""
    rows = []
    for i in range(count):
        row = [0] * count
        row[(i + 1) % count] += i % 5
        row[(i + 2) % count] += i % 2
        row[i] += per_class - sum(row)
        rows.append(tuple(row))
    return tuple(rows)


def _data(classes: tuple[str, ...], per_class: int) -> DataSummary:
    size = len(classes)
    return DataSummary(
        fingerprint="5d0c" * 16,
        classes=classes,
        splits=(
            SplitSummary(
                name="train",
                origin="given",
                counts=tuple(5 * per_class + i % 7 for i in range(size)),
            ),
            SplitSummary(name="val", origin="set aside", counts=(per_class,) * size),
            SplitSummary(name="test", origin="given", counts=(per_class,) * size),
        ),
        headline_split="test",
    )


def comparison(subject: str, split: str, reference: int, correct: int, n: int) -> Comparison:
    """Of a file that gets `correct` of n images right with a network that gets `reference`."""
    drop = (reference - correct) / n
    return Comparison(
        subject=subject,
        reference="network.safetensors",
        split=split,
        accuracy=accuracy(correct, n),
        reference_accuracy=accuracy(reference, n),
        drop=drop,
        drop_low=drop - 0.011,
        drop_high=drop + 0.013,
        agreement=1.0 if reference == correct else 0.984,
        largest_difference=3.1e-6 if reference == correct else 0.42,
    )


def _variants(n: int) -> tuple[Variant, ...]:
    right = round(0.9 * n)

    def one(runtime: str, precision: Precision, ms: float, size: int, lost: int | None) -> Variant:
        compared = None
        if lost is not None:
            compared = comparison(f"{runtime} {precision}", "val", right, right - lost, n)
        return Variant(
            runtime=runtime,
            precision=precision,
            size_bytes=size,
            latency=latency(ms),
            comparison=compared,
            within_budget=size < 4_000_000,
            passed_gate=lost is None or lost < 0.01 * n,
            shipped=(runtime, precision) == ("onnxruntime", "int8"),
        )

    return (
        one("onnxruntime", "f32", 3.3, 4_210_000, None),
        one("onnxruntime", "int8", 2.1, 1_860_000, 1),
        one("openvino", "f32", 2.9, 4_300_000, 0),
        one("openvino", "int8", 1.4, 1_910_000, max(1, n // 12)),
    )


def _tried(budget: BudgetSummary) -> tuple[Tried, ...]:
    table: tuple[tuple[str, float, int, int, int, float], ...] = (
        ("mobilenet_v3_small", 0.75, 224, 44_000_000, 2_040_000, 0.654),
        ("mobilenet_v3_small", 0.75, 128, 14_700_000, 1_035_000, 0.576),
        ("mobilenet_v3_small", 1.0, 224, 56_000_000, 2_540_000, 0.674),
        ("mobilenet_v2", 1.0, 224, 300_000_000, 3_500_000, 0.72),
        ("mobilenet_v2", 0.5, 160, 50_000_000, 1_950_000, 0.611),
        ("shufflenet_v2", 1.0, 224, 146_000_000, 2_280_000, 0.694),
        ("mobilenet_v1", 0.25, 128, 14_000_000, 470_000, 0.415),
    )
    runs: tuple[tuple[str, Precision, float, float], ...] = (
        ("onnxruntime", "f32", 1.0, 4.05),
        ("onnxruntime", "int8", 0.55, 1.8),
        ("openvino", "bf16", 0.7, 4.1),
    )
    rows = []
    for name, width, resolution, macs, parameters, prior in table:
        for runtime, precision, speed, bytes_each in runs:
            ms = speed * (0.5 + macs / 1.9e7)
            size = round(bytes_each * parameters)
            label = f"{name} x{width:g} @{resolution}"
            rows.append(
                Tried(
                    network=label,
                    name=name,
                    width=width,
                    resolution=resolution,
                    runtime=runtime,
                    precision=precision,
                    macs=macs,
                    parameters=parameters,
                    size_bytes=size,
                    latency=latency(ms),
                    prior=Prior(top1=prior, source="published" if width == 1 else "interpolated"),
                    fits=ms * 1.03 <= (budget.latency_ms or math.inf)
                    and size <= (budget.size_bytes or math.inf),
                    chosen=label == "mobilenet_v3_small x0.75 @128" and precision == "int8",
                )
            )
    return tuple(rows)


def _epochs(count: int) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(
            epoch=i,
            steps=30 * i,
            seconds=21.5 * i,
            learning_rate=0.02 * (1 + math.cos(math.pi * (i - 1) / count)),
            train_loss=2.1 * math.exp(-i / 9) + 0.31,
            val_loss=1.9 * math.exp(-i / 8) + 0.4 + 0.03 * math.sin(i),
            val_score=0.9 - 0.7 * math.exp(-i / 6) + 0.008 * math.sin(2 * i),
        )
        for i in range(1, count + 1)
    )


def _steps(top1: float) -> tuple[Step, ...]:
    return (
        Step(name="plan", seconds=94.0, latency_ms=2.0, size_bytes=1_850_000, note="21 measured"),
        Step(name="train", seconds=645.0, score=top1 + 0.004, forecast_s=700.0),
        Step(name="export", seconds=11.2, score=top1 + 0.004, latency_ms=3.3, size_bytes=4_210_000),
        Step(
            name="quantize",
            seconds=27.9,
            score=top1,
            latency_ms=2.1,
            size_bytes=1_860_000,
            note="512 train images calibrate the ranges; batch norms folded first",
        ),
        Step(name="verify", seconds=9.1, score=top1),
        Step(name="measure", seconds=14.0, latency_ms=2.1, size_bytes=1_860_000),
    )
