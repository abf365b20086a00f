"""Precision by recall, of each class and on average."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pocketvision.record.scores import DetectionFigures
from pocketvision.report.chart import Chart, Key, Plane, Scale, both, svg
from pocketvision.report.text import percent

MOST_CLASSES = 12  # that have a line of their own
TOLD = 10  # recalls, in hundredths, between dots that say where they are


def precision_recall_chart(
    figures: DetectionFigures | None, classes: Sequence[str]
) -> Chart | None:
    """At IoU 0.5; None where nothing was to be found."""
    curves = {
        name: [100 * value for value in curve]
        for name, curve in zip(classes, () if figures is None else figures.precisions, strict=False)
        if curve
    }
    if not curves:
        return None
    columns = list(zip(*curves.values(), strict=True))
    mean = [sum(column) / len(column) for column in columns]
    shown = curves if len(curves) <= MOST_CLASSES else {}

    def draw(width: int, height: int) -> Markup:
        plane = Plane(
            width=width,
            height=height,
            x=Scale(low=0, high=100),
            y=Scale(low=0, high=100),
            x_title="recall, %",
            y_title="precision, %",
        )
        lines = [_curve(plane, name, curve, "second") for name, curve in shown.items()]
        return svg(width, height, plane.axes(), *lines, _curve(plane, "mean", mean, "first"))

    wide, narrow = both(draw)
    return Chart(
        id="precision-recall",
        title="Precision and recall at IoU 0.50",
        how_to_read=(
            "Each line is one class; further up and to the right is better. A point says what "
            "share of the boxes is right where so many of the objects are found."
        ),
        alt=f"Line plot of precision by recall of {len(curves)} classes; the mean precision is "
        f"{percent(sum(mean) / len(mean) / 100)}.",
        wide=wide,
        narrow=narrow,
        keys=(
            Key(shape="line", style="first", words="mean of the classes"),
            Key(shape="line", style="second", words="one class"),
        ),
    )


def _curve(plane: Plane, name: str, curve: Sequence[float], style: str) -> Markup:
    line = plane.line([(float(x), y) for x, y in enumerate(curve)], style)
    dots = [
        plane.mark("circle", x, curve[x], 2.5, style, f"{name}\nrecall {x} %\n{curve[x]:.1f} %")
        for x in range(0, len(curve), TOLD)
    ]
    return line + Markup("").join(dots)
