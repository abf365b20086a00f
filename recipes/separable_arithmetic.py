"""One layer of MobileNetV1, full and separable: Table 3 of the paper, counted and timed.

python recipes/separable_arithmetic.py [--out recipes]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from matplotlib import pyplot
from plotting import ACCENT, SECOND, head, machine_line, out_folder, save, style, table, tidy
from timing import Graph, cell, how_measured, measure_graphs

from pocketvision.nn.blocks import SeparableSpec
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.layer import Layer
from pocketvision.record.timing import Latency


class Row(NamedTuple):
    """A layer, the side of its input, and what the paper prints of it, in millions."""

    name: str
    spec: ConvSpec | SeparableSpec
    side: int
    mult_adds: float
    parameters: float


V1_TABLE_3 = (
    Row("convolution", ConvSpec(c_in=512, c_out=512, act="relu"), 14, 462, 2.36),
    Row("depthwise separable", SeparableSpec(c_in=512, c_out=512), 14, 52.3, 0.27),
    Row("α = 0.75", SeparableSpec(c_in=384, c_out=384), 14, 29.6, 0.15),
    Row("ρ = 0.714", SeparableSpec(c_in=384, c_out=384), 10, 15.1, 0.15),
)


def main() -> None:
    """Time the layers, write the picture and print the page."""
    out = out_folder(__doc__)
    latencies = measure_graphs({row.name: graph(row) for row in V1_TABLE_3})
    draw(latencies, out / "images" / "separable_arithmetic.svg")
    print("\n".join(lines(latencies)))


def macs(row: Row) -> int:
    """Multiply-accumulates of all convolutions of a row."""
    return sum(layer.macs for layer in row.spec.layers((row.side, row.side)))


def weights(row: Row) -> int:
    """Weights of all convolutions of a row; the paper counts neither norm nor bias."""
    return sum(_weights(layer) for layer in row.spec.layers((row.side, row.side)))


def _weights(layer: Layer) -> int:
    return layer.kernel**2 * layer.c_in // layer.groups * layer.c_out


def graph(row: Row) -> Graph:
    """The layer as it is deployed: norms folded in, ReLU after each convolution."""
    spec = row.spec
    made = Graph((1, spec.c_in, row.side, row.side))
    x = "x"
    convolutions = (spec,) if isinstance(spec, ConvSpec) else (spec.depthwise, spec.pointwise)
    for convolution in convolutions:
        x = made.conv(x, convolution)
    return made


def lines(latencies: Mapping[str, Latency]) -> list[str]:
    """The page, line by line."""
    full = V1_TABLE_3[0]
    full_ms = latencies[full.name].median_ms
    rows = [
        (
            row.name,
            f"{macs(row):,}",
            f"{row.mult_adds:g} M",
            f"{weights(row):,}",
            f"{row.parameters:g} M",
            cell(latencies[row.name]),
            f"{macs(full) / macs(row):.1f}",
            f"{full_ms / latencies[row.name].median_ms:.1f}",
            f"{macs(row) / latencies[row.name].median_ms / 1e6:.0f}",
        )
        for row in V1_TABLE_3
    ]
    separable = V1_TABLE_3[1]
    counted = macs(full) / macs(separable)
    timed = full_ms / latencies[separable.name].median_ms
    return [
        *head(
            "separable_arithmetic",
            "A separable layer, counted and timed",
            "A 3x3 convolution from 512 to 512 channels on a 14x14 map, then its depthwise "
            "separable form, then that with width multiplier α and with resolution multiplier ρ. "
            "Counts are from the layers of this package, beside those of MobileNets (Howard et "
            "al., section 3.4, Table 3), and beside both is what the layers take.",
        ),
        *table(
            (
                "layer",
                "MACs",
                "paper",
                "weights",
                "paper",
                "ms (95 % interval)",
                "times fewer MACs",
                "times faster",
                "GMAC/s",
            ),
            rows,
        ),
        how_measured(latencies.values())
        + " ONNX Runtime, float, batch 1; norms are folded into the convolutions, each of which "
        "a ReLU follows. Weights leave out norms and biases, as the paper does.",
        "",
        f"The separable layer has {counted:.1f} times fewer MACs and is {timed:.1f} times faster "
        f"here: {timed / counted:.0%} of what the count promises.",
        "",
        machine_line(("numpy", "onnxruntime")),
    ]


def draw(latencies: Mapping[str, Latency], picture: Path) -> None:
    """MACs and time of each row, as shares of the full convolution's."""
    full = V1_TABLE_3[0]
    with style():
        figure, axes = pyplot.subplots(figsize=(8, 3), layout="constrained")
        tidy(axes)
        for index, row in enumerate(V1_TABLE_3):
            shares = {
                "MACs": 100 * macs(row) / macs(full),
                "time": 100 * latencies[row.name].median_ms / latencies[full.name].median_ms,
            }
            for (name, share), color, y in zip(
                shares.items(), (ACCENT, SECOND), (index - 0.2, index + 0.2), strict=True
            ):
                axes.barh(y, share, height=0.36, color=color, label=name if index == 0 else None)
                axes.annotate(f" {share:.1f} %", (share, y), va="center")
        axes.set_yticks(range(len(V1_TABLE_3)), [row.name for row in V1_TABLE_3])
        axes.invert_yaxis()
        axes.set_xlim(0, 112)
        axes.set_xlabel("share of the full convolution, %")
        axes.legend(frameon=False, loc="lower right")
        save(figure, picture)


if __name__ == "__main__":
    main()
