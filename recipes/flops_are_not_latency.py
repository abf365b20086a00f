"""All networks of the registry at width 1 and 224 pixels: multiply-accumulates against time.

python recipes/flops_are_not_latency.py [--out recipes]
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import pyplot
from numpy.typing import NDArray
from plotting import ACCENT, SOFT, head, machine_line, out_folder, save, style, table, tidy
from timing import PROTOCOL, THREADS, cell, how_measured

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.measure.count import count
from pocketvision.measure.latency import LatencyProtocol, measure_latency
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec
from pocketvision.record.timing import Latency
from pocketvision.runtimes.export import export_onnx
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.runtime import FileCard

RESOLUTION = 224
MAX_MACS = 2_000_000_000


class Point(NamedTuple):
    """A network as counted and as timed."""

    name: str
    macs: int
    latency: Latency

    @property
    def ms_per_100_mmacs(self) -> float:
        """Median milliseconds for each 100 million multiply-accumulates."""
        return self.latency.median_ms / (self.macs / 1e8)


def main() -> None:
    """Export and time the networks, write the picture and print the page."""
    out = out_folder(__doc__)
    points = measure(networks())
    draw(points, out / "images" / "flops_are_not_latency.svg")
    print("\n".join(lines(points)))


def networks() -> list[ArchSpec]:
    """Every network of the registry with at most MAX_MACS, at width 1."""
    specs = [registry.spec(name, resolution=RESOLUTION) for name in registry.list_models()]
    return [spec for spec in specs if count(spec).macs <= MAX_MACS]


def measure(specs: Sequence[ArchSpec], protocol: LatencyProtocol = PROTOCOL) -> list[Point]:
    """Time all networks, untrained, in turns: ONNX Runtime, float, one thread; least MACs first."""
    runtime = OnnxRuntime()
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for index, spec in enumerate(specs):
            path = Path(folder) / runtime.file_name(str(index))
            side = spec.resolution
            card = FileCard(name=spec.label, preprocessing=Preprocessing.for_resolution(side))
            export_onnx(spec.build(seed=0), path, card)
            pixels = np.random.default_rng(0).integers(
                0, 256, (1, side, side, spec.in_chans), dtype=np.uint8
            )
            runs[spec.name] = partial(runtime.session(path, "f32", THREADS).run, pixels)
        latencies = measure_latency(runs, protocol, THREADS)
    points = [Point(spec.name, count(spec).macs, latencies[spec.name]) for spec in specs]
    return sorted(points, key=lambda point: point.macs)


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's rank correlation, -1..1: Pearson's of the ranks, ties sharing their mean rank."""
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    ordered = np.sort(values)
    below, up_to = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    ranks: NDArray[np.float64] = (below + up_to) / 2
    return ranks


def inversions(points: Sequence[Point]) -> list[tuple[Point, Point]]:
    """Pairs of which the first has fewer MACs and takes longer, their intervals apart."""
    ordered = sorted(points, key=lambda point: point.macs)
    return [
        (fewer, more)
        for fewer, more in itertools.combinations(ordered, 2)
        if fewer.macs < more.macs and fewer.latency.low_ms > more.latency.high_ms
    ]


def lines(points: Sequence[Point]) -> list[str]:
    """The page, line by line."""
    return [
        *head(
            "flops_are_not_latency",
            "Multiply-accumulates are not latency",
            f"Every network of the registry up to {MAX_MACS / 1e9:g} GMACs, at width 1 and "
            f"{RESOLUTION} pixels, timed in one run. Multiply-accumulates tell roughly what a "
            "network takes, and not which of two takes less (Ma et al., ShuffleNet V2, section 1 "
            "and Fig. 1): the reason to measure.",
        ),
        *table(
            ("", "network", "MMACs", "ms (95 % interval)", "p95, ms", "ms per 100 MMACs"),
            [
                (
                    str(number),
                    point.name,
                    f"{point.macs / 1e6:.1f}",
                    cell(point.latency),
                    f"{point.latency.p95_ms:.3g}",
                    f"{point.ms_per_100_mmacs:.2f}",
                )
                for number, point in enumerate(points, 1)
            ],
        ),
        how_measured(point.latency for point in points)
        + " ONNX Runtime, float, batch 1, untrained weights.",
        "",
        *_seen(points),
        "",
        machine_line(("pocketvision", "torch", "numpy", "onnxruntime")),
    ]


def _seen(points: Sequence[Point]) -> list[str]:
    cheapest = min(points, key=lambda point: point.ms_per_100_mmacs)
    dearest = max(points, key=lambda point: point.ms_per_100_mmacs)
    correlation = spearman(
        [point.macs for point in points], [point.latency.median_ms for point in points]
    )
    pairs = inversions(points)
    found = (
        f"Spearman's rank correlation of MACs and time over {len(points)} networks is "
        f"{correlation:.2f}. One multiply-accumulate takes "
        f"{dearest.ms_per_100_mmacs / cheapest.ms_per_100_mmacs:.1f} times as long in "
        f"{dearest.name} as in {cheapest.name}. In {len(pairs)} of "
        f"{len(points) * (len(points) - 1) // 2} pairs the network with fewer MACs is the slower"
    )
    if not pairs:
        return [f"{found}."]
    fewer, more = max(pairs, key=lambda pair: pair[1].macs / pair[0].macs)
    return [
        f"{found}; farthest apart are {fewer.name} and {more.name}, which has "
        f"{more.macs / fewer.macs:.1f} times the MACs and takes "
        f"{more.latency.median_ms / fewer.latency.median_ms:.2f} times as long."
    ]


def draw(points: Sequence[Point], picture: Path) -> None:
    """Time against multiply-accumulates, numbered as in the table; the line of the median cost."""
    cost = float(np.median([point.ms_per_100_mmacs for point in points]))
    with style():
        figure, axes = pyplot.subplots(figsize=(8, 4.8), layout="constrained")
        tidy(axes)
        x = np.array([points[0].macs / 1e6 / 1.3, points[-1].macs / 1e6 * 1.3])
        label = f"{cost:.2f} ms per 100 MMACs, the median"
        axes.plot(x, x / 100 * cost, color=SOFT, linestyle="--", label=label)
        for number, point in enumerate(points, 1):
            place = (point.macs / 1e6, point.latency.median_ms)
            axes.plot(*place, "o", color=ACCENT, markersize=4)
            axes.annotate(
                str(number), place, xytext=(4, -2), textcoords="offset points", fontsize=8
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")
        axes.set_xlabel("multiply-accumulates, millions")
        axes.set_ylabel("latency, ms (median, 1 thread)")
        axes.legend(frameon=False, loc="upper left")
        save(figure, picture)


if __name__ == "__main__":
    main()
