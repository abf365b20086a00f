"""Where the time of an INT8 file goes, beside its float file: what integers gained and cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pocketvision.budget import format_latency
from pocketvision.runtimes.runtime import OperatorRuns

SHOWN = 3  # operators that are named
# Parts of what runtimes call convolutions and matrix products, in floats and in integers.
PRODUCT_NAMES = ("Conv", "Gemm", "MatMul", "FullyConnected")


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorTime:
    """All operators of one kind in a file: how many, and their median times added up."""

    operator: str
    count: int
    total_ms: float

    @property
    def is_product(self) -> bool:
        """True for convolutions and matrix products."""
        return any(name in self.operator for name in PRODUCT_NAMES)


def operator_times(runs: Sequence[OperatorRuns]) -> list[OperatorTime]:
    """By kind, the slowest first."""
    groups: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        groups[run.operator].append(float(np.median(run.times_ms)) if run.times_ms else 0.0)
    found = [
        OperatorTime(operator=name, count=len(times), total_ms=sum(times))
        for name, times in groups.items()
    ]
    return sorted(found, key=lambda one: (-one.total_ms, one.operator))


def explain(float_runs: Sequence[OperatorRuns], int8_runs: Sequence[OperatorRuns]) -> str:
    """Two sentences: what convolutions take in float and in integers, and what else INT8 takes.

    Times are those of a profiler, which slows what it looks at: good for shares, not for a latency.
    """
    before, after = operator_times(float_runs), operator_times(int8_runs)
    products = [sum(one.total_ms for one in found if one.is_product) for found in (before, after)]
    others = [one for one in after if not one.is_product and one.total_ms > 0]
    total = sum(one.total_ms for one in after)
    first = (
        f"Convolutions and matrix products take {format_latency(products[1])} in integers and "
        f"{format_latency(products[0])} in float."
    )
    if not others or total <= 0:
        return first
    named = ", ".join(
        f"{one.operator} ({one.count}) {format_latency(one.total_ms)}" for one in others[:SHOWN]
    )
    share = sum(one.total_ms for one in others) / total
    return f"{first} {share:.0%} of the time in integers goes to the rest: {named}."
