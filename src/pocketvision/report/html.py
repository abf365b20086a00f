"""report.html: one file that works offline, the verdict first.

Everything essential is in tables and text; the figures are an addition that needs JavaScript.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pocketvision.budget import format_latency, format_size, format_time
from pocketvision.record import BudgetSummary, Latency, Record, SplitSummary, Step, Tried
from pocketvision.report import text
from pocketvision.report.figures import Figure, all_figures
from pocketvision.report.templates import FOLDER, template

SKIPPED_SHOWN = 200  # record.json holds the rest
CONFUSIONS_SHOWN = 10


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
    """One class in the headline split: how many of its images were named rightly."""

    name: str
    count: int
    right: int
    taken_for: str  # the wrong class named most often, "" where none was

    @property
    def recall(self) -> float:
        """Share of the class's images named rightly, 0..1."""
        return self.right / self.count


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusion:
    """One pair of classes and how often the first was taken for the second."""

    true: str
    named: str
    count: int
    share: float  # of the images of the true class


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRow:
    """One step and how its figures changed from the last step that had them."""

    step: Step
    top1_change: str = ""
    latency_change: str = ""
    size_change: str = ""


def render_report(record: Record) -> str:
    """The whole report as one HTML document; the same record gives the same text."""
    figures = all_figures(record)
    return template("report.html").render(
        record=record,
        split=text.accuracy_split(record),
        verdict_word=text.verdict_word(record.verdict.met),
        bars=budget_bars(record),
        tried=in_reading_order(record.tried),
        classes=class_rows(record),
        confusions=most_frequent_confusions(record.confusion, record.data.classes),
        step_rows=step_rows(record.steps),
        splits=[(split, _spread(split)) for split in record.data.splits],
        class_counts=text.class_counts(record.data),
        skipped=record.data.skipped[:SKIPPED_SHOWN],
        figures=figures,
        figures_json=embedded(figures),
        plotly=Markup(get_plotlyjs()),
        style=Markup((FOLDER / "style.css").read_text(encoding="utf-8")),
    )


def budget_bars(record: Record) -> list[Bar]:
    """Latency, size, memory and time against the budget, as `measured_bars`."""
    return measured_bars(
        record.budget,
        latency=record.latency,
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
    """One bar for each measured figure; memory where it was measured, time where it was limited."""
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
    names = record.data.classes
    rows = [
        ClassRow(name=name, count=sum(row), right=row[i], taken_for=_taken_for(row, i, names))
        for i, (name, row) in enumerate(zip(names, record.confusion, strict=False))
        if sum(row)
    ]
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


def step_rows(steps: Sequence[Step]) -> list[StepRow]:
    """Each step with the change of every figure since the last step that had it."""
    rows = []
    top1: float | None = None
    latency: float | None = None
    size: int | None = None
    for step in steps:
        rows.append(
            StepRow(
                step=step,
                top1_change=_change(step.top1, top1, lambda a, b: f"{text.points(a - b)} points"),
                latency_change=_change(step.latency_ms, latency, text.ratio),
                size_change=_change(step.size_bytes, size, text.ratio),
            )
        )
        top1 = top1 if step.top1 is None else step.top1
        latency = latency if step.latency_ms is None else step.latency_ms
        size = size if step.size_bytes is None else step.size_bytes
    return rows


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


def _taken_for(row: Sequence[int], true: int, names: Sequence[str]) -> str:
    wrong = [(count, -j) for j, count in enumerate(row) if j != true and count]
    return names[-max(wrong)[1]] if wrong else ""


def _spread(split: SplitSummary) -> str:
    low, high = min(split.counts, default=0), max(split.counts, default=0)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def embedded(figures: dict[str, Figure]) -> Markup:
    """JSON that is safe inside a <script> element: no character in it can end the element."""
    plots = {name: figure.plot | {"height": figure.height} for name, figure in figures.items()}
    dumped = json.dumps(_finite(plots), allow_nan=False, separators=(",", ":"))
    for character in "<>&'":
        dumped = dumped.replace(character, f"\\u{ord(character):04x}")
    return Markup(dumped)


def _finite(value: Any) -> Any:
    """The same value with null, a gap in the curve, for what JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
