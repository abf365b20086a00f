"""What charts of accuracy against latency share: the plane, the front, the limit and a name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from markupsafe import Markup

from pocketvision.budget import format_latency
from pocketvision.report.chart import (
    LEFT,
    RIGHT,
    TOP,
    Plane,
    Scale,
    around,
    label,
    mark,
    rectangle,
    segment,
)
from pocketvision.report.text import clipped

ROOM_FOR_A_NAME = 500  # pixels of width from which on one mark is named
FAR_APART = 4.0  # times the least latency, from which on an axis is logarithmic
MOST_MARKS = 300  # in one chart; where there are more, a page is slow and nothing is seen

One = TypeVar("One")
Point = tuple[float, float]  # latency in ms, accuracy


def is_drawable(point: Point) -> bool:
    """Whether a plane has a place for it, whatever its axes are."""
    return 0 < point[0] < math.inf and math.isfinite(point[1])


def unbeaten(found: Sequence[One], point_of: Callable[[One], Point]) -> list[One]:
    """Those that no other beats in both latency and accuracy, the fastest first."""
    front: list[One] = []
    for one in sorted(found, key=lambda one: (point_of(one)[0], -point_of(one)[1])):
        if not front or point_of(one)[1] > point_of(front[-1])[1]:
            front.append(one)
    return front


def stairs(front: Sequence[Point], end: float) -> list[Point]:
    """Best accuracy within each latency, as a line of steps up to the end of the axis."""
    points: list[Point] = []
    for ms, accuracy in front:
        points += [(ms, points[-1][1]), (ms, accuracy)] if points else [(ms, accuracy)]
    return [*points, (end, points[-1][1])]


def thinned(found: Sequence[One], most: int) -> list[One]:
    """All, or `most` of them at even distances in their order."""
    if len(found) <= most:
        return list(found)
    return [found[k * len(found) // most] for k in range(most)]


def latency_scale(reach: Sequence[float], *, logarithmic: bool) -> Scale:
    """An axis that holds these latencies."""
    low = 0.85 * max(min(reach), 1e-6)
    return Scale(low=low, high=max(1.18 * max(reach), 1.5 * low), logarithmic=logarithmic)


def latency_plane(
    width: int, height: int, points: Sequence[Point], limit: float, x_words: str, y_words: str
) -> Plane:
    """A plane that holds points of ms and per cent, and the limit; logarithmic where it helps."""
    reach = [ms for ms, _ in points] + [limit]
    logarithmic = max(reach) > FAR_APART * min(reach)
    return Plane(
        width=width,
        height=height,
        x=latency_scale(reach, logarithmic=logarithmic),
        y=around([accuracy for _, accuracy in points], 0.09),
        x_title=f"{x_words}, ms{' (logarithmic)' if logarithmic else ''}",
        y_title=y_words,
    )


def limit_line(plane: Plane, limit: float | None, word: str) -> list[Markup]:
    """The limit as an upright line, and a veil over what is slower."""
    if not limit:
        return []
    x, bottom = plane.px(limit), plane.py(plane.y.low)
    right = x - LEFT > (plane.width - LEFT - RIGHT) / 2  # where the words have room
    words = f"{word} {format_latency(limit)}"
    return [
        rectangle(x, TOP, plane.width - RIGHT - x, bottom - TOP, "veil"),
        segment(x, TOP, x, bottom, "budget"),
        label(x + (-6 if right else 6), TOP + 14, words, "end" if right else "start", "budget"),
    ]


def ringed(plane: Plane, point: Point, radius: float) -> Markup:
    """A ring around a mark."""
    return mark("circle", plane.px(point[0]), plane.py(point[1]), radius + 5, "ring")


def named(plane: Plane, point: Point, radius: float, name: str) -> Markup:
    """A name above a mark where it has room: what is much like it stands left and right."""
    if plane.width < ROOM_FOR_A_NAME:
        return Markup("")
    x, y = plane.px(point[0]), plane.py(point[1])
    left = x < plane.width / 2
    above = y - radius - 12 if y > TOP + 40 else y + radius + 20
    anchor = "start" if left else "end"
    return label(x - 4 if left else x + 4, above, clipped(name, 30), anchor, "chosen")
