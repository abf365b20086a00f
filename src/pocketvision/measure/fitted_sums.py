"""Sums over a table of blocks, set right by networks that were timed whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

ENOUGH = 8  # whole networks, for more than one factor
WORTH = 0.75  # of the error that one factor leaves: what more must leave at most
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


def best_fit(wholes: Sequence[Whole]) -> Fit:
    """One factor for all sums; where many whole networks say that this is not enough, also what
    each block, and a network, takes beyond it. For none, the plain sums.
    """
    if len(wholes) < ENOUGH:
        return one_factor(wholes)
    ways = (one_factor, _scaled_fit)
    plain, more = (
        np.median([abs(ms / taken - 1) for taken, ms in left_out(wholes, way)]) for way in ways
    )
    return (_scaled_fit if more < WORTH * plain else one_factor)(wholes)


def one_factor(wholes: Sequence[Whole]) -> Fit:
    """All sums by the median of what whole networks take, in multiples of theirs."""
    if not wholes:
        return Fit()
    return Fit(per_sum=float(np.median([one.latency_ms / one.sum_ms for one in wholes])))


def _scaled_fit(wholes: Sequence[Whole]) -> Fit:
    """As `fit_sums`, held near the sums by one factor."""
    factor = one_factor(wholes).per_sum
    fit = fit_sums([replace(one, sum_ms=factor * one.sum_ms) for one in wholes])
    return replace(fit, per_sum=factor * fit.per_sum)


def left_out(
    wholes: Sequence[Whole], way: Callable[[Sequence[Whole]], Fit]
) -> list[tuple[float, float]]:
    """Of each network: what it took, and what the others foretell, in ms."""
    fits = [way([*wholes[:place], *wholes[place + 1 :]]) for place in range(len(wholes))]
    return [
        (one.latency_ms, fit.latency_ms(one.sum_ms, one.blocks))
        for one, fit in zip(wholes, fits, strict=True)
    ]
