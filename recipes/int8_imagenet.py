"""INT8 of torchvision's MobileNetV2 on 500 ImageNet photos: agreement with float, beside two peers.

    python recipes/int8_imagenet.py WEIGHTS PHOTOS > recipes/int8_imagenet.md

WEIGHTS is mobilenet_v2-b0353104.pth; PHOTOS a folder of photos without class folders. Every fifth
sets the ranges, the others judge. The photos are of the training split, so their accuracy says
nothing; whether INT8 answers as float does can be seen on them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from int8_peers import peer_logits
from int8_tables import layer_table
from plotting import machine_line, table

from pocketvision.budget import format_latency, format_size
from pocketvision.compress.layers import culprits
from pocketvision.fitting.quantize import QuantizeConfig, run_quantize
from pocketvision.fitting.quantize_images import read_images
from pocketvision.fitting.quantize_source import open_source
from pocketvision.fitting.reporter import Silent
from pocketvision.intervals import wilson
from pocketvision.record.run import QuantizationRecord

WORST = 5


def agreement(agreed: int, n: int) -> str:
    """The share of images on which both name the same class, with its 95 % interval."""
    low, high = wilson(agreed, n)
    return f"{agreed / n:.1%} ({low:.1%} to {high:.1%})"


def peer_rows(weights: str, photos: Path, work: Path) -> list[tuple[str, ...]]:
    """What each peer's file agrees with the float file."""
    source = open_source(weights, work)
    images = read_images(
        photos, source.card.preprocessing, source.card.classes, source.channels, 0, Silent()
    )
    found = peer_logits(source.float_onnx, work, images.calibration, images.judged)
    expected = found.pop("float").argmax(1)
    return [
        (name, agreement(int((logits.argmax(1) == expected).sum()), len(expected)), "", "")
        for name, logits in found.items()
    ]


def page(
    record: QuantizationRecord, peers: list[tuple[str, ...]], weights: str, limit: float
) -> list[str]:
    """The page, line by line."""
    rows = []
    for one in record.variants:
        found = one.comparison
        n = 0 if found is None else found.accuracy.n
        agreed = "" if found is None else agreement(round(found.agreement * n), n)
        noise = ", noisy" if one.latency.noise else ""
        name = f"{one.runtime} {one.precision}{' (shipped)' if one.shipped else ''}"
        median = f"{format_latency(one.latency.median_ms)}{noise}"
        rows.append((name, agreed, median, format_size(one.size_bytes)))
    worst = culprits(record.quantization.layers)[:WORST]
    return [
        "# INT8 of the official MobileNetV2",
        "",
        "```",
        f"python recipes/int8_imagenet.py {Path(weights).name} PHOTOS --max-drop {limit:g} "
        "> recipes/int8_imagenet.md",
        "```",
        "",
        *table(("file", "agreement with float", "median", "size"), [*rows, *peers]),
        record.quantization.sentence,
        "",
        record.explanation,
        "",
        "The layers that cost most:",
        "",
        *layer_table(worst),
        f"n = {record.variants[-1].comparison.accuracy.n if record.variants[-1].comparison else 0} "
        f"photos judge, {record.quantization.images} others set the ranges.",
        "",
        machine_line(("torch", "onnxruntime", "openvino", "nncf"), 1),
    ]


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description="INT8 of torchvision's MobileNetV2.")
    parser.add_argument("weights")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--max-drop", type=float, default=3.0, help="points of agreement")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        config = QuantizeConfig(
            source=asked.weights, images=str(asked.photos), max_drop_points=asked.max_drop
        )
        record = run_quantize(config, work / "out", command="recipes/int8_imagenet.py")
        peers = peer_rows(asked.weights, asked.photos, work)
    print("\n".join(page(record, peers, asked.weights, asked.max_drop)))


if __name__ == "__main__":
    main()
