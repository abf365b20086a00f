"""What a search scored: accuracy to expect against latency, the front and the limit."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pocketvision.budget import count_of, format_latency
from pocketvision.record.searched import Search, SearchedNetwork
from pocketvision.record.words import Sampling
from pocketvision.report.chart import Chart, Key, Plane, Shape, both, svg
from pocketvision.report.frontier import (
    MOST_MARKS,
    ROOM_FOR_A_NAME,
    Point,
    is_drawable,
    latency_plane,
    limit_line,
    stairs,
    thinned,
)
from pocketvision.report.search_rows import METHODS, search_front
from pocketvision.report.text import clipped, megabytes, milliseconds, percent

SHAPES: dict[Sampling, Shape] = {"evolution": "circle", "random": "square", "rl": "diamond"}
LONGEST_TIP = 120  # letters of a network's choices


def search_chart(search: Search | None) -> Chart | None:
    """Accuracy to expect against latency by table; None where nothing was scored."""
    if search is None:
        return None
    scored = [one for one in search.scored if is_drawable(_point(one))]
    if not scored:
        return None
    limit = search.limit_ms
    front = search_front(scored)
    others = _others(scored, front)
    wide, narrow = both(lambda width, height: _draw(others, front, limit, width, height))
    return Chart(
        id="search",
        title="The networks that were scored",
        how_to_read=_how_to_read(len(scored), len(front), len(others)),
        alt=_alt(scored, front, limit),
        wide=wide,
        narrow=narrow,
        keys=_keys([*others, *front]),
    )


def _others(
    scored: Sequence[SearchedNetwork], front: Sequence[SearchedNetwork]
) -> list[SearchedNetwork]:
    """Those to draw beside the front; the order makes thinning even over methods and latencies."""
    best = {id(one) for one in front}
    others = [one for one in scored if id(one) not in best]
    others.sort(key=lambda one: (one.origin, one.latency_ms, one.accuracy))
    return thinned(others, max(MOST_MARKS - len(front), 0))


def _draw(
    others: Sequence[SearchedNetwork],
    front: Sequence[SearchedNetwork],
    limit: float,
    width: int,
    height: int,
) -> Markup:
    points = [_point(one) for one in (*others, *front)]
    words = "latency by table", "accuracy to expect, %"
    plane = latency_plane(width, height, points, limit, *words)
    small, large = (3.0, 5.5) if width >= ROOM_FOR_A_NAME else (2.2, 4.0)
    steps = stairs([_point(one) for one in front], max(limit, front[-1].latency_ms))
    return svg(
        width,
        height,
        plane.axes(),
        *limit_line(plane, limit, "limit"),
        plane.line(steps, "front"),
        *(_mark(plane, one, small, "scored", _figures(one)) for one in others),
        *(_mark(plane, one, large, "best", _tip(one)) for one in front),
    )


def _point(one: SearchedNetwork) -> Point:
    return one.latency_ms, 100 * one.accuracy


def _mark(plane: Plane, one: SearchedNetwork, radius: float, style: str, tip: str) -> Markup:
    return plane.mark(SHAPES[one.origin], *_point(one), radius, f"{style} {one.origin}", tip)


def _figures(one: SearchedNetwork) -> str:
    return (
        f"{percent(one.accuracy)} to expect\n{milliseconds(one.latency_ms)} by table, "
        f"{megabytes(one.size_bytes)}\n{one.resolution} pixels, {METHODS[one.origin]}"
    )


def _tip(one: SearchedNetwork) -> str:
    return f"{clipped(one.described, LONGEST_TIP)}\n{_figures(one)}"


def _keys(drawn: Sequence[SearchedNetwork]) -> tuple[Key, ...]:
    seen = {one.origin for one in drawn}
    marks = [
        Key(shape=SHAPES[origin], style=f"best {origin}", words=METHODS[origin])
        for origin in SHAPES
        if origin in seen
    ]
    return (*marks, Key(shape="line", style="front", words="front"))


def _how_to_read(scored: int, front: int, others: int) -> str:
    drawn = front + others
    left_out = (
        f" {drawn:,} of the {scored:,} are drawn: the whole front, and the others thinned evenly."
        if drawn < scored
        else ""
    )
    return (
        "Up is more accurate, left is faster; the large marks, which the stepped line joins, are "
        "the front: no other is better in both. The shaded side is over the limit, which every "
        f"network that was scored had to keep.{left_out}"
    )


def _alt(scored: Sequence[SearchedNetwork], front: Sequence[SearchedNetwork], limit: float) -> str:
    times = [one.latency_ms for one in scored]
    best = front[-1]
    return (
        f"Scatter plot of {count_of(len(scored), 'scored network')}, accuracy to expect "
        f"against latency by table, from {milliseconds(min(times))} to {milliseconds(max(times))} "
        f"within a limit of {format_latency(limit)}; {len(front)} on the front, up to "
        f"{percent(best.accuracy)} at {milliseconds(best.latency_ms)}. The table below has all "
        "figures of the front."
    )
