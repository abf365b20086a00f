"""Which file of the trained network ships: its gate, the budget, and why none does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pocketvision.budget import Budget, format_latency, format_size
from pocketvision.fitting.ranking import fits
from pocketvision.measure.accuracy import loses_at_most
from pocketvision.record.files import Tried, Variant
from pocketvision.record.scores import Comparison
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision

FLOAT_AGREEMENT = 0.995  # of an exported float file with the float network
TWINS = ("f32", "w8")  # differ in how weights are stored, not in what is computed


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """One file of the trained network."""

    variant: Variant
    path: Path


def passes(comparison: Comparison, precision: Precision, max_drop_points: float) -> bool:
    """The gate of one file, on val: its drop, and for float files that they answer the same."""
    small = loses_at_most(comparison, max_drop_points)
    return small and (precision != "f32" or comparison.agreement >= FLOAT_AGREEMENT)


def choose_variant(built: list[Built]) -> Built | None:
    """The fastest file that passes its gate within the budget; None when there is none."""
    position = position_of_fastest([entry.variant for entry in built])
    return None if position is None else built[position]


def position_of_fastest(variants: Sequence[Variant]) -> int | None:
    """The position of the fastest that passes its gate within the budget; None: none does.

    Where f32 and w8 are among them they run the same operators, and the smaller stands for both.
    """
    passing = [k for k, v in enumerate(variants) if v.passed_gate and v.within_budget]
    if not passing:
        return None
    fastest = min(passing, key=lambda k: variants[k].budgeted.median_ms)
    best = variants[fastest]
    if best.precision not in TWINS:
        return fastest
    alike = (k for k in passing if variants[k].runtime == best.runtime)
    return next((k for k in alike if variants[k].precision == "w8"), fastest)


def nearest_variant(built: list[Built]) -> Built:
    """Where none can ship, the one to show: the fastest of those that pass, or else that drops
    least."""

    def distance(entry: Built) -> tuple[bool, float, float]:
        v = entry.variant
        drop = 0.0 if v.passed_gate or v.comparison is None else v.comparison.drop
        return not v.passed_gate, drop, v.budgeted.median_ms

    return min(built, key=distance)


def undecided(built: list[Built], budget: Budget) -> Latency | None:
    """A latency too noisy to say whether the budget is met, of a file that is fine otherwise."""
    limit_ms = budget.latency_ms
    for latency in (variant.budgeted for variant in _too_slow_alone(built, budget)):
        if limit_ms and latency.noise and latency.low_ms <= limit_ms < latency.high_ms:
            return latency
    return None


def slower_than_planned(
    built: list[Built], label: str, tried: Sequence[Tried], budget: Budget
) -> tuple[Latency, Latency] | None:
    """A latency beyond the budget, and that of the plan, which was within: of a file of the network
    that is fine otherwise. One of the two is of another machine, as it were.
    """
    planned = {(one.runtime, one.precision): one for one in tried if one.network == label}
    for variant in _too_slow_alone(built, budget):
        plan = planned.get((variant.runtime, variant.precision))
        if plan is not None and plan.fits:
            return variant.budgeted, plan.latency
    return None


def _too_slow_alone(built: list[Built], budget: Budget) -> Iterator[Variant]:
    """Files that only their latency, as it was measured, keeps from being shipped."""
    rest = replace(budget, latency_ms=None)
    for variant in (entry.variant for entry in built if entry.variant.passed_gate):
        latency = variant.budgeted
        if latency.is_by_table or variant.within_budget:
            continue  # measuring again would not change it
        if fits(latency, variant.size_bytes, rest, peak_bytes=variant.peak_bytes):
            yield variant


def missed_sentence(
    label: str, built: list[Built], budget: Budget, max_drop_points: float, table: str = ""
) -> str:
    """Why none of the files of a trained network can be shipped.

    table: what the latencies of the budget are by; empty: they were measured.
    """
    parts = []
    for entry in built:
        v = entry.variant
        reasons = []
        if not v.passed_gate and v.comparison is not None:
            reasons.append(
                f"loses {100 * v.comparison.drop:.2f} points (limit {max_drop_points:g})"
            )
        if not v.within_budget:
            reasons.append(_beyond(v))
        parts.append(f"{v.precision} on {v.runtime} {' and '.join(reasons)}")
    sentence = f"{label} is trained but cannot be shipped within {budget}: {'; '.join(parts)}."
    if not table:
        return sentence
    return (
        f"{sentence} Latencies are by the table of {table}, which tells of no other files: allow "
        "more --max-drop, or give a table of another precision."
    )


def _beyond(v: Variant) -> str:
    """How a file is beyond the budget."""
    if v.target is not None and v.target.noise:
        return v.target.noise
    says = "measures" if v.target is None else "takes"
    peak = "" if v.peak_bytes is None else f" and {format_size(v.peak_bytes)} of memory"
    high = format_latency(v.budgeted.high_ms)
    return f"{says} up to {high} and {format_size(v.size_bytes)}{peak}"
