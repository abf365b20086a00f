"""Everything that was tried: accuracy to expect, latency and size, the front and the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from pocketvision.record.files import Tried
from pocketvision.record.run import BudgetSummary
from pocketvision.report.chart import (
    RIGHT,
    Chart,
    Key,
    Plane,
    Shape,
    around,
    both,
    segment,
    svg,
)
from pocketvision.report.frontier import (
    ROOM_FOR_A_NAME,
    Point,
    latency_scale,
    limit_line,
    named,
    ringed,
    stairs,
    unbeaten,
)
from pocketvision.report.text import megabytes, milliseconds, percent

SHAPES: dict[str, Shape] = {"f32": "circle", "bf16": "diamond", "int8": "square", "w8": "circle"}
SMALLEST, LARGEST = 3.0, 15.0  # pixels, radius of a file of no bytes and of the largest
CROWDED = 60  # marks from which on the largest are smaller


def tried_chart(tried: Sequence[Tried], budget: BudgetSummary) -> Chart | None:
    """Prior against latency, a mark's area being the size; None when nothing was tried."""
    if not tried:
        return None
    front = pareto(tried)
    wide, narrow = both(lambda width, height: _draw(tried, front, budget, width, height))
    limited = any((budget.latency_ms, budget.size_bytes, budget.memory_bytes))
    filled = "filled marks fit the whole budget, hollow ones do not; " if limited else ""
    by_table = tried[0].latency.is_by_table
    where = "on the target by its table" if by_table else "here"
    interval = "its interval by the table" if by_table else "the 95 % interval of its median"
    over = "the shaded side is over the latency asked for; " if budget.latency_ms else ""
    return Chart(
        id="tried",
        title="Accuracy to expect, latency and size",
        how_to_read=(
            f"Up is more accurate on ImageNet as published, left is faster {where}, and a larger "
            f"mark is a larger file ({megabytes(max(o.size_bytes for o in tried))} the largest); "
            f"{filled}{over}the stepped line joins those that none beats in both. "
            f"The thin bar through a mark is {interval}."
        ),
        alt=_alt(tried, len(front)),
        wide=wide,
        narrow=narrow,
        keys=_keys(tried, limited),
    )


def pareto(tried: Sequence[Tried]) -> list[Tried]:
    """Those that no other beats in both prior and latency, the fastest first."""
    return unbeaten(tried, _point)


def _draw(
    tried: Sequence[Tried],
    front: Sequence[Tried],
    budget: BudgetSummary,
    width: int,
    height: int,
) -> Markup:
    limit = budget.latency_ms
    reach = [one.latency.median_ms for one in tried] + ([limit] if limit else [])
    x = latency_scale(reach, logarithmic=True)
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

    steps = plane.line(stairs([_point(one) for one in front], x.high), "front")
    parts = [plane.axes(), *limit_line(plane, limit, "budget"), steps]
    for one in sorted(tried, key=lambda one: (one.chosen, one.fits, -one.size_bytes)):
        parts += [_interval(plane, one), _mark(plane, one, radius(one))]
    for one in tried:
        if one.chosen:
            place = plane, _point(one), radius(one)
            parts += [ringed(*place), named(*place, one.network)]
    return svg(width, height, *parts)


def _point(one: Tried) -> Point:
    return one.latency.median_ms, 100 * one.prior.top1


def _mark(plane: Plane, one: Tried, radius: float) -> Markup:
    style = "fits" if one.fits else "open"
    return plane.mark(SHAPES[one.precision], *_point(one), radius, style, _tip(one))


def _interval(plane: Plane, one: Tried) -> Markup:
    y = plane.py(100 * one.prior.top1)
    low, high = (plane.px(max(ms, plane.x.low)) for ms in (one.latency.low_ms, one.latency.high_ms))
    return segment(low, y, min(high, plane.width - RIGHT), y, "interval")


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
        f"Scatter plot of {len(tried)} combinations, prior against latency, from "
        f"{milliseconds(min(times))} to {milliseconds(max(times))}; {front} lie on the front and "
        f"{sum(one.fits for one in tried)} fit the budget.{chosen} The table below has all figures."
    )
