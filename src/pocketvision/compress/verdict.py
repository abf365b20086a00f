"""What the gate of INT8 came to, in words."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from pocketvision.budget import count_of
from pocketvision.record.files import Rung
from pocketvision.record.scores import Comparison
from pocketvision.record.words import Metric

Lost = Metric | Literal["agreement"]  # what is lost, in words

ENOUGH = 5000  # images that tell half a point from nothing


def judgement(
    rungs: Collection[Rung],
    chosen: Rung,
    *,
    lost: Lost,
    max_drop_points: float,
) -> str:
    """What the chosen file loses, or why it is the float file; of files that were not timed."""
    found = chosen.comparison
    if found is None:
        return f"No INT8 file passes: {_too_much(rungs, max_drop_points)}."
    return f"INT8{_how(chosen)}: {_lost(found, lost)}.{_caution(found, lost)}"


def verdict(
    rungs: Collection[Rung],
    chosen: Rung,
    *,
    lost: Lost,
    max_drop_points: float,
) -> str:
    """What is shipped, and why; of files that were timed, the float file among them."""
    float_ms = next(r.latency.median_ms for r in rungs if r.kind == "float" and r.latency)
    found = chosen.comparison
    if found is not None:
        assert chosen.latency is not None
        return (
            f"INT8{_how(chosen)} is shipped: {_lost(found, lost)}, "
            f"{float_ms / chosen.latency.median_ms:.2f} times as fast as float."
            f"{_caution(found, lost)}"
        )
    passing = [r.latency.median_ms for r in rungs if r.kind != "float" and r.passed and r.latency]
    if passing:
        return (
            f"The float file is shipped: INT8 passes its gate, but takes {min(passing):.3g} ms "
            f"where float takes {float_ms:.3g} ms."
        )
    return f"The float file is shipped: {_too_much(rungs, max_drop_points)}."


def _how(rung: Rung) -> str:
    if rung.kind == "after training":
        return " after training for integers"
    spared = count_of(len(rung.float_layers), "layer")
    return f" with {spared} in float" if rung.float_layers else ""


def _lost(found: Comparison, lost: Lost) -> str:
    interval = f"({100 * found.drop_low:+.2f} to {100 * found.drop_high:+.2f})"
    what = "% of the answers change" if lost == "agreement" else f"points of {lost} lost"
    return f"{100 * found.drop:.2f} {what} on {found.accuracy.n:,} images {interval}"


def _too_much(rungs: Collection[Rung], max_drop_points: float) -> str:
    least = min(rung.comparison.drop for rung in rungs if rung.comparison)
    return (
        f"in integers at least {100 * least:.2f} points are lost, {max_drop_points:g} are allowed"
    )


def _caution(found: Comparison, lost: Lost) -> str:
    if lost == "agreement":
        return " There were no labels: agreement with float was judged."
    if lost == "top-1" and found.accuracy.n < ENOUGH:
        return " So few images cannot tell half a point from nothing."
    return ""
