"""README.md of the folder that comes out: a model card in Markdown."""

from __future__ import annotations

from pocketvision.budget import format_latency, format_size
from pocketvision.record.run import BudgetSummary, Record
from pocketvision.report import text
from pocketvision.report.templates import template


def render_card(record: Record) -> str:
    """The model card; the same record gives the same text.

    Names that come from the user are escaped for Markdown and HTML at once.
    """
    card = template("card.md").render(
        record=record,
        split=text.accuracy_split(record),
        verdict_word=text.verdict_word(record.verdict.met),
        limits=_limits(record.budget),
        class_counts=text.class_counts(record.data),
    )
    return card.strip() + "\n"


def _limits(budget: BudgetSummary) -> list[str]:
    limits = []
    if budget.latency_ms is not None:
        limits.append(format_latency(budget.latency_ms))
    if budget.size_bytes is not None:
        limits.append(format_size(budget.size_bytes))
    if budget.memory_bytes is not None:
        limits.append(f"{format_size(budget.memory_bytes)} of memory")
    return limits
