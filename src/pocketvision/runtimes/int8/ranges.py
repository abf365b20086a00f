"""From what a tensor held to the range that its 256 integers cover.

Every range holds 0, so that zero, of which activations and paddings are full, stays exact.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pocketvision.runtimes.int8.statistics import BINS, Observed

LEVELS = 256
STEPS = 64  # of the search for the least error, along either end of the range
FINE = 8  # steps of the search for the least divergence, in bins

Method = Literal["minmax", "percentile", "mse", "entropy"]
METHODS: tuple[Method, ...] = get_args(Method)
Range = tuple[float, float]


def range_of(seen: Observed, method: Method, percentile: float = 99.99) -> Range:
    """The range of one tensor.

    minmax: all that was seen. percentile: all but 100 - percentile of the values, half of these
    on each side. mse: least mean squared error of rounding and clipping. entropy: least divergence
    between the values and their integers (Migacz, 8-bit inference with TensorRT, 2017).
    """
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    if high - low <= 0 or not seen.counts.any():
        return low, high
    match method:
        case "minmax":
            return low, high
        case "percentile":
            return _percentile(seen, percentile)
        case "mse":
            return _least_error(seen, low, high)
        case "entropy":
            return _least_divergence(seen)


def expected_error(seen: Observed, found: Range) -> float:
    """Mean squared error of rounding to LEVELS integers over `found` and clipping beyond.

    Zeros have none. Values are taken to spread evenly between two integers.
    """
    values = max(int(seen.counts.sum()) + seen.zeros, 1)
    low, high = np.array([found[0]]), np.array([found[1]])
    return float(_errors(seen, low, high)[0]) / values


def _percentile(seen: Observed, percentile: float) -> Range:
    values = int(seen.counts.sum()) + seen.zeros
    outside = values * (100 - percentile) / 200
    edges = seen.edges
    below = np.cumsum(seen.counts) + np.where(edges[1:] >= 0, seen.zeros, 0)
    first = int(np.searchsorted(below, outside, side="right"))
    last = int(np.searchsorted(below, values - outside, side="left"))
    low, high = edges[min(first, BINS - 1)], edges[min(last, BINS - 1) + 1]
    return min(float(low), 0.0), max(float(high), 0.0)


def _least_error(seen: Observed, low: float, high: float) -> Range:
    shares = np.linspace(1 / STEPS, 1, STEPS)
    lows, highs = np.meshgrid(
        low * shares if low < 0 else [0.0], high * shares if high > 0 else [0.0]
    )
    errors = _errors(seen, lows.ravel(), highs.ravel())
    best = int(errors.argmin())
    return float(lows.ravel()[best]), float(highs.ravel()[best])


def _errors(
    seen: Observed, lows: NDArray[np.float64], highs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Summed squared errors of ranges low..high: inside that of rounding, outside the distance."""
    middles = (seen.edges[:-1] + seen.edges[1:]) / 2
    counts = seen.counts.astype(np.float64)
    moments = [np.concatenate([[0.0], np.cumsum(counts * middles**k)]) for k in range(3)]
    below, above = np.searchsorted(middles, lows), np.searchsorted(middles, highs, side="right")
    n0, n1, n2 = (m[below] for m in moments)
    p0, p1, p2 = (m[-1] - m[above] for m in moments)
    clipped = n2 - 2 * lows * n1 + lows**2 * n0 + p2 - 2 * highs * p1 + highs**2 * p0
    step = (highs - lows) / (LEVELS - 1)
    inside = counts.sum() - n0 - p0
    return np.asarray(clipped + inside * step**2 / 12)


def _least_divergence(seen: Observed) -> Range:
    """Shrink the range from its far ends, keeping 0 inside, and take the least divergence."""
    edges = seen.edges
    zero = int(np.clip(np.searchsorted(edges, 0.0), 0, BINS))
    counts = seen.counts.astype(np.float64)
    best, found = np.inf, (0, BINS)
    for kept in range(LEVELS // 2, BINS + 1, FINE):
        share = kept / BINS
        first = min(int(zero * (1 - share)), zero)
        last = max(BINS - int((BINS - zero) * (1 - share)), zero)
        if last - first < LEVELS // 2:
            continue
        divergence = _divergence(counts, first, last)
        if divergence < best:
            best, found = divergence, (first, last)
    return min(float(edges[found[0]]), 0.0), max(float(edges[found[1]]), 0.0)


def _divergence(counts: NDArray[np.float64], first: int, last: int) -> float:
    """Kullback-Leibler divergence of the clipped histogram from its rounded one."""
    inside = counts[first:last]
    clipped = inside.copy()
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[last:].sum()
    level = np.arange(len(inside)) * LEVELS // len(inside)
    filled = inside > 0
    sums = np.bincount(level, inside, LEVELS)
    holders = np.bincount(level, filled, LEVELS)
    rounded = np.where(filled, (sums / np.maximum(holders, 1))[level], 0)
    p, q = clipped / max(clipped.sum(), 1), rounded / max(rounded.sum(), 1)
    both = (p > 0) & (q > 0)
    lost = p[(p > 0) & (q <= 0)].sum()  # mass that the integers cannot tell
    return float((p[both] * np.log(p[both] / q[both])).sum() + lost * np.log(1e6))
