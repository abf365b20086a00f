"""The noise of the integers: how loud it is in each layer, and what it does to the logits."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pocketvision.budget import count_of
from pocketvision.record.files import Quantization, QuantizedLayer
from pocketvision.report.chart import (
    LEFT,
    RIGHT,
    TOP,
    Chart,
    Key,
    Plane,
    Scale,
    both,
    label,
    rectangle,
    segment,
    svg,
)
from pocketvision.report.quantization_rows import (
    LayerRow,
    blame,
    culprits,
    lost_words,
    tried_alone,
)
from pocketvision.report.text import MINUS, clipped, decibels, percent

LOWEST, HIGHEST = -20.0, 80.0  # dB; what lies beyond is drawn at the edge
FULL_SCALE = 10.0  # dB that the axis holds at least
WIDEST_BAR = 28.0  # pixels
LARGEST, SMALLEST = 4.0, 2.0  # pixels, radius of a mark of the logits with few layers and many
NAME_HEIGHT = 16  # pixels of a line of the names above the plane
ROOM_FOR_A_NAME = 500  # pixels of width from which on names may be long


def quantization_chart(found: Quantization | None) -> Chart | None:
    """A bar for the SQNR of every layer, a mark for the logits; None without layers."""
    if found is None or not found.layers:
        return None
    named = culprits(found.layers)
    wide, narrow = both(lambda width, height: _draw(found, named, width, height))
    return Chart(
        id="quantization",
        title="The noise of the integers, layer by layer",
        how_to_read=_how_to_read(found.layers),
        alt=_alt(found.layers, named),
        wide=wide,
        narrow=narrow,
        keys=_keys(found.layers, named),
    )


def _draw(found: Quantization, named: Sequence[LayerRow], width: int, height: int) -> Markup:
    """The names of the culprits stand above the plane, one a line."""
    above = NAME_HEIGHT * len(named)
    plane = _plane(found.layers, width, height - above)
    blamed = {row.number for row in named}
    layers = list(enumerate(found.layers, start=1))
    parts = [
        plane.axes(),
        *(_bar(plane, number, one, number in blamed) for number, one in layers),
        *(_alone(plane, number, one) for number, one in layers),
        *_names(plane, named),
        *(_column(plane, number, _tip(one, found.judged_by)) for number, one in layers),
    ]
    moved = Markup('<g transform="translate(0 {})">{}</g>')
    return svg(width, height, moved.format(above, Markup("").join(parts)))


def _plane(layers: Sequence[QuantizedLayer], width: int, height: int) -> Plane:
    values = [value for one in layers for value in _values(one)]
    low = min(0.0, *values)
    return Plane(
        width=width,
        height=height,
        x=Scale(low=0.5, high=len(layers) + 0.5, whole=True),
        y=Scale(low=1.06 * low, high=1.06 * max(FULL_SCALE, *values)),
        x_title="layer, in the network’s order",
        y_title="SQNR, dB",
    )


def _found(layer: QuantizedLayer) -> list[float]:
    """The SQNR of a layer's output, and that of the logits where it was in integers alone."""
    return [value for value in (layer.sqnr_db, layer.alone_sqnr_db) if value is not None]


def _values(layer: QuantizedLayer) -> list[float]:
    """What is drawn of a layer, within the axis."""
    return [min(max(value, LOWEST), HIGHEST) for value in _found(layer)]


def _bar(plane: Plane, number: int, layer: QuantizedLayer, blamed: bool) -> Markup:
    half = min(0.38, WIDEST_BAR / 2 / _pitch(plane))
    value = _values(layer)[0]
    style = "layer" + " culprit" * blamed + " in-float" * (not layer.in_integers)
    return plane.area((number - half, number + half), (min(value, 0), max(value, 0)), style)


def _alone(plane: Plane, number: int, layer: QuantizedLayer) -> Markup:
    if layer.alone_sqnr_db is None:
        return Markup("")
    radius = min(LARGEST, max(SMALLEST, 0.4 * _pitch(plane)))
    return plane.mark("diamond", number, _values(layer)[-1], radius, "alone")


