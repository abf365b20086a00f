"""The rows of the page's tables and its bars, worked out from what the record holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pocketvision.budget import format_latency, format_size, format_time
from pocketvision.intervals import wilson
from pocketvision.record.files import Tried
from pocketvision.record.run import BudgetSummary, Record, SplitSummary, Step
from pocketvision.record.timing import Latency, LayerTime
from pocketvision.report import text

CONFUSIONS_SHOWN = 10
LAYERS_SHOWN = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One measured figure against its limit; positions are percentages of the bar's width."""

    label: str
    value: str
    limit: str
    fill: float
    limit_at: float | None
    low: float | None = None
    high: float | None = None
    over: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassRow:
    """One class in the headline split: how many of its images were named rightly.

    recall: right / count; low..high: its 95 % interval. precision: the share of the images named
    so that are of the class; None where none was. taken_for: the wrong class named most often, ""
    where none was.
    """

    name: str
    count: int
    right: int
    recall: float
    low: float
    high: float
    precision: float | None
    taken_for: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusion:
    """One pair of classes and how often the first was taken for the second."""

    true: str
    named: str
    count: int
    share: float  # of the images of the true class


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRow:
    """One step, its share of the time, and how its figures changed from the last that had them."""

    step: Step
    share: float
    score_change: str = ""
    latency_change: str = ""
    size_change: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class KindRow:
    """All operators of one kind in the shipped file; share: of the time of all operators."""

    kind: str
    layers: int
    median_ms: float
    share: float


def budget_bars(record: Record) -> list[Bar]:
    """Latency, size, memory and time against the budget, as `measured_bars`."""
    return measured_bars(
        record.budget,
        latency=record.budgeted,
        size_bytes=record.shipped.size_bytes,
        peak_bytes=record.peak_bytes,
        spent_s=record.spent_s,
    )


def measured_bars(
    budget: BudgetSummary,
    *,
    latency: Latency,
    size_bytes: int,
    peak_bytes: int | None,
    spent_s: float,
) -> list[Bar]:
    """One bar for each figure; memory where it was measured, time where it was limited."""
    bars = [
        _bar(
            "Latency",
            text.milliseconds(latency.median_ms),
            latency.median_ms,
            budget.latency_ms,
            "" if budget.latency_ms is None else format_latency(budget.latency_ms),
            interval=(latency.low_ms, latency.high_ms),
        ),
        _bar(
            "Size",
            text.megabytes(size_bytes),
            size_bytes,
            budget.size_bytes,
            "" if budget.size_bytes is None else format_size(budget.size_bytes),
        ),
    ]
    if peak_bytes is not None:
        limit = budget.memory_bytes
        limit_text = "" if limit is None else format_size(limit)
        bars.append(_bar("Peak memory", text.megabytes(peak_bytes), peak_bytes, limit, limit_text))
    if budget.time_s is not None:
        asked = format_time(budget.time_s)
        bars.append(
            _bar("Time of the whole run", format_time(spent_s), spent_s, budget.time_s, asked)
        )
    return bars


def in_reading_order(tried: Sequence[Tried]) -> list[Tried]:
    """The chosen one, those that fit, the others; within each the most accurate by prior first."""
    return sorted(
        tried,
        key=lambda one: (not one.chosen, not one.fits, -one.prior.top1, one.latency.median_ms),
    )


def class_rows(record: Record) -> list[ClassRow]:
    """Classes that have images in the headline split, the hardest first."""
    names, confusion = record.data.classes, record.confusion
    named = [sum(column) for column in zip(*confusion, strict=True)]
    rows = []
    for i, (name, row) in enumerate(zip(names, confusion, strict=False)):
        if not sum(row):
            continue
        low, high = wilson(row[i], sum(row))
        rows.append(
            ClassRow(
                name=name,
                count=sum(row),
                right=row[i],
                recall=row[i] / sum(row),
                low=low,
                high=high,
                precision=row[i] / named[i] if named[i] else None,
                taken_for=taken_for(row, i, names),
            )
        )
    return sorted(rows, key=lambda row: row.recall)


