"""The budget against what was measured: what fits, in which order, and what would nearly fit."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pocketvision.budget import Budget, format_latency, format_size, rounded_up
from pocketvision.errors import BudgetError, NoisyError
from pocketvision.fitting.candidates import Candidate
from pocketvision.record.files import Tried
from pocketvision.record.timing import Latency

HEADROOM = 1.05  # the final measurement may come out a little slower than the planning one
HERE = "on this machine"
SIZE_HEADROOM = 1.005  # class names are longer than the numbers that stand in for them
MEMORY_HEADROOM = 1.1  # twelve processes with one file peaked up to 11 % apart, seldom 20 %


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Size of the exported files, latency and peak memory of one network x runtime x precision.

    peak_bytes: None where no run asked for a memory budget yet.
    """

    size_bytes: int
    latency: Latency
    peak_bytes: int | None = None


def fits(
    latency: Latency, size_bytes: int, budget: Budget, *, peak_bytes: int | None = None
) -> bool:
    """True if latency (the upper 95 % bound), size and peak memory are within the budget.

    peak_bytes: None, not measured, is never within a budget of memory.
    """
    fast = budget.latency_ms is None or latency.high_ms <= budget.latency_ms
    small = budget.size_bytes is None or size_bytes <= budget.size_bytes
    if budget.memory_bytes is None:
        return fast and small
    return fast and small and peak_bytes is not None and peak_bytes <= budget.memory_bytes


def planned_ms(latency: Latency) -> float:
    """The upper bound to expect of the trained network's file: by a table, it will be the same."""
    return latency.high_ms if latency.is_by_table else HEADROOM * latency.high_ms


def may_fit(measured: Measured, budget: Budget) -> bool:
    """True if the file of the trained network will be within the budget, as far as can be told."""
    peak = measured.peak_bytes
    return fits(
        replace(measured.latency, high_ms=planned_ms(measured.latency)),
        round(SIZE_HEADROOM * measured.size_bytes),
        budget,
        peak_bytes=None if peak is None else round(MEMORY_HEADROOM * peak),
    )


def rank(
    candidates: list[Candidate], tried: tuple[Tried, ...], budget: Budget, where: str = HERE
) -> list[Candidate]:
    """Candidates with at least one file within the budget, best prior first.

    where: what the latencies are of, for messages.

    Raises: BudgetError: none is; the message names the nearest. NoisyError: none is for certain,
    but the latency of one is too noisy to say.
    """
    within = {entry.network for entry in tried if entry.fits}
    ranked = sorted(
        (c for c in candidates if c.spec.label in within),
        key=lambda c: (-c.prior.top1, c.count.macs),
    )
    if not ranked:
        for entry in tried:
            if entry.latency.noise and _may_be_fast(entry, budget):
                raise NoisyError(
                    f"The machine is too noisy to plan: {entry.network} takes between "
                    f"{format_latency(entry.latency.low_ms)} and "
                    f"{format_latency(entry.latency.high_ms)}. Stop other programs and run the "
                    "same command again."
                )
        raise BudgetError(_nearest(tried, budget, where))
    return ranked


def _may_be_fast(entry: Tried, budget: Budget) -> bool:
    lowest = replace(entry.latency, high_ms=entry.latency.low_ms)
    measured = Measured(size_bytes=entry.size_bytes, latency=lowest, peak_bytes=entry.peak_bytes)
    return may_fit(measured, budget)


def _nearest(tried: tuple[Tried, ...], budget: Budget, where: str) -> str:
    def excess(entry: Tried) -> float:
        slow = planned_ms(entry.latency) / (budget.latency_ms or math.inf)
        large = entry.size_bytes / (budget.size_bytes or math.inf)
        if budget.memory_bytes is None:
            return max(slow, large)
        peak = math.inf if entry.peak_bytes is None else MEMORY_HEADROOM * entry.peak_bytes
        return max(slow, large, peak / budget.memory_bytes)

    near = min(tried, key=excess)
    options = []
    if budget.latency_ms is not None:
        options.append(f"--latency {rounded_up(planned_ms(near.latency))}ms")
    if budget.size_bytes is not None:
        options.append(f"--size {rounded_up(SIZE_HEADROOM * near.size_bytes / 1e6)}MB")
    memory = ""
    if budget.memory_bytes is not None and near.peak_bytes is not None:
        options.append(f"--memory {rounded_up(MEMORY_HEADROOM * near.peak_bytes / 1e6)}MB")
        memory = f", {format_size(near.peak_bytes)} of memory"
    how = "tried" if near.latency.is_by_table else "measured"
    return (
        f"No network meets {budget} {where} ({len(tried)} files {how}). The nearest is "
        f"{near.network} as {near.precision} on {near.runtime}: "
        f"{format_latency(near.latency.median_ms)} "
        f"(up to {format_latency(near.latency.high_ms)}), {format_size(near.size_bytes)}{memory}. "
        f"Ask for {' '.join(options)}, or allow other models, resolutions or runtimes."
    )