def _column(plane: Plane, number: int, tip: str) -> Markup:
    """All that is above a layer's number, so that a finger finds it."""
    left, right = plane.px(number - 0.5), plane.px(number + 0.5)
    top, bottom = plane.py(plane.y.high), plane.py(plane.y.low)
    return rectangle(left, top, right - left, bottom - top, "mark unseen", tip)


def _names(plane: Plane, named: Sequence[LayerRow]) -> list[Markup]:
    """The lines first, so that none crosses a name; those nearest to an edge stand highest."""
    placed = sorted(named, key=lambda row: _to_the_edge(plane, row.number))
    lines, names = [], []
    for place, row in enumerate(placed):
        x = plane.px(row.number)
        y = TOP - 6 - NAME_HEIGHT * (len(placed) - 1 - place)
        lines.append(segment(x, y + 4, x, plane.py(max(0.0, *_values(row.layer))) - 7, "interval"))
        left = x < plane.width / 2
        words = clipped(row.layer.name, 34 if plane.width >= ROOM_FOR_A_NAME else 18)
        names.append(label(x + (-3 if left else 3), y, words, "start" if left else "end", "chosen"))
    return lines + names


def _to_the_edge(plane: Plane, number: int) -> float:
    x = plane.px(number)
    return min(x - LEFT, plane.width - RIGHT - x)


def _pitch(plane: Plane) -> float:
    """Pixels from one layer to the next."""
    return plane.px(2) - plane.px(1)


def _tip(layer: QuantizedLayer, judged_by: str) -> str:
    lines = [
        layer.name,
        f"{layer.operator}, {percent(layer.macs_share)} of the multiply-adds",
        f"SQNR {decibels(layer.sqnr_db)} inside the INT8 network",
    ]
    if layer.alone_sqnr_db is not None:
        lines.append(f"alone in integers: logits {decibels(layer.alone_sqnr_db)}")
    if layer.alone is not None:
        lines.append(f"alone in integers: {lost_words(layer.alone, judged_by)}")
    return "\n".join(lines if layer.in_integers else [*lines, "left in float"])


def _keys(layers: Sequence[QuantizedLayer], named: Sequence[LayerRow]) -> tuple[Key, ...]:
    keys = []
    if any(one.in_integers for one in layers):
        keys.append(Key(shape="square", style="layer", words="output of a layer in integers"))
    if not all(one.in_integers for one in layers):
        keys.append(Key(shape="square", style="layer in-float", words="left in float"))
    if named:
        keys.append(Key(shape="square", style="layer culprit", words=blame(layers)))
    if tried_alone(layers):
        words = "logits, when the layer alone is in integers"
        keys.append(Key(shape="diamond", style="alone", words=words))
    return tuple(keys)


def _how_to_read(layers: Sequence[QuantizedLayer]) -> str:
    alone = (
        "A diamond is that of the logits when the layer alone is in integers, so a low diamond "
        "names one that costs. "
        if tried_alone(layers)
        else ""
    )
    beyond = any(not LOWEST <= value <= HIGHEST for one in layers for value in _found(one))
    limits = f"{LOWEST:g} to {HIGHEST:g} dB".replace("-", MINUS)
    edge = f" What lies outside {limits} is drawn at the edge." if beyond else ""
    return (
        "Each bar is one layer’s signal over the noise that integers bring into its output (SQNR), "
        f"inside the INT8 network; 20 dB less are ten times the noise. {alone}The noise of earlier "
        f"layers is in a bar too, so a low one need not be the layer’s own fault.{edge}"
    )


def _alt(layers: Sequence[QuantizedLayer], named: Sequence[LayerRow]) -> str:
    values = [one.sqnr_db for one in layers]
    floats = sum(not one.in_integers for one in layers)
    left = f"; {floats} left in float" if floats else ""
    names = ", ".join(row.layer.name for row in named)
    worst = f" {blame(layers).capitalize()}: {names}." if named else ""
    return (
        f"Bar chart of the SQNR of {count_of(len(layers), 'layer')} in "
        f"the network’s order, from {decibels(min(values))} to {decibels(max(values))}{left}."
        f"{worst} The table below has all figures."
    )
