"""Everything that was tried: accuracy to expect, latency and size, the front and the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from pocketvision.budget import format_latency
from pocketvision.record import BudgetSummary, Tried
from pocketvision.report.chart import (
    LEFT,
    RIGHT,
    TOP,
    Chart,
    Key,
    Plane,
    Scale,
    Shape,
    around,
    both,
    label,
    mark,
    rectangle,
    segment,
    svg,
)
from pocketvision.report.text import clipped, megabytes, milliseconds, percent

SHAPES: dict[str, Shape] = {"f32": "circle", "bf16": "diamond", "int8": "square", "w8": "circle"}
SMALLEST, LARGEST = 3.0, 15.0  # pixels, radius of a file of no bytes and of the largest
CROWDED = 60  # marks from which on the largest are smaller
ROOM_FOR_A_NAME = 500  # pixels of width from which on the chosen one is named


def tried_chart(tried: Sequence[Tried], budget: BudgetSummary) -> Chart | None:
    """Prior against latency, a mark's area being the size; None when nothing was tried."""
    if not tried:
        return None
    front = pareto(tried)
    wide, narrow = both(lambda width, height: _draw(tried, front, budget, width, height))
    limited = any((budget.latency_ms, budget.size_bytes, budget.memory_bytes))
    filled = "filled marks fit the whole budget, hollow ones do not; " if limited else ""
    over = "the shaded side is over the latency asked for; " if budget.latency_ms else ""
    return Chart(
        id="tried",
        title="Accuracy to expect, latency and size",
        how_to_read=(
            "Up is more accurate on ImageNet as published, left is faster here, and a larger mark "
            f"is a larger file ({megabytes(max(one.size_bytes for one in tried))} the largest); "
            f"{filled}{over}the stepped line joins those that none beats in both. "
            "The thin bar through a mark is the 95 % interval of its median."
        ),
        alt=_alt(tried, len(front)),
        wide=wide,
        narrow=narrow,
        keys=_keys(tried, limited),
    )


def pareto(tried: Sequence[Tried]) -> list[Tried]:
    """Those that no other beats in both prior and latency, the fastest first."""
    front: list[Tried] = []
    for one in sorted(tried, key=lambda one: (one.latency.median_ms, -one.prior.top1)):
        if not front or one.prior.top1 > front[-1].prior.top1:
            front.append(one)
    return front


def _draw(
    tried: Sequence[Tried],
    front: Sequence[Tried],
    budget: BudgetSummary,
    width: int,
    height: int,
) -> Markup:
    limit = budget.latency_ms
    reach = [one.latency.median_ms for one in tried] + ([limit] if limit else [])
    low = 0.85 * max(min(reach), 1e-6)
    x = Scale(low=low, high=max(1.18 * max(reach), 1.5 * low), logarithmic=True)
    plane = Plane(
        width=width,
        height=height,
        x=x,
        y=around([100 * one.prior.top1 for one in tried], 0.09),
        x_title="latency, ms (median, batch 1, logarithmic)",
        y_title="prior: ImageNet top-1, %",
    )
    largest = max(one.size_bytes for one in tried) or 1
    reachable = LARGEST if len(tried) < CROWDED and width >= ROOM_FOR_A_NAME else 0.66 * LARGEST

    def radius(one: Tried) -> float:
        return SMALLEST + (reachable - SMALLEST) * math.sqrt(one.size_bytes / largest)

    parts = [*_budget(plane, limit), plane.axes(), plane.line(_stairs(front, x.high), "front")]
    for one in sorted(tried, key=lambda one: (one.chosen, one.fits, -one.size_bytes)):
        parts += [_interval(plane, one), _mark(plane, one, radius(one))]
    parts += [_chosen(plane, one, radius(one)) for one in tried if one.chosen]
    return svg(width, height, *parts)


def _stairs(front: Sequence[Tried], end: float) -> list[tuple[float, float]]:
    """Best prior within each latency, as a line of steps up to the end of the axis."""
    points: list[tuple[float, float]] = []
    for one in front:
        ms, top1 = one.latency.median_ms, 100 * one.prior.top1
        points += [(ms, points[-1][1]), (ms, top1)] if points else [(ms, top1)]
    return [*points, (end, points[-1][1])]


def _mark(plane: Plane, one: Tried, radius: float) -> Markup:
    style = "fits" if one.fits else "open"
    x, y = one.latency.median_ms, 100 * one.prior.top1
    return plane.mark(SHAPES[one.precision], x, y, radius, style, _tip(one))


def _interval(plane: Plane, one: Tried) -> Markup:
    y = plane.py(100 * one.prior.top1)
    low, high = (plane.px(max(ms, plane.x.low)) for ms in (one.latency.low_ms, one.latency.high_ms))
    return segment(low, y, min(high, plane.width - RIGHT), y, "interval")


def _chosen(plane: Plane, one: Tried, radius: float) -> Markup:
    """A ring, and the name above: the same network in other runtimes stands left and right."""
    x, y = plane.px(one.latency.median_ms), plane.py(100 * one.prior.top1)
    ring = mark("circle", x, y, radius + 5, "ring")
    if plane.width < ROOM_FOR_A_NAME:
        return ring
    left = x < plane.width / 2
    above = y - radius - 12 if y > TOP + 40 else y + radius + 20
    words = clipped(one.network, 30)
    return ring + label(
        x - 4 if left else x + 4, above, words, "start" if left else "end", "chosen"
    )


def _budget(plane: Plane, limit: float | None) -> list[Markup]:
    if not limit:
        return []
    x, bottom = plane.px(limit), plane.py(plane.y.low)
    right = x - LEFT > (plane.width - LEFT - RIGHT) / 2  # where the words have room
    words = f"budget {format_latency(limit)}"
    return [
        rectangle(x, TOP, plane.width - RIGHT - x, bottom - TOP, "veil"),
        segment(x, TOP, x, bottom, "budget"),
        label(x + (-6 if right else 6), TOP + 14, words, "end" if right else "start", "budget"),
    ]


def _tip(one: Tried) -> str:
    lines = [
        one.network,
        f"{one.runtime} {one.precision}",
        f"prior {percent(one.prior.top1)}, {one.prior.source}",
        f"{milliseconds(one.latency.median_ms)}, {megabytes(one.size_bytes)}",
    ]
    if one.peak_bytes is not None:
        lines.append(f"{megabytes(one.peak_bytes)} of memory")
    return "\n".join(lines)


def _keys(tried: Sequence[Tried], limited: bool) -> tuple[Key, ...]:
    seen = {one.precision for one in tried}
    keys = [Key(shape=SHAPES[p], style="fits", words=p) for p in SHAPES if p in seen]
    if limited and not all(one.fits for one in tried):
        keys.append(Key(shape="circle", style="open", words="over the budget"))
    keys.append(Key(shape="line", style="front", words="front"))
    if any(one.chosen for one in tried):
        keys.append(Key(shape="ring", style="ring", words="chosen and trained"))
    return tuple(keys)


def _alt(tried: Sequence[Tried], front: int) -> str:
    times = [one.latency.median_ms for one in tried]
    chosen = next((f" Chosen: {one.network}." for one in tried if one.chosen), "")
    return (
        f"Scatter plot of {len(tried)} measured combinations, prior against latency, from "
        f"{milliseconds(min(times))} to {milliseconds(max(times))}; {front} lie on the front and "
        f"{sum(one.fits for one in tried)} fit the budget.{chosen} The table below has all figures."
    )
