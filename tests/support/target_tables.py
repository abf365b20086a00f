"""Latency tables of a device that is nowhere, whose latency is its work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pocketvision.measure.count import count
from pocketvision.measure.device import machine
from pocketvision.measure.table import DeviceTable, Timed, terms
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec
from pocketvision.models.networks import AnySpec
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.storage import to_json

DEVICE = "Cortex-A76"
WIDTHS = (0.25, 0.5, 0.75, 1.0)


def work_ms(spec: AnySpec) -> float:
    """A millisecond for a million multiply-accumulates, and something for every block."""
    blocks = spec.blocks if isinstance(spec, ArchSpec) else spec.body_blocks
    return 1e-6 * count(spec).macs + 0.01 * len(blocks)


def timed(spec: AnySpec, share: float = 1.0) -> Timed:
    """share: of what the work takes."""
    ms = share * work_ms(spec)
    latency = Latency(median_ms=ms, p95_ms=ms, low_ms=ms, high_ms=ms, runs=9, threads=1)
    return Timed(network=spec, latency=latency)


def table_of(
    specs: Iterable[AnySpec], *, precision: Precision = "f32", threads: int = 1
) -> DeviceTable:
    """The blocks of these networks, without whole ones."""
    carriers = dict.fromkeys(carrier for spec in specs for carrier in terms(spec))
    return DeviceTable(
        machine=replace(machine(), cpu=DEVICE),
        runtime="onnxruntime",
        precision=precision,
        threads=threads,
        carriers=tuple(timed(carrier) for carrier in carriers),
    )


def small_networks(resolution: int = 32, classes: int = 2) -> list[ArchSpec]:
    """MobileNetV1 in the widths of the papers."""
    return [
        registry.spec("mobilenet_v1", width=width, resolution=resolution, num_classes=classes)
        for width in WIDTHS
    ]


def write_table(path: Path, table: DeviceTable) -> str:
    """Into a file whose name is returned."""
    path.write_text(to_json(table))
    return str(path)
