"""How the numbers of an ENVI file become a cube, and whether another way would suit them better."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.scene.envi_header import INTERLEAVES, Interleave
from pocketvision.data.scene.facts import Shape
from pocketvision.data.scene.scene import equals

AXES: dict[Interleave, tuple[str, tuple[int, int, int]]] = {
    # axes as stored: bands b, lines h, samples w; and how they become h, w, b
    "bsq": ("bhw", (1, 2, 0)),
    "bil": ("hbw", (0, 2, 1)),
    "bip": ("hwb", (0, 1, 2)),
}

FEWEST = 8  # lines, samples or bands below which nothing is concluded
SAMPLE_SIDE = 16  # of the blocks that likely_interleave looks at
SAMPLE_PLACES = (0.1, 0.5, 0.9)  # of each axis
CLEARLY = 0.7  # how much less neighbours differ under a reading that is believed more
ROUGHER = 1.25, 2.0  # and how much more they may along the pixels alone, and along the bands


class Roughness(NamedTuple):
    """Mean difference of neighbours, in the units of the cube."""

    pixels: float  # along rows and along columns, summed
    bands: float


def arrange(flat: NDArray[Any], shape: Shape, interleave: Interleave) -> NDArray[Any]:
    """(H, W, B) of the numbers in the order of the file, without a copy."""
    letters, axes = AXES[interleave]
    return flat.reshape([shape["hwb".index(letter)] for letter in letters]).transpose(axes)


def likely_interleave(
    flat: NDArray[Any], shape: Shape, declared: Interleave, no_data: float | None
) -> Interleave:
    """The interleave as the numbers in the order of the file suggest it, or the declared one.

    A wrong one keeps the size of the file, but scatters the scene: neighbours along the three axes
    differ more. Another is believed only where it is clearly smoother in all, and hardly rougher
    along the pixels or along the bands alone: a smooth scene with rough spectra is as it should be.
    Readings that only exchange axes, of a scene with as many lines as bands, are equally smooth,
    and a scene with fewer than 8 of either is too small to tell.
    """
    if min(shape) < FEWEST:
        return declared
    rough = {way: roughness(arrange(flat, shape, way), no_data) for way in INTERLEAVES}
    best: Interleave = min(rough, key=lambda way: sum(rough[way]))
    clearly = sum(rough[best]) < CLEARLY * sum(rough[declared])
    nowhere_rougher = all(
        new <= factor * old
        for new, old, factor in zip(rough[best], rough[declared], ROUGHER, strict=True)
    )
    return best if clearly and nowhere_rougher else declared


def roughness(cube: NDArray[Any], no_data: float | None) -> Roughness:
    """Of blocks spread over a cube (H, W, B)."""
    totals, counts = np.zeros(3), np.zeros(3)
    starts = [
        sorted({int(place * max(0, side - SAMPLE_SIDE)) for place in SAMPLE_PLACES})
        for side in cube.shape
    ]
    for corner in itertools.product(*starts):
        block = cube[tuple(slice(start, start + SAMPLE_SIDE) for start in corner)]
        known = np.isfinite(block) & ~equals(block, no_data)
        numbers = np.where(known, block, np.nan).astype(np.float64)
        for axis in range(3):
            steps = np.abs(np.diff(numbers, axis=axis))
            totals[axis] += np.nansum(steps)
            counts[axis] += np.isfinite(steps).sum()
    steps_row, steps_column, steps_band = (totals / np.maximum(counts, 1)).tolist()
    return Roughness(steps_row + steps_column, steps_band)
