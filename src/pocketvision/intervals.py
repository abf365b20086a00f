"""The interval of a share, wherever right and wrong are counted."""

from __future__ import annotations

import math
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)


def wilson(correct: int, n: int) -> tuple[float, float]:
    """95 % interval of the share correct / n, 0..1; n >= 1.

    Source: Wilson, Probable inference, JASA 22 (1927); without continuity correction.
    """
    share = correct / n
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == n else min(1.0, centre + half)
    return low, high
