"""What the integers cost, as the page tells it: the worst layer first, the culprits in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pocketvision.record.files import Quantization, QuantizedLayer
from pocketvision.record.scores import Comparison
from pocketvision.record.words import Metric
from pocketvision.report import text

CULPRITS_NAMED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerRow:
    """One layer and its place in the network, counted from 1."""

    number: int
    layer: QuantizedLayer
    culprit: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class IntegerRows:
    """What the section about the integers shows besides the record itself.

    layers: the worst first. culprits: a sentence, "" where none is named. blame: the word for them.
    alone: layers were tried alone; compared: on images too. metric: what files were judged by.
    """

    ranges: str
    layers: tuple[LayerRow, ...]
    culprits: str
    blame: str
    alone: bool
    compared: bool
    metric: Metric


def integer_rows(found: Quantization | None) -> IntegerRows | None:
    """Rows and words of a quantization; None where there was none."""
    if found is None:
        return None
    return IntegerRows(
        ranges=ranges_words(found.ranges),
        layers=tuple(worst_first(found.layers)),
        culprits=culprits_sentence(found),
        blame=blame(found.layers),
        alone=tried_alone(found.layers),
        compared=any(one.alone is not None for one in found.layers),
        metric=next(
            (one.comparison.accuracy.metric for one in found.rungs if one.comparison), "top-1"
        ),
    )


def worst_first(layers: Sequence[QuantizedLayer]) -> list[LayerRow]:
    """All layers: those tried alone by the SQNR of the logits, then the others by their own.

    The first `CULPRITS_NAMED` are the culprits; a layer in float is one only by what it did alone,
    for the noise of its output comes from others.
    """
    order = sorted(range(len(layers)), key=lambda index: _badness(layers[index]))
    return [
        LayerRow(
            number=index + 1,
            layer=layers[index],
            culprit=place < CULPRITS_NAMED and _may_be_blamed(layers[index]),
        )
        for place, index in enumerate(order)
    ]


def culprits(layers: Sequence[QuantizedLayer]) -> list[LayerRow]:
    """The layers to name, the worst first; at most `CULPRITS_NAMED`."""
    return [row for row in worst_first(layers) if row.culprit]


def blame(layers: Sequence[QuantizedLayer]) -> str:
    """What is said of a culprit: only a layer that was tried alone is known to cost something."""
    return "costs most" if tried_alone(layers) else "noisiest"


def tried_alone(layers: Sequence[QuantizedLayer]) -> bool:
    """Whether any layer was in integers alone."""
    return any(one.alone_sqnr_db is not None for one in layers)


def culprits_sentence(found: Quantization) -> str:
    """The culprits in words: where each is, what it costs, and that it was spared; "" for none."""
    verb = "costs most" if tried_alone(found.layers) else "has the noisiest output"
    starts = (f"{{}} {verb}: ", "Next comes {}: ", "Then {}: ")
    return " ".join(
        f"{start.format(_introduced(row.layer))}{cost_words(row.layer, found.judged_by)}."
        for start, row in zip(starts, culprits(found.layers), strict=False)
    )


def cost_words(layer: QuantizedLayer, judged_by: str) -> str:
    """What one layer costs, as far as it was measured."""
    if layer.alone_sqnr_db is None:
        words = f"an SQNR of {text.decibels(layer.sqnr_db)} inside the INT8 network"
    else:
        words = (
            "when it alone is in integers, the logits have an SQNR of "
            f"{text.decibels(layer.alone_sqnr_db)}"
        )
    if layer.alone is not None:
        words += f" and {lost_words(layer.alone, judged_by)}"
    return words if layer.in_integers else f"{words}; it is left in float"


def lost_words(comparison: Comparison, judged_by: str) -> str:
    """What was lost against float, by the measure of the gate."""
    if judged_by == "agreement":
        return f"{text.percent(comparison.agreement)} of images are named as before"
    lost = text.points(comparison.drop).removeprefix("+")
    interval = text.points_range(comparison.drop_low, comparison.drop_high)
    return f"{lost} points are lost (95 % interval {interval})"


def ranges_words(ranges: Mapping[str, int]) -> str:
    """Tensors by the method that set their range: '61 by mse, 20 by minmax'."""
    by_count = sorted(ranges.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count:,} by {method}" for method, count in by_count if count)


def _badness(layer: QuantizedLayer) -> tuple[int, float]:
    if layer.alone_sqnr_db is not None:
        return 0, layer.alone_sqnr_db
    return (1 if layer.in_integers else 2), layer.sqnr_db


def _may_be_blamed(layer: QuantizedLayer) -> bool:
    return layer.in_integers or layer.alone_sqnr_db is not None


def _introduced(layer: QuantizedLayer) -> str:
    return f"{layer.name} ({layer.operator}, {text.percent(layer.macs_share)} of the arithmetic)"
