"""The figures of a scene's report as plotly JSON; colours and words as in `plots`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pocketvision.report.plots import Figure, Plot, confusion_matrix, plot_layout
from pocketvision.report.scene_rows import MethodRow, method_rows
from pocketvision.report.text import percent, plotly_text
from pocketvision.scene_record import Curve, SceneRecord, Spread

SCORES: tuple[tuple[str, str, str, Callable[[MethodRow], Spread]], ...] = (
    # name, colour, symbol, figure
    ("OA", "--accent", "circle", lambda row: row.overall),
    ("AA", "--second", "diamond", lambda row: row.average),
    ("kappa × 100", "--good", "square", lambda row: row.kappa),
)


def scene_figures(record: SceneRecord) -> dict[str, Figure]:
    """Every figure the record has data for, by id."""
    figures = [
        methods_figure(method_rows(record)),
        curve_figure(
            record.curves,
            "loss",
            [one.loss for one in record.curves],
            "Loss",
            "mean loss",
            "Lower is better; each point is the mean over the steps since the one before.",
        ),
        curve_figure(
            record.curves,
            "accuracy",
            [100 * one.accuracy for one in record.curves],
            "Accuracy on the training pixels",
            "accuracy, %",
            "Higher is better, but these are the pixels it learns from, drawn while dropout is "
            "on: the figure says that training works, not how good the map is.",
        ),
        confusion_matrix(record.confusion, record.scene.classes, "pixel"),
    ]
    return {figure.id: figure for figure in figures if figure is not None}


def methods_figure(rows: Sequence[MethodRow]) -> Figure | None:
    """OA, AA and kappa of each method, with the deviation over seeds; None without runs."""
    if not rows:
        return None
    names = [_name(row) for row in rows]
    data = [_scores(rows, *score) for score in SCORES]
    layout = plot_layout("%", "")
    layout["yaxis"] |= {
        "tickmode": "array",
        "tickvals": list(range(len(rows))),
        "ticktext": names,
        "range": [len(rows) - 0.5, -0.5],
        "ticks": "",
    }
    best = max(rows, key=lambda row: row.overall.mean)
    return Figure(
        id="methods",
        title="Scores of the methods",
        how_to_read=(
            "Right is better; a mark is the mean over the seeds, each with a split of its own, "
            "and the thin bar reaches one standard deviation to both sides."
        ),
        alt=f"Dot plot of OA, AA and kappa for {len(rows)} methods; the highest OA is "
        f"{percent(best.overall.mean)}, {best.label}.",
        plot={"data": data, "layout": layout},
        height=130 + 64 * len(rows),
    )


def curve_figure(
    curves: Sequence[Curve], name: str, y: list[float], title: str, axis: str, how_to_read: str
) -> Figure | None:
    """One learning curve by step; None without points."""
    if not curves:
        return None
    trace: Plot = {
        "type": "scatter",
        "mode": "lines" if len(curves) > 40 else "lines+markers",
        "x": [one.step for one in curves],
        "y": y,
        "line": {"color": "--accent", "width": 2},
        "marker": {"color": "--accent", "size": 5},
        "hovertemplate": "step %{x}: %{y:.4~g}<extra></extra>",
    }
    return Figure(
        id=f"curves-{name}",
        title=title,
        how_to_read=how_to_read,
        alt=f"Line plot over {len(curves)} points, from {y[0]:.3g} to {y[-1]:.3g}.",
        plot={"data": [trace], "layout": plot_layout("step", axis)},
        height=320,
    )


def _name(row: MethodRow) -> str:
    """Two lines: the method, and how it was trained."""
    trained = "" if row.training == "–" else f"<br>{row.training}"
    return f"{plotly_text(row.label)}{trained}"


def _scores(
    rows: Sequence[MethodRow],
    name: str,
    colour: str,
    symbol: str,
    figure: Callable[[MethodRow], Spread],
) -> Plot:
    """One score of every method; the scores stand a little above each other."""
    spreads = [figure(row) for row in rows]
    offset = 0.18 * ([score[0] for score in SCORES].index(name) - 1)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [100 * one.mean for one in spreads],
        "y": [number + offset for number in range(len(rows))],
        "marker": {"symbol": symbol, "size": 10, "color": colour},
        "error_x": {
            "type": "data",
            "array": [100 * (one.std or 0) for one in spreads],
            "color": colour,
            "thickness": 1.5,
            "width": 3,
        },
        "hovertemplate": f"{name} %{{x:.1f}}<extra></extra>",
    }