def most_frequent_confusions(
    confusion: Sequence[Sequence[int]], names: Sequence[str]
) -> list[Confusion]:
    """The pairs of classes confused most often, at most `CONFUSIONS_SHOWN`."""
    pairs = [
        Confusion(true=names[i], named=names[j], count=cell, share=cell / sum(row))
        for i, row in enumerate(confusion)
        for j, cell in enumerate(row)
        if cell and i != j
    ]
    return sorted(pairs, key=lambda pair: -pair.count)[:CONFUSIONS_SHOWN]


def most_taken_for(row: Sequence[int], true: int) -> int | None:
    """The wrong class named most often, of equals the first; None where none was.

    row: how often each class was named where `true` was to be seen.
    """
    wrong = [(count, -j) for j, count in enumerate(row) if j != true and count]
    return -max(wrong)[1] if wrong else None


def taken_for(row: Sequence[int], true: int, names: Sequence[str]) -> str:
    """The name of `most_taken_for`; "" where there is none."""
    most = most_taken_for(row, true)
    return "" if most is None else names[most]


def kind_rows(layers: Sequence[LayerTime]) -> list[KindRow]:
    """Operators by kind, the kind that takes most time first."""
    kinds: dict[str, list[LayerTime]] = {}
    for layer in layers:
        kinds.setdefault(layer.operator, []).append(layer)
    rows = [
        KindRow(
            kind=kind,
            layers=len(members),
            median_ms=sum(one.median_ms for one in members),
            share=sum(one.share for one in members),
        )
        for kind, members in kinds.items()
    ]
    return sorted(rows, key=lambda row: -row.share)


def slowest_layers(layers: Sequence[LayerTime]) -> tuple[list[LayerTime], KindRow | None]:
    """The slowest operators, at most `LAYERS_SHOWN`, and all others as one row."""
    slowest = sorted(layers, key=lambda one: -one.median_ms)
    shown, others = slowest[:LAYERS_SHOWN], slowest[LAYERS_SHOWN:]
    if not others:
        return shown, None
    rest = KindRow(
        kind="the rest",
        layers=len(others),
        median_ms=sum(one.median_ms for one in others),
        share=sum(one.share for one in others),
    )
    return shown, rest


def step_rows(steps: Sequence[Step]) -> list[StepRow]:
    """Each step with the change of every figure since the last step that had it."""
    rows = []
    total = sum(step.seconds for step in steps) or 1
    score: float | None = None
    latency: float | None = None
    size: int | None = None
    for step in steps:
        rows.append(
            StepRow(
                step=step,
                share=step.seconds / total,
                score_change=_change(
                    step.score, score, lambda a, b: f"{text.points(a - b)} points"
                ),
                latency_change=_change(step.latency_ms, latency, text.ratio),
                size_change=_change(step.size_bytes, size, text.ratio),
            )
        )
        score = score if step.score is None else step.score
        latency = latency if step.latency_ms is None else step.latency_ms
        size = size if step.size_bytes is None else step.size_bytes
    return rows


def spread(split: SplitSummary) -> str:
    """Images per class of one split, as a range."""
    low, high = min(split.counts, default=0), max(split.counts, default=0)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _bar(
    label: str,
    value: str,
    measured: float,
    limit: float | None,
    limit_text: str,
    interval: tuple[float, float] | None = None,
) -> Bar:
    upper = measured if interval is None else interval[1]
    scale = 1.15 * max(upper, limit or 0) or 1
    return Bar(
        label=label,
        value=value,
        limit=limit_text,
        fill=_position(measured, scale),
        limit_at=None if limit is None else _position(limit, scale),
        low=None if interval is None else _position(interval[0], scale),
        high=None if interval is None else _position(interval[1], scale),
        over=limit is not None and upper > limit,
    )


def _position(value: float, scale: float) -> float:
    return round(100 * value / scale, 2)


def _change(new: float | None, old: float | None, words: Callable[[float, float], str]) -> str:
    return "" if new is None or old is None else words(new, old)
