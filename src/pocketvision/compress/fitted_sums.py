"""Sums over a table of blocks, set right by networks that were timed whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

HELD = 0.05  # how firmly a fit stays near the sums: as so many networks that take what theirs say


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    """A network that was timed. sum_ms: by the table. blocks: how many it has."""

    sum_ms: float
    blocks: int
    latency_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """What a network takes: per_sum * its sum + per_block_ms * its blocks + constant_ms.

    Each part is a sum over blocks, as the plain sum is. A table may err in all three: its prices
    are of blocks by themselves, every block has costs beyond them, and a network has ends.
    """

    per_sum: float = 1.0
    per_block_ms: float = 0.0
    constant_ms: float = 0.0

    def latency_ms(self, sum_ms: float, blocks: int) -> float:
        """Of a network with this sum and as many blocks."""
        return self.per_sum * sum_ms + self.per_block_ms * blocks + self.constant_ms


def fit_sums(wholes: Sequence[Whole]) -> Fit:
    """The fit with the least relative errors, held near the plain sums; for none, those."""
    if not wholes:
        return Fit()
    sums, blocks, taken = np.array([(w.sum_ms, w.blocks, w.latency_ms) for w in wholes]).T
    usual_ms, each_ms = float(np.median(sums)), float(np.median(sums) / np.median(blocks))
    rows = np.stack([sums, each_ms * blocks, np.full(len(sums), usual_ms)], axis=1)
    rows /= taken[:, None]
    plain = np.array([1.0, 0.0, 0.0])
    beyond = np.linalg.solve(rows.T @ rows + HELD * np.eye(3), rows.T @ (1.0 - rows @ plain))
    per_sum, per_block, constant = (plain + beyond).tolist()
    return Fit(per_sum=per_sum, per_block_ms=per_block * each_ms, constant_ms=constant * usual_ms)
