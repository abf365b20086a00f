"""INT8 of four networks on CIFAR-10: what is lost on 10,000 test images, beside two peers.

    python recipes/int8_cifar10.py CIFAR10 > recipes/int8_cifar10.md

Each network is trained once, at 64 px from new weights, and goes through `pocketvision quantize`.
Peers quantize the same float file on the same calibration images: ONNX Runtime's `quantize_static`
as its documentation has it (after its pre-processing, one scale per channel, extremes of the
values), and NNCF's `quantize` with its defaults, on OpenVINO.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from int8_peers import lost, peer_logits
from plotting import machine_line, table

from pocketvision.budget import format_latency, format_time
from pocketvision.data.images import scan
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import open_pixels
from pocketvision.fitting.quantize import QUANTIZATION, QuantizeConfig, run_quantize
from pocketvision.fitting.quantize_images import read_images
from pocketvision.fitting.quantize_source import open_source
from pocketvision.fitting.reporter import Silent
from pocketvision.measure.accuracy import compare
from pocketvision.models import registry
from pocketvision.models.weights import save
from pocketvision.record import Comparison, QuantizationRecord
from pocketvision.storage import from_json
from pocketvision.train.batches import training_sources
from pocketvision.train.config import TrainConfig
from pocketvision.train.trainer import train

NETWORKS = ("mobilenet_v3_large", "mobilenet_v3_small", "shufflenet_v2_x1_0", "se_resnet18")
RESOLUTION = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One network: what `quantize` found, and what the peers' files lose on test."""

    name: str
    record: QuantizationRecord
    plain: Comparison
    nncf: Comparison
    epochs: int


def trained(name: str, data: Path, work: Path, epochs: int, threads: int) -> Path:
    """The folder of a trained network; one that is there is taken as it is."""
    folder = work / f"{name}-{epochs}"
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "network.json").exists():
        return folder
    samples = scan(data)
    pre = Preprocessing(resolution=RESOLUTION, side=RESOLUTION)
    pixels = open_pixels(samples, RESOLUTION)
    train_source, val_source = training_sources(samples, pixels)
    network = registry.spec(name, resolution=RESOLUTION, num_classes=len(samples.classes)).build(0)
    began = time.monotonic()

    def on_step(done: int, total: int, note: str) -> None:
        if done % 100 == 0:
            left = (time.monotonic() - began) / max(done, 1) * (total - done)
            print(f"{name}: {note}, about {format_time(left)} left", file=sys.stderr)

    config = TrainConfig(
        epochs=epochs, warmup_epochs=min(2.0, epochs / 4), accelerator="cpu", threads=threads
    )
    train(
        network,
        train=train_source,
        val=val_source,
        preprocessing=pre,
        config=config,
        folder=folder / "training",
        on_step=on_step,
    )
    save(network, folder, classes=samples.classes, preprocessing=pre)
    return folder


def peers(folder: Path, data: Path, seed: int) -> list[Comparison]:
    """What plain ONNX Runtime and NNCF lose on test."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        source = open_source(str(folder), work)
        images = read_images(
            data, source.card.preprocessing, source.card.classes, source.channels, seed, Silent()
        )
        assert images.test is not None
        pixels, labels = images.test()
        found = peer_logits(source.float_onnx, work, images.calibration, pixels)
        reference = found.pop("float")
        return [
            compare(logits, reference, labels, subject=name, reference="float", split="test")
            for name, logits in found.items()
        ]


def row(name: str, data: Path, work: Path, epochs: int, threads: int) -> Row:
    """Train, quantize, compare; what lies in the work folder is not made again."""
    folder = trained(name, data, work, epochs, threads)
    out = folder / "quantized"
    if not out.exists():
        config = QuantizeConfig(source=str(folder), images=str(data), max_drop_points=0.5)
        run_quantize(config, out, command=f"pocketvision quantize {name} --max-drop 0.5")
    text = (out / QUANTIZATION).read_bytes()
    record = from_json(QuantizationRecord, text, source=str(out))
    plain, nncf = peers(folder, data, 0)
    return Row(name=name, record=record, plain=plain, nncf=nncf, epochs=epochs)


def page(rows: list[Row], threads: int) -> list[str]:
    """The page, line by line."""
    lines = []
    for one in rows:
        found = one.record
        headline = found.headline
        assert headline is not None
        times = {f"{v.runtime} {v.precision}": v.latency for v in found.variants if v.passed_gate}
        lines.append(
            (
                one.name,
                f"{headline.reference_accuracy.top1:.2%}",
                f"{found.shipped.precision} on {found.shipped.runtime}",
                lost(headline),
                lost(one.plain),
                lost(one.nncf),
                "; ".join(f"{k} {format_latency(v.median_ms)}" for k, v in times.items()),
            )
        )
    titles = (
        "network",
        "float, test top-1",
        "shipped",
        "lost, agreement",
        "ONNX Runtime plain",
        "NNCF default",
        "median of files that pass",
    )
    n = rows[0].record.headline
    assert n is not None
    return [
        "# INT8 on CIFAR-10, beside two peers",
        "",
        "```",
        f"python recipes/int8_cifar10.py CIFAR10 --epochs {rows[0].epochs} --networks "
        f"{' '.join(one.name for one in rows)} > recipes/int8_cifar10.md",
        "```",
        "",
        *table(titles, lines),
        f"Lost: points of top-1 on the n = {n.accuracy.n:,} test images against the float file, in "
        "pairs, with the 95 % interval; then agreement with float. Images are re-encoded as JPEG, "
        f"so levels are not comparable with published ones. Networks were trained here, "
        f"{rows[0].epochs} epochs at {RESOLUTION} px from new weights, one seed. Gate: 0.5 points "
        "on val; test was looked at once, for the file that ships.",
        "",
        machine_line(("torch", "onnxruntime", "openvino", "nncf"), threads),
    ]


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description="INT8 of four networks on CIFAR-10.")
    parser.add_argument("data", type=Path, help="folder with train/ and test/, a folder per class")
    parser.add_argument("--work", type=Path, default=Path("cifar10-int8"), help="finished runs")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2, help="of the training")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    asked = parser.parse_args()
    rows = [row(n, asked.data, asked.work, asked.epochs, asked.threads) for n in asked.networks]
    print("\n".join(page(rows, 1)))


if __name__ == "__main__":
    main()
