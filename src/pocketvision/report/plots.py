"""Figures that plotly draws, as plain data: those of a scene's page and of a comparison.

Colours are names of the style sheet's custom properties ("--accent"); the page's script puts in
their values, so that figures follow the light and the dark scheme. Names that come from the user
reach plotly through `plotly_text` alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from pocketvision.record.timing import Latency
from pocketvision.report.text import clipped, plotly_text

Plot = dict[str, Any]

COUNTS_IN_CELLS = 12  # classes up to which a cell of the confusion matrix holds its count
LABELLED_CLASSES = 130  # classes up to which every row and column is named
HEAT_MAP_CLASSES = 250  # beyond, the figure would be larger than the screen and the file too heavy
SYMBOLS = {"f32": "circle", "bf16": "diamond", "int8": "square", "w8": "circle"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One figure and the words that go with it.

    how_to_read: one sentence. alt: what the figure shows, for those who do not see it.
    height, min_width: CSS pixels; the width follows the page.
    """

    id: str
    title: str
    how_to_read: str
    alt: str
    plot: Plot
    height: int = 400
    min_width: int = 0


def confusion_matrix(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], counted: str = "image"
) -> Figure | None:
    """Heat map of the share of each true class; None without counts or with too many classes.

    counted: what the counts are of, in the singular.
    """
    count = len(classes)
    if not confusion or count > HEAT_MAP_CLASSES:
        return None
    shares = [[_share(cell, sum(row)) for cell in row] for row in confusion]
    trace: Plot = {
        "type": "heatmap",
        "z": shares,
        "customdata": confusion,
        "zmin": 0,
        "zmax": 1,
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": False,
        "showscale": count > COUNTS_IN_CELLS,
        "colorscale": [[0, "--heat-low"], [1, "--heat-high"]],
        "colorbar": {"thickness": 8, "outlinewidth": 0, "tickformat": ".0%", "len": 0.6},
        "hovertemplate": (
            f"true: %{{y}}<br>named: %{{x}}<br>%{{customdata}} {counted}s, %{{z:.1%}} of the class"
            "<extra></extra>"
        ),
    }
    if count <= COUNTS_IN_CELLS:
        trace["text"] = [[str(cell or "") for cell in row] for row in confusion]
        trace["texttemplate"] = "%{text}"
    height, min_width, font = _heat_map_size(count)
    layout = plot_layout("named", "true class")
    labels = {
        "type": "linear",
        "tickmode": "array",
        "tickvals": list(range(count)),
        "ticktext": [plotly_text(clipped(name)) for name in classes],
        "tickfont": {"size": font},
        "showgrid": False,
        "showticklabels": count <= LABELLED_CLASSES,
        "constrain": "domain",
    }
    layout["xaxis"] |= labels | {"tickangle": "auto" if count <= 5 else -90}
    layout["yaxis"] |= labels | {"autorange": "reversed"}
    right = sum(row[i] for i, row in enumerate(confusion))
    return Figure(
        id="confusion",
        title="Confusion matrix",
        how_to_read=(
            "Each row is a true class and is shared out over the classes the network named; a "
            f"perfect network fills the diagonal alone, an empty cell is no {counted}."
        ),
        alt=f"Heat map of {count} by {count} classes; {right:,} of "
        f"{sum(map(sum, confusion)):,} {counted}s lie on the diagonal.",
        plot={"data": [trace], "layout": layout},
        height=height,
        min_width=min_width,
    )


def logarithmic_ticks(low: float, high: float) -> Plot:
    """Ticks at 1, 2 and 5 of each decade, written alike; over a wide range at the decades."""
    steps = (1, 2, 5) if high / low < 200 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    shown = [tick for tick in ticks if low <= tick <= high]
    return {"tickmode": "array", "tickvals": shown, "ticktext": [f"{tick:g}" for tick in shown]}


def intervals(latencies: Sequence[Latency]) -> Plot:
    """The 95 % intervals of medians, as bars along x."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [latency.high_ms - latency.median_ms for latency in latencies],
        "arrayminus": [latency.median_ms - latency.low_ms for latency in latencies],
        "color": "--soft",
        "thickness": 1,
        "width": 0,
    }


def plot_layout(x_title: str, y_title: str) -> Plot:
    """What all figures of the pages have in common."""
    axis = {
        "gridcolor": "--line",
        "linecolor": "--line",
        "zeroline": False,
        "automargin": True,
        "ticks": "outside",
        "tickcolor": "--line",
    }
    clear = "rgba(0,0,0,0)"
    return {
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "--ink"},
        "margin": {"l": 48, "r": 12, "t": 34, "b": 44},
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "itemsizing": "constant",
        },
        "hoverlabel": {
            "bgcolor": "--card",
            "bordercolor": "--line",
            "font": {"color": "--ink"},
            "align": "left",
        },
        "modebar": {"bgcolor": clear, "color": "--soft", "activecolor": "--accent"},
        "xaxis": axis | {"title": {"text": x_title, "standoff": 10}},
        "yaxis": axis | {"title": {"text": y_title, "standoff": 8}},
    }


def embedded(figures: dict[str, Figure]) -> Markup:
    """JSON that is safe inside a <script> element: no character in it can end the element."""
    plots = {name: figure.plot | {"height": figure.height} for name, figure in figures.items()}
    dumped = json.dumps(_finite(plots), allow_nan=False, separators=(",", ":"))
    for character in "<>&'":
        dumped = dumped.replace(character, f"\\u{ord(character):04x}")
    return Markup(dumped)


def _finite(value: Any) -> Any:
    """The same value with null, a gap in the curve, for what JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _heat_map_size(count: int) -> tuple[int, int, int]:
    """(height, smallest width, font size), pixels, such that neighbouring names do not touch."""
    if count <= COUNTS_IN_CELLS:
        return 260 + 26 * count, 180 + 36 * count, 12
    if count <= 40:
        return 240 + 18 * count, 180 + 18 * count, 11
    if count <= LABELLED_CLASSES:
        return 240 + 11 * count, 160 + 9 * count, 8
    return 900, 900, 12


def _share(cell: int, total: int) -> float | None:
    """An empty cell is a gap, so that the page shines through."""
    return round(cell / total, 4) if cell else None
