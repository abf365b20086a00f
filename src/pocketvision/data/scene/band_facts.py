"""What the bands of a scene are like, in one pass over its cube."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.scene.scene import Mask, Scene, equals, missing
from pocketvision.data.scene.values import ValueTally

NOISY = 0.5  # likeness of neighbours below which a band is called noisy


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BandFacts:
    """Of the bands, from 1 up, and of the pixels; see `SceneFindings`.

    missing: (H, W) pixels without a measurement. empty: bands without a finite value; they are
    among the dead. values: of the pixels whose values may mark them as missing."""

    value_range: tuple[float, float] | None
    missing: Mask
    values: ValueTally
    empty: tuple[int, ...]
    dead: tuple[int, ...]
    likeness: tuple[float | None, ...]
    noisy: tuple[int, ...]
    duplicated: tuple[tuple[int, ...], ...]


def band_facts(scene: Scene) -> BandFacts:
    """One pass over the cube; values of missing pixels do not count."""
    bands = scene.cube.shape[2]
    tally, values = _Tally(bands), ValueTally(scene)
    gone = np.zeros(scene.cube.shape[:2], np.bool_)
    hashes = [hashlib.blake2b(digest_size=16) for _ in range(bands)]
    for start, stop in scene.chunks():
        rows = scene.cube.rows(start, stop)
        values.add(rows)
        gone[start:stop] = missing(rows, scene.no_data)
        for digest, plane in zip(hashes, np.moveaxis(rows, -1, 0), strict=True):
            digest.update(plane.tobytes())
        # Only pixels that are marked whole: one empty band shall not hide all others.
        marked: Mask = np.all(equals(rows, scene.no_data), axis=-1)
        for row, without in zip(rows, marked, strict=True):
            tally.add(row, without)
    lowest, highest = tally.lowest, tally.highest
    empty = lowest > highest
    dead = empty | (lowest == highest)
    likeness = tally.likeness(dead)
    noisy = [value is not None and value < NOISY for value in likeness]
    same: defaultdict[bytes, list[int]] = defaultdict(list)
    for band in np.flatnonzero(~dead):
        same[hashes[band].digest()].append(int(band) + 1)
    return BandFacts(
        value_range=None if empty.all() else (float(lowest.min()), float(highest.max())),
        missing=gone,
        values=values,
        empty=_numbers(empty),
        dead=_numbers(dead),
        likeness=likeness,
        noisy=_numbers(np.array(noisy)),
        duplicated=tuple(tuple(group) for group in same.values() if len(group) > 1),
    )


class _Tally:
    """Sums over rows of a cube, for each band; values that are not finite do not count."""

    def __init__(self, bands: int) -> None:
        self.lowest = np.full(bands, np.inf)
        self.highest = np.full(bands, -np.inf)
        self._origin = np.zeros(bands)  # near the mean, so that squares lose no digits
        self._values = np.zeros(bands)
        self._sum = np.zeros(bands)
        self._squares = np.zeros(bands)
        self._pairs = np.zeros(bands)
        self._differences = np.zeros(bands)  # squared, of pixels side by side

    def add(self, row: NDArray[Any], without: NDArray[np.bool_]) -> None:
        """One row of spectra (W, B), and which of its pixels do not count."""
        values = row.astype(np.float64)
        known = np.isfinite(values) & ~without[:, None]
        self.lowest = np.minimum(self.lowest, np.where(known, values, np.inf).min(axis=0))
        self.highest = np.maximum(self.highest, np.where(known, values, -np.inf).max(axis=0))
        fresh = (self._values == 0) & known.any(axis=0)
        first = values[known.argmax(axis=0), np.arange(len(self._origin))]
        self._origin = np.where(fresh, first, self._origin)
        values = np.where(known, values - self._origin, 0)
        self._values += known.sum(axis=0)
        self._sum += values.sum(axis=0)
        self._squares += (values * values).sum(axis=0)
        paired = known[1:] & known[:-1]
        step = np.where(paired, values[1:] - values[:-1], 0)
        self._pairs += paired.sum(axis=0)
        self._differences += (step * step).sum(axis=0)

    def likeness(self, dead: NDArray[np.bool_]) -> tuple[float | None, ...]:
        """1 - (mean squared difference of neighbours) / (2 variance); None for dead bands."""
        alive = ~dead & (self._pairs > 0)
        values, pairs = np.maximum(self._values, 1), np.maximum(self._pairs, 1)
        variance = np.where(alive, self._squares / values - (self._sum / values) ** 2, 1)
        like = 1 - self._differences / pairs / (2 * variance)
        return tuple(
            round(float(value), 4) if lives else None
            for value, lives in zip(like, alive, strict=True)
        )


def _numbers(where: NDArray[np.bool_]) -> tuple[int, ...]:
    """Bands, from 1 up."""
    return tuple(int(band) + 1 for band in np.flatnonzero(where))
