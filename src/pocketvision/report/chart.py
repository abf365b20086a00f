"""Charts as SVG that needs no script: scales, axes and marks.

Every element is styled by a class of charts.css, so that a chart follows the light and the dark
scheme and prints. Words reach the page through `escape` alone. A mark with a tip says it in
`data-tip`, which the page's script shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

LEFT, RIGHT, TOP, BOTTOM = 54, 14, 12, 46  # pixels around the plane
PIXELS_PER_TICK = 70
LABEL_HEIGHT = 4  # pixels that a label's baseline lies below its middle

Shape = Literal["circle", "square", "diamond"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """One entry of a legend: a mark or a line as in the chart, and its words."""

    shape: Shape | Literal["line", "ring"]
    style: str
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """One chart and the words that go with it.

    how_to_read: one or two sentences. alt: what it shows, for those who do not see it.
    wide, narrow: the same chart for a screen and for a phone. half: two stand side by side.
    """

    id: str
    title: str
    how_to_read: str
    alt: str
    wide: Markup
    narrow: Markup
    keys: tuple[Key, ...] = ()
    half: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """Values low..high on one axis; low below high, above 0 where it is logarithmic.

    whole: only whole numbers are marked, as where things are counted.
    """

    low: float
    high: float
    logarithmic: bool = False
    whole: bool = False

    def at(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, count: int) -> list[float]:
        """Round values on the axis, about `count` of them."""
        ticks = self._decades(count) if self.logarithmic else self._steps(count)
        return [tick for tick in ticks if not self.whole or abs(tick - round(tick)) < 1e-9]

    def _decades(self, count: int) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        shown: list[float] = []
        for steps in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            ticks = [step * 10.0**decade for decade in decades for step in steps]
            shown = [tick for tick in ticks if self.low <= tick <= self.high]
            if len(shown) <= count:
                break
        return shown if len(shown) > 1 else self._steps(count)

    def _steps(self, count: int) -> list[float]:
        rough = (self.high - self.low) / max(count, 1)
        decade = 10.0 ** math.floor(math.log10(rough))
        step = next(s * decade for s in (1, 2, 2.5, 5, 10) if s * decade >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def around(values: Sequence[float], margin: float = 0.06) -> Scale:
    """A scale that holds all finite values, with a margin as a share of their range."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    room = margin * (high - low) or 0.1 * abs(high) or 1.0
    return Scale(low=low - room, high=high + room)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plane:
    """Where a chart of so many pixels shows its values; the origin is below on the left."""

    width: int
    height: int
    x: Scale
    y: Scale
    x_title: str
    y_title: str

    def px(self, x: float) -> float:
        """Pixels from the left of the chart."""
        return LEFT + self.x.at(x) * (self.width - LEFT - RIGHT)

    def py(self, y: float) -> float:
        """Pixels from the top of the chart."""
        return self.height - BOTTOM - self.y.at(y) * (self.height - TOP - BOTTOM)

    def line(self, points: Sequence[tuple[float, float]], style: str) -> Markup:
        """A line through points in values; a point that is not finite leaves a gap."""
        steps, pen_up = [], True
        for x, y in points:
            if not (math.isfinite(x) and math.isfinite(y)):
                pen_up = True
                continue
            steps.append(f"{'M' if pen_up else 'L'}{self.px(x):.1f} {self.py(y):.1f}")
            pen_up = False
        return Markup('<path class="line {}" d="{}"/>').format(style, "".join(steps))

    def dots(self, points: Sequence[tuple[float, float]], style: str) -> Markup:
        """Many points as one path: short lines without length, whose round ends are the dots."""
        path = "".join(f"M{self.px(x):.1f} {self.py(y):.1f}h0" for x, y in points)
        return Markup('<path class="dots {}" d="{}"/>').format(style, path)

    def mark(
        self, shape: Shape, x: float, y: float, radius: float, style: str, tip: str = ""
    ) -> Markup:
        """One mark in the middle of (x, y), in values."""
        return mark(shape, self.px(x), self.py(y), radius, style, tip)

    def area(self, x: tuple[float, float], y: tuple[float, float], style: str) -> Markup:
        """A filled box between two values of x and two of y."""
        left, right = self.px(x[0]), self.px(x[1])
        top, bottom = self.py(y[1]), self.py(y[0])
        return rectangle(left, top, right - left, bottom - top, style)

    def axes(self) -> Markup:
        """Grid, ticks and titles."""
        bottom, right = self.height - BOTTOM, self.width - RIGHT
        parts = []
        across = self.x.ticks((self.width - LEFT - RIGHT) // PIXELS_PER_TICK)
        for value, words in zip(across, tick_words(across), strict=True):
            x = self.px(value)
            parts.append(segment(x, TOP, x, bottom, "grid"))
            parts.append(label(x, bottom + 17, words, "middle"))
        up = self.y.ticks((self.height - TOP - BOTTOM) // (PIXELS_PER_TICK - 20))
        for value, words in zip(up, tick_words(up), strict=True):
            y = self.py(value)
            parts.append(segment(LEFT, y, right, y, "grid"))
            parts.append(label(LEFT - 8, y + LABEL_HEIGHT, words, "end"))
        parts.append(segment(LEFT, bottom, right, bottom, "axis"))
        parts.append(label((LEFT + right) / 2, self.height - 6, self.x_title, "middle", "title"))
        parts.append(turned(13, (TOP + bottom) / 2, self.y_title, "middle", "title"))
        return Markup("").join(parts)


def tick_words(ticks: Sequence[float]) -> list[str]:
    """Ticks as text, without the noise of floating point."""
    return [f"{round(tick, 9):g}" for tick in ticks]


def svg(width: int, height: int, *parts: Markup) -> Markup:
    """A chart of parts; what it shows is said by the element around it."""
    start = Markup('<svg viewBox="0 0 {0} {1}" width="{0}" height="{1}" aria-hidden="true">')
    return start.format(width, height) + Markup("").join(parts) + Markup("</svg>")


def both(draw: Callable[[int, int], Markup], *, half: bool = False) -> tuple[Markup, Markup]:
    """A chart drawn wide and narrow; `draw` takes width and height."""
    return draw(500, 320) if half else draw(880, 440), draw(330, 300)


def mark(shape: Shape, x: float, y: float, radius: float, style: str, tip: str = "") -> Markup:
    """One mark in pixels; all shapes of one radius have one area."""
    said = Markup(' data-tip="{}"').format(tip) if tip else Markup("")
    if shape == "circle":
        outline = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}"').format(x, y, radius)
    else:
        half = radius * math.sqrt(math.pi) / 2
        if shape == "diamond":
            half *= math.sqrt(2)
            path = f"M{x:.1f} {y - half:.1f}l{half:.1f} {half:.1f}l{-half:.1f} {half:.1f}"
            path += f"l{-half:.1f} {-half:.1f}z"
        else:
            path = f"M{x - half:.1f} {y - half:.1f}h{2 * half:.1f}v{2 * half:.1f}h{-2 * half:.1f}z"
        outline = Markup('<path d="{}"').format(path)
    return outline + Markup(' class="mark {}"{}/>').format(style, said)


def rectangle(x: float, y: float, width: float, height: float, style: str, tip: str = "") -> Markup:
    """A box in pixels, from its upper left corner."""
    said = Markup(' data-tip="{}"').format(tip) if tip else Markup("")
    box = '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}"{}/>'
    return Markup(box).format(x, y, width, height, style, said)


def segment(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    """A straight line in pixels."""
    line = '<path d="M{:.1f} {:.1f}L{:.1f} {:.1f}" class="{}"/>'
    return Markup(line).format(x1, y1, x2, y2, style)


def label(x: float, y: float, words: str, anchor: str, style: str = "") -> Markup:
    """Words in one line, in pixels; anchor: start, middle or end."""
    text = '<text x="{:.1f}" y="{:.1f}" text-anchor="{}"{}>{}</text>'
    named = Markup(' class="{}"').format(style) if style else Markup("")
    return Markup(text).format(x, y, anchor, named, escape(words))


def turned(x: float, y: float, words: str, anchor: str, style: str = "") -> Markup:
    """Words that are read from below, in pixels."""
    group = Markup('<g transform="translate({:.1f} {:.1f}) rotate(-90)">{}</g>')
    return group.format(x, y, label(0, 0, words, anchor, style))
