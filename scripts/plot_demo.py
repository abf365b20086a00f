"""Draw the picture of the README from a record: accuracy against latency.

A larger mark is a larger file.

python scripts/plot_demo.py fitted/record.json [docs/images/demo.svg]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from pocketvision.budget import format_latency, format_size
from pocketvision.record.files import Tried
from pocketvision.record.run import Record
from pocketvision.storage import from_json

ACCENT, SECOND, SOFT, LINE = "#0069a8", "#c04f00", "#5b6573", "#dfe3e8"
MARKERS = {"f32": "o", "bf16": "D", "int8": "s"}


def main() -> None:
    """Read the arguments and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("record", type=Path, help="record.json of a finished run")
    parser.add_argument("picture", type=Path, nargs="?", default=Path("docs/images/demo.svg"))
    arguments = parser.parse_args()
    text = arguments.record.read_text(encoding="utf-8")
    draw(from_json(Record, text, source=str(arguments.record)), arguments.picture)
    print(arguments.picture)


def draw(record: Record, picture: Path) -> None:
    """Write the picture as SVG; the same record gives the same file."""
    with pyplot.rc_context(
        {"svg.hashsalt": "pocketvision", "font.size": 11, "axes.edgecolor": LINE}
    ):
        figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
        _draw_tried(axes, record.tried)
        _label(axes, record)
        _draw_budget(axes, record.budget.latency_ms)
        picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(picture, metadata={"Date": None})
        pyplot.close(figure)


def _draw_tried(axes: Axes, tried: tuple[Tried, ...]) -> None:
    largest = max(one.size_bytes for one in tried)
    for one in tried:
        axes.scatter(
            one.latency.median_ms,
            100 * one.prior.top1,
            s=40 + 260 * one.size_bytes / largest,
            marker=MARKERS[one.precision],
            facecolor=ACCENT if one.fits else "none",
            edgecolor="white" if one.fits else SOFT,
            zorder=3,
        )
        if one.chosen:
            axes.annotate(
                f"shipped:\n{one.network}\n{one.precision} on {one.runtime}, "
                f"{format_size(one.size_bytes)}",
                (one.latency.median_ms, 100 * one.prior.top1),
                xytext=(22, -52),
                textcoords="offset points",
                color=SECOND,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2},
                arrowprops={"arrowstyle": "-", "color": SECOND},
                zorder=4,
            )


def _draw_budget(axes: Axes, latency_ms: float | None) -> None:
    if latency_ms is None:
        return
    axes.axvline(latency_ms, color=SECOND, linestyle="--", zorder=2)
    axes.axvspan(axes.get_xlim()[0], latency_ms, color=ACCENT, alpha=0.05, linewidth=0)
    axes.annotate(
        f"budget {format_latency(latency_ms)} ",
        (latency_ms, 0.5),
        xycoords=("data", "axes fraction"),
        ha="right",
        color=SECOND,
    )


def _label(axes: Axes, record: Record) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_xlabel(f"latency, ms (median, batch 1, {record.machine.cpu})")
    axes.set_ylabel("ImageNet top-1 the papers lead to expect, %")
    slowest = max(one.latency.median_ms for one in record.tried)
    fastest = min(one.latency.median_ms for one in record.tried)
    axes.set_xlim(0.8 * fastest, 1.3 * max(slowest, record.budget.latency_ms or 0))
    axes.grid(color=LINE, linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    for precision in dict.fromkeys(one.precision for one in record.tried):
        axes.scatter([], [], marker=MARKERS[precision], color=ACCENT, label=precision)
    axes.scatter([], [], facecolor="none", edgecolor=SOFT, label="too slow or too large")
    axes.legend(loc="lower center", frameon=False, ncols=4, bbox_to_anchor=(0.5, 1.0))


if __name__ == "__main__":
    main()
