"""INT8 of four networks on CIFAR-10: what is lost on 10,000 test images, beside two peers.

    python recipes/int8_cifar10.py CIFAR10 > recipes/int8_cifar10.md

Each network is trained once, from new weights, and goes through `pocketvision quantize`.
Peers quantize the same float file on the same calibration images: ONNX Runtime's `quantize_static`
as its documentation has it (after its pre-processing, one scale per channel, extremes of the
values), and NNCF's `quantize` with its defaults, on OpenVINO.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

from int8_peers import onnx_logits, peer_logits
from int8_tables import lost
from int8_training import Training, trained
from plotting import machine_line, table

from pocketvision.budget import format_latency
from pocketvision.fitting.quantize import QUANTIZATION, QuantizeConfig, run_quantize
from pocketvision.fitting.quantize_images import read_images
from pocketvision.fitting.quantize_source import open_source
from pocketvision.fitting.reporter import Silent
from pocketvision.measure.accuracy import compare
from pocketvision.record.run import QuantizationRecord
from pocketvision.record.scores import Comparison
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.runtime import Calibration
from pocketvision.storage import from_json

NETWORKS = {
    "mobilenet_v3_large": Training(64, 4),
    "mobilenet_v3_small": Training(64, 8),
    "shufflenet_v2_x1_0": Training(64, 8),
    "se_resnet18": Training(32, 8),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One network: what `quantize` found, and what its INT8 and the peers' lose on test."""

    name: str
    record: QuantizationRecord
    ours: Comparison
    plain: Comparison
    nncf: Comparison


def on_test(folder: Path, data: Path, seed: int) -> list[Comparison]:
    """What our INT8 file, that of plain ONNX Runtime and that of NNCF lose on test."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        source = open_source(str(folder), work)
        images = read_images(
            data, source.card.preprocessing, source.card.classes, source.channels, seed, Silent()
        )
        assert images.test is not None
        pixels, labels = images.test()
        path = work / "ours.onnx"
        OnnxRuntime().quantize(source.float_onnx, path, Calibration(pixels=images.calibration))
        found = {"ours": onnx_logits(path, pixels)}
        found |= peer_logits(source.float_onnx, work, images.calibration, pixels)
        reference = found.pop("float")
        return [
            compare(logits, reference, labels, subject=name, reference="float", split="test")
            for name, logits in found.items()
        ]


def row(name: str, data: Path, work: Path, threads: int) -> Row:
    """Train, quantize, compare; what lies in the work folder is not made again."""
    folder = trained(name, NETWORKS[name], data, work, threads)
    out = folder / "quantized"
    if not out.exists():
        config = QuantizeConfig(source=str(folder), images=str(data), max_drop_points=0.5)
        run_quantize(config, out, command=f"pocketvision quantize {name} --max-drop 0.5")
    text = (out / QUANTIZATION).read_bytes()
    record = from_json(QuantizationRecord, text, source=str(out))
    ours, plain, nncf = on_test(folder, data, 0)
    return Row(name=name, record=record, ours=ours, plain=plain, nncf=nncf)


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
                f"{one.name} @{found.resolution}",
                f"{NETWORKS[one.name].epochs}",
                f"{headline.reference_accuracy.value:.2%}",
                lost(one.ours),
                lost(one.plain),
                lost(one.nncf),
                f"{found.shipped.precision} on {found.shipped.runtime}: {lost(headline)}",
                "; ".join(f"{k} {format_latency(v.median_ms)}" for k, v in times.items()),
            )
        )
    titles = (
        "network",
        "epochs",
        "float, test top-1",
        "INT8, ours",
        "ONNX Runtime plain",
        "NNCF default",
        "shipped",
        "median of files that pass",
    )
    n = rows[0].record.headline
    assert n is not None
    return [
        "# INT8 on CIFAR-10, beside two peers",
        "",
        "```",
        "python recipes/int8_cifar10.py CIFAR10 --networks "
        f"{' '.join(one.name for one in rows)} > recipes/int8_cifar10.md",
        "```",
        "",
        *table(titles, lines),
        f"Lost: points of top-1 on the n = {n.accuracy.n:,} test images against the float file, in "
        "pairs, with the 95 % interval; then agreement with float. Images are re-encoded as JPEG, "
        "so levels are not comparable with published ones. Networks were trained here from new "
        "weights, one seed. Our INT8 is that of the first rung. Gate: 0.5 points on val; nothing "
        "was chosen by test.",
        "",
        "NNCF's file of ShuffleNetV2 is wrong before anything is rounded: OpenVINO 2026.4 applies "
        "the order of shuffled channels the wrong way round where a depthwise convolution follows. "
        "Ours for OpenVINO write shuffles as transposes.",
        "",
        machine_line(("torch", "onnxruntime", "openvino", "nncf"), threads),
    ]


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description="INT8 of four networks on CIFAR-10.")
    parser.add_argument("data", type=Path, help="folder with train/ and test/, a folder per class")
    parser.add_argument("--work", type=Path, default=Path("cifar10-int8"), help="finished runs")
    parser.add_argument("--threads", type=int, default=2, help="of the training")
    parser.add_argument("--networks", nargs="+", choices=tuple(NETWORKS), default=tuple(NETWORKS))
    asked = parser.parse_args()
    rows = [row(n, asked.data, asked.work, asked.threads) for n in asked.networks]
    print("\n".join(page(rows, 1)))


if __name__ == "__main__":
    main()
