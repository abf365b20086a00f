"""A comparison of networks as one page that works offline: the plot and the table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pocketvision.report.plots import (
    SYMBOLS,
    Figure,
    Plot,
    embedded,
    intervals,
    logarithmic_ticks,
    plot_layout,
)
from pocketvision.report.side_by_side import Side, SideBySide, TimedFile
from pocketvision.report.templates import FOLDER, template
from pocketvision.report.text import clipped, megabytes, millions, percent, plotly_text, significant

LARGEST_MARK = 44  # pixels across
BYTES_PER_PARAMETER = 4  # float32
WIDE = 6  # from there on, largest over smallest, an axis is logarithmic


@dataclass(frozen=True, kw_only=True, slots=True)
class _Mark:
    """One mark of the plot; file is None where nothing was timed."""

    side: Side
    file: TimedFile | None

    @property
    def x(self) -> float:
        """Milliseconds, or millions of multiply-accumulates."""
        return self.file.latency.median_ms if self.file else self.side.macs / 1e6

    @property
    def size_bytes(self) -> int:
        """Of the file, or of the parameters."""
        return self.file.size_bytes if self.file else BYTES_PER_PARAMETER * self.side.parameters

    @property
    def group(self) -> str:
        """Marks of one group share a colour and a symbol."""
        return f"{self.file.runtime} {self.file.precision}" if self.file else "networks"


def render_page(found: SideBySide) -> str:
    """The whole page as one HTML document; the same comparison gives the same text."""
    figure = side_by_side_figure(found)
    return template("side_by_side.html").render(
        found=found,
        figure=figure,
        figures_json=embedded({figure.id: figure}),
        plotly=Markup(get_plotlyjs()),
        style=Markup((FOLDER / "style.css").read_text(encoding="utf-8")),
    )


def side_by_side_figure(found: SideBySide) -> Figure:
    """Published accuracy against latency, or against multiply-accumulates where none was timed."""
    marks = [
        _Mark(side=side, file=file) for side in found.networks for file in side.files or [None]
    ]
    groups: dict[str, list[_Mark]] = {}
    for mark in marks:
        groups.setdefault(mark.group, []).append(mark)
    timed = found.machine is not None
    axis, size = ("latency", "file") if timed else ("multiply-accumulates", "network in float32")
    layout = plot_layout(
        "latency, ms (median, batch 1)" if timed else "multiply-accumulates, millions",
        "ImageNet top-1, %",
    )
    layout["xaxis"] |= _range([mark.x for mark in marks])
    layout["showlegend"] = timed
    largest = max(mark.size_bytes for mark in marks)
    return Figure(
        id="side-by-side",
        title=f"Accuracy and {axis}",
        how_to_read=(
            "Up is more accurate on ImageNet as published, left is "
            f"{'faster here' if timed else 'less arithmetic'}, and the area of a mark is the size "
            f"of the {size}, {megabytes(largest)} for the largest"
            f"{'; the thin bar is the 95 % interval of the median.' if timed else '.'}"
        ),
        alt=f"Scatter plot of {len(marks)} marks for {len(found.networks)} networks, published "
        f"accuracy against {axis}; the table below has all figures.",
        plot={
            "data": [
                _trace(members, number, largest) for number, members in enumerate(groups.values())
            ],
            "layout": layout,
        },
        height=520,
    )


def _range(values: Sequence[float]) -> Plot:
    """Logarithmic with ticks at 1, 2 and 5, where that gives a few; else linear."""
    low, high = 0.8 * min(values), 1.25 * max(values)
    if high / low < WIDE:
        return {"range": [low, high]}
    ends = [math.log10(low), math.log10(high)]
    return {"type": "log", "range": ends} | logarithmic_ticks(low, high)


def _trace(members: Sequence[_Mark], number: int, largest: int) -> Plot:
    """One group of marks; the first group is labelled, since the others repeat its networks."""
    file = members[0].file
    trace: Plot = {
        "type": "scatter",
        "mode": "markers+text" if number == 0 else "markers",
        "name": members[0].group,
        "x": [mark.x for mark in members],
        "y": [100 * mark.side.published.top1 for mark in members],
        "text": [plotly_text(clipped(_short(mark.side), 32)) for mark in members],
        "textposition": "top center",
        "marker": {
            "symbol": SYMBOLS[file.precision] if file else "circle",
            "size": [mark.size_bytes for mark in members],
            "sizemode": "area",
            "sizeref": 2 * largest / LARGEST_MARK**2,
            "sizemin": 3,
            "color": ("--accent", "--second", "--good", "--soft")[number % 4],
            "opacity": 0.7,
            "line": {"width": 1.5, "color": "--card"},
        },
        "customdata": [_hover(mark) for mark in members],
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    if file:
        trace["error_x"] = intervals([mark.file.latency for mark in members if mark.file])
    return trace


def _short(side: Side) -> str:
    """The network's name, with width and resolution only where they are not the usual ones."""
    width = f" x{side.width:g}" if side.width != 1 else ""
    return f"{side.name}{width}" + (f" @{side.resolution}" if side.resolution != 224 else "")


def _hover(mark: _Mark) -> str:
    side, file = mark.side, mark.file
    lines = [
        f"<b>{plotly_text(side.network)}</b>",
        f"top-1 {percent(side.published.top1)}, {side.published.source}",
        f"{millions(side.macs)} MACs, {millions(side.parameters)} parameters",
    ]
    if file:
        lines += [
            f"{plotly_text(file.runtime)}, {file.precision}, {megabytes(file.size_bytes)}",
            f"{significant(file.latency.median_ms)} ms, {significant(file.images_per_s)} images/s",
        ]
    return "<br>".join(lines)
