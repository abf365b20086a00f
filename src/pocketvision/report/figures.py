"""The figures of the report as plotly JSON, built as plain data.

Colours are names of the style sheet's custom properties ("--accent"); the page's script puts in
their values, so that figures follow the light and the dark scheme. Names that come from the user
reach plotly through `plotly_text` alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pocketvision.budget import format_latency, format_size
from pocketvision.record import BudgetSummary, Epoch, Latency, Record, Tried
from pocketvision.report.text import (
    clipped,
    megabytes,
    milliseconds,
    percent,
    plotly_text,
)

Plot = dict[str, Any]

COUNTS_IN_CELLS = 12  # classes up to which a cell of the confusion matrix holds its count
LABELLED_CLASSES = 130  # classes up to which every row and column is named
HEAT_MAP_CLASSES = 250  # beyond, the figure would be larger than the screen and the file too heavy
SYMBOLS = {"f32": "circle", "bf16": "diamond", "int8": "square"}


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


def all_figures(record: Record) -> dict[str, Figure]:
    """Every figure the record has data for, by id."""
    figures = [
        tried_against_latency(record.tried, record.budget),
        tried_against_size(record.tried, record.budget),
        loss_curves(record.epochs),
        accuracy_curve(record.epochs),
        confusion_matrix(record.confusion, record.data.classes),
    ]
    return {figure.id: figure for figure in figures if figure is not None}


def tried_against_latency(tried: Sequence[Tried], budget: BudgetSummary) -> Figure | None:
    """Prior against latency; None when nothing was tried."""
    if not tried:
        return None
    limit = budget.latency_ms
    latencies = [one.latency.median_ms for one in tried]
    plot = _tried_plot(
        tried, latencies, "latency, ms (median, batch 1)", limit, format_latency(limit or 0)
    )
    for trace, members in zip(plot["data"], _groups(tried), strict=False):
        trace["error_x"] = intervals([one.latency for one in members])
    return Figure(
        id="tried-latency",
        title="Accuracy to expect and latency",
        how_to_read=(
            "Up is more accurate on ImageNet as published, left is faster here, "
            "a larger mark is a larger file, the thin bar is the 95 % interval of the median; "
            "filled marks fit the whole budget, and the shaded side is over its latency."
        ),
        alt=f"Scatter plot of {len(tried)} measured combinations, prior against latency. "
        + _range_sentence(tried, [milliseconds(min(latencies)), milliseconds(max(latencies))]),
        plot=plot,
    )


def tried_against_size(tried: Sequence[Tried], budget: BudgetSummary) -> Figure | None:
    """Prior against file size; None when nothing was tried."""
    if not tried:
        return None
    limit = None if budget.size_bytes is None else budget.size_bytes / 1e6
    sizes = [one.size_bytes / 1e6 for one in tried]
    plot = _tried_plot(
        tried, sizes, "size, MB (1 MB = 10⁶ bytes)", limit, format_size(budget.size_bytes or 0)
    )
    return Figure(
        id="tried-size",
        title="Accuracy to expect and size",
        how_to_read=(
            "The same combinations against the size of their files: up is more accurate on "
            "ImageNet as published, left is smaller; filled marks fit the whole "
            "budget, and the shaded side is over its size."
        ),
        alt=f"Scatter plot of {len(tried)} measured combinations, prior against file size. "
        + _range_sentence(tried, [megabytes(min(sizes) * 1e6), megabytes(max(sizes) * 1e6)]),
        plot=plot,
    )


def loss_curves(epochs: Sequence[Epoch]) -> Figure | None:
    """Losses by epoch; None without epochs."""
    if not epochs:
        return None
    train = _curve(epochs, [e.train_loss for e in epochs], "train", "--accent", "solid")
    val = _curve(epochs, [e.val_loss for e in epochs], "val", "--second", "dash")
    return Figure(
        id="curves-loss",
        title="Loss",
        how_to_read=(
            "Lower is better; a val line that rises while the train line falls means that the "
            "network learns the training images by heart."
        ),
        alt=f"Line plot of the losses over {len(epochs)} epochs. The val loss goes from "
        f"{epochs[0].val_loss:.3g} to {epochs[-1].val_loss:.3g}.",
        plot={"data": [train, val], "layout": plot_layout("epoch", "mean loss of the epoch")},
        height=340,
    )


def accuracy_curve(epochs: Sequence[Epoch]) -> Figure | None:
    """Accuracy on val by epoch, its highest point ringed; None without epochs."""
    if not epochs:
        return None
    best = max(epochs, key=lambda e: e.val_top1)
    curve = _curve(epochs, [100 * e.val_top1 for e in epochs], "val", "--accent", "solid")
    ring = {
        "type": "scatter",
        "mode": "markers",
        "name": "highest",
        "x": [best.epoch],
        "y": [100 * best.val_top1],
        "marker": _ring([16]),
        "hoverinfo": "skip",
    }
    return Figure(
        id="curves-top1",
        title="Accuracy on val",
        how_to_read=(
            "Higher is better; the ring marks the highest epoch, and choosing by val makes val "
            "look better than new images will."
        ),
        alt=f"Line plot of top-1 accuracy on val over {len(epochs)} epochs; the highest is "
        f"{percent(best.val_top1)} in epoch {best.epoch}.",
        plot={"data": [curve, ring], "layout": plot_layout("epoch", "top-1 on val, %")},
        height=340,
    )


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


def _tried_plot(
    tried: Sequence[Tried], values: Sequence[float], axis: str, limit: float | None, name: str
) -> Plot:
    """Traces by precision and fit, the chosen one ringed, on a logarithmic axis with its budget."""
    position = {id(one): value for one, value in zip(tried, values, strict=True)}
    largest = max(one.size_bytes for one in tried) or 1
    traces: list[Plot] = []
    for members in _groups(tried):
        named = members[0].precision not in {trace["name"] for trace in traces}
        traces.append(_trace(members, position, largest, named))
    chosen = [one for one in tried if one.chosen]
    if chosen:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "chosen",
                "x": [position[id(one)] for one in chosen],
                "y": [100 * one.prior.top1 for one in chosen],
                "marker": _ring([_diameter(one, largest) + 12 for one in chosen]),
                "hoverinfo": "skip",
            }
        )
    reach = [*values, limit] if limit is not None else list(values)
    low, high = 0.8 * min(reach), 1.25 * max(reach)
    layout = plot_layout(axis, "prior: ImageNet top-1, %")
    layout["xaxis"] |= {"type": "log", "range": [math.log10(low), math.log10(high)]}
    layout["xaxis"] |= logarithmic_ticks(low, high)
    if limit is not None:
        layout["shapes"] = _budget_shapes(limit, low, high, f"budget {name}")
    return {"data": traces, "layout": layout}


def logarithmic_ticks(low: float, high: float) -> Plot:
    """Ticks at 1, 2 and 5 of each decade, written alike; over a wide range at the decades."""
    steps = (1, 2, 5) if high / low < 200 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    shown = [tick for tick in ticks if low <= tick <= high]
    return {"tickmode": "array", "tickvals": shown, "ticktext": [f"{tick:g}" for tick in shown]}


def _groups(tried: Sequence[Tried]) -> list[list[Tried]]:
    """Those that fit first, then by precision; empty groups are left out."""
    groups = [
        [one for one in tried if one.fits is fits and one.precision == precision]
        for fits in (True, False)
        for precision in SYMBOLS
    ]
    return [group for group in groups if group]


def _trace(members: Sequence[Tried], position: dict[int, float], largest: int, named: bool) -> Plot:
    first = members[0]
    symbol = SYMBOLS[first.precision]
    colour = "--accent" if first.fits else "--soft"
    return {
        "type": "scatter",
        "mode": "markers",
        "name": first.precision,
        "legendgroup": first.precision,
        "showlegend": named,
        "x": [position[id(one)] for one in members],
        "y": [100 * one.prior.top1 for one in members],
        "marker": {
            "symbol": symbol if first.fits else f"{symbol}-open",
            "size": [_diameter(one, largest) for one in members],
            "color": colour,
            "opacity": 0.85,
            "line": {"width": 1.5, "color": "--card" if first.fits else colour},
        },
        "customdata": [_hover(one) for one in members],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _hover(one: Tried) -> str:
    lines = [
        f"<b>{plotly_text(one.network)}</b>",
        f"{plotly_text(one.runtime)}, {one.precision}",
        f"prior {percent(one.prior.top1)}, {one.prior.source}",
        f"{milliseconds(one.latency.median_ms)}, {megabytes(one.size_bytes)}",
    ]
    if one.peak_bytes is not None:
        lines.append(f"{megabytes(one.peak_bytes)} of memory")
    return "<br>".join(lines)


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


def _budget_shapes(limit: float, low: float, high: float, name: str) -> list[Plot]:
    veil = {
        "type": "rect",
        "yref": "paper",
        "x0": limit,
        "x1": high,
        "y0": 0,
        "y1": 1,
        "layer": "below",
        "line": {"width": 0},
        "fillcolor": "--veil",
    }
    line = {
        "type": "line",
        "yref": "paper",
        "x0": limit,
        "x1": limit,
        "y0": 0,
        "y1": 1,
        "line": {"color": "--second", "width": 2, "dash": "dash"},
        "label": {
            "text": name,
            "textangle": 0,
            "textposition": "start",
            "xanchor": "right" if limit**2 > low * high else "left",  # where there is room
            "yanchor": "bottom",
            "padding": 6,
            "font": {"color": "--second", "size": 12},
        },
    }
    return [veil, line]


def _diameter(one: Tried, largest: int) -> float:
    """Pixels; the area grows with the file."""
    return round(8 + 20 * math.sqrt(one.size_bytes / largest), 1)


def _ring(sizes: list[float]) -> Plot:
    line = {"width": 3, "color": "--second"}
    return {"symbol": "circle-open", "size": sizes, "color": "--second", "line": line}


def _curve(epochs: Sequence[Epoch], y: list[float], name: str, colour: str, dash: str) -> Plot:
    return {
        "type": "scatter",
        "mode": "lines" if len(epochs) > 40 else "lines+markers",
        "name": name,
        "x": [e.epoch for e in epochs],
        "y": y,
        "line": {"color": colour, "width": 2, "dash": dash},
        "marker": {"color": colour, "size": 5},
        "hovertemplate": "epoch %{x}: %{y:.4~g}",
    }


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


def _range_sentence(tried: Sequence[Tried], ends: Sequence[str]) -> str:
    chosen = next((one.network for one in tried if one.chosen), None)
    fitting = sum(one.fits for one in tried)
    sentence = f"They reach from {ends[0]} to {ends[1]}; {fitting} fit the budget."
    return sentence if chosen is None else f"{sentence} Chosen: {chosen}."


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
