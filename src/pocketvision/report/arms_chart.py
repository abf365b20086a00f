"""What the arms of a search came to: accuracy on val against latency, the front and the budget."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pocketvision.record.run import BudgetSummary
from pocketvision.record.scores import Score
from pocketvision.record.searched import Arm, Search
from pocketvision.record.timing import Latency
from pocketvision.report.chart import Chart, Key, Plane, Shape, both, segment, svg
from pocketvision.report.frontier import (
    Point,
    is_drawable,
    latency_plane,
    limit_line,
    ringed,
    stairs,
    unbeaten,
)
from pocketvision.report.text import (
    megabytes,
    milliseconds,
    milliseconds_range,
    percent,
    percent_range,
)

RADIUS = 6.5  # pixels
MARKS: dict[str, tuple[Shape, str]] = {
    "search": ("circle", "evolution"),
    "random": ("square", "random"),
    "multipliers": ("diamond", "second"),
    "published": ("diamond", "open"),
}
OTHER: tuple[Shape, str] = ("square", "open")


def arms_chart(search: Search | None, budget: BudgetSummary) -> Chart | None:
    """The file that each arm would ship; None where fewer than two came to one."""
    arms = [arm for arm in search.arms if _has_figures(arm)] if search else []
    if len(arms) < 2:
        return None
    wide, narrow = both(lambda width, height: _draw(arms, budget, width, height))
    return Chart(
        id="arms",
        title="What the same time came to",
        how_to_read=(
            "Up is more accurate on val, left is faster; each mark is the file that one way would "
            "ship. The thin bars are 95 % intervals: where those of accuracy meet, a difference "
            "may be chance. The stepped line joins those that none beats in both."
        ),
        alt=_alt(arms),
        wide=wide,
        narrow=narrow,
        keys=_keys(arms),
    )


def _has_figures(arm: Arm) -> bool:
    return arm.accuracy is not None and arm.compared is not None and is_drawable(_point(arm))


def _figures(arm: Arm) -> tuple[Score, Latency]:
    assert arm.accuracy is not None
    assert arm.compared is not None
    return arm.accuracy, arm.compared


def _point(arm: Arm) -> Point:
    accuracy, latency = _figures(arm)
    return latency.median_ms, 100 * accuracy.value


def _draw(arms: Sequence[Arm], budget: BudgetSummary, width: int, height: int) -> Markup:
    ends = [point for arm in arms for point in _ends(arm)]
    limit = budget.latency_ms or max(ms for ms, _ in ends)
    plane = latency_plane(width, height, ends, limit, "latency", "top-1 on val, %")
    front = [_point(arm) for arm in unbeaten(arms, _point)]
    parts = [
        plane.axes(),
        *limit_line(plane, budget.latency_ms, "budget"),
        plane.line(stairs(front, max(limit, front[-1][0])), "front"),
    ]
    for arm in arms:
        shape, style = MARKS.get(arm.name, OTHER)
        parts += [
            _bars(plane, arm),
            plane.mark(shape, *_point(arm), RADIUS, f"best {style}", _tip(arm)),
        ]
        if arm.shipped:
            parts.append(ringed(plane, _point(arm), RADIUS))
    return svg(width, height, *parts)


def _ends(arm: Arm) -> tuple[Point, Point]:
    """The corners that its intervals reach."""
    accuracy, latency = _figures(arm)
    return (latency.low_ms, 100 * accuracy.low), (latency.high_ms, 100 * accuracy.high)


def _bars(plane: Plane, arm: Arm) -> Markup:
    (x, y), ((left, low), (right, high)) = _point(arm), _ends(arm)
    across = segment(plane.px(left), plane.py(y), plane.px(right), plane.py(y), "interval")
    return across + segment(plane.px(x), plane.py(low), plane.px(x), plane.py(high), "interval")


def _tip(arm: Arm) -> str:
    accuracy, latency = _figures(arm)
    lines = [
        f"{arm.name}: {arm.network}",
        f"{percent(accuracy.value)} of {accuracy.n:,} images "
        f"({percent_range(accuracy.low, accuracy.high)})",
        f"{milliseconds(latency.median_ms)} "
        f"({milliseconds_range(latency.low_ms, latency.high_ms)})",
    ]
    if arm.size_bytes is not None:
        lines.append(megabytes(arm.size_bytes))
    return "\n".join(lines)


def _keys(arms: Sequence[Arm]) -> tuple[Key, ...]:
    marks = [
        Key(shape=shape, style=f"best {style}", words=arm.name)
        for arm in arms
        for shape, style in [MARKS.get(arm.name, OTHER)]
    ]
    keys = [*marks, Key(shape="line", style="front", words="front")]
    if any(arm.shipped for arm in arms):
        keys.append(Key(shape="ring", style="ring", words="shipped"))
    return tuple(keys)


def _alt(arms: Sequence[Arm]) -> str:
    told = [
        f"{arm.name} {percent(accuracy.value)} at {milliseconds(latency.median_ms)}"
        for arm in arms
        for accuracy, latency in [_figures(arm)]
    ]
    return f"Scatter plot of accuracy on val against latency: {', '.join(told)}."
