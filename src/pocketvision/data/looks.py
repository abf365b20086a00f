"""What an image looks like in 64 bits, and which images look alike.

Two steps, as neither does alone. The hash, the signs of 64 low frequencies of the image's discrete
cosine transform, finds candidates among many images quickly: copies that were re-encoded, resized,
brightened or slightly cropped stay within `NEAR` bits. Of such candidates most are two photos of
one kind, so both images are looked at again: only copies have the same fine `likeness`.

Source: Zauner 2010, Implementation and Benchmarking of Perceptual Image Hash Functions, 3.2.1, with
frequencies from 1 up (brightness and the slopes across the whole image say little); multi-index
search by Norouzi et al. 2012, arXiv 1307.2982, with two bands more than bits that may differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, count

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 32  # pixels that are looked at; smaller images show too little to tell copies from likes
NEAR = 8  # bits of 64
ALIKE = 0.92  # likeness of a copy; docs/doctor.md has the measurement
TRIMS = (0.0, 0.02, 0.04)  # share of a side that a cropped copy may lack at each edge
FLAT = 4.0  # grey levels of standard deviation below which there is nothing to compare

_BITS = 64
_FREQUENCIES = 8
_CELL = 4  # pixels; what is finer than this is detail
_WAVES = np.cos(
    np.pi * np.arange(1, _FREQUENCIES + 1)[:, None] * (2 * np.arange(SIDE) + 1) / (2 * SIDE)
)

Looks = npt.NDArray[np.uint64]
Thumbnail = npt.NDArray[np.uint8]  # (SIDE, SIDE), grey
Views = tuple[Thumbnail, ...]
Detail = npt.NDArray[np.float64]


def look_of(image: Image.Image) -> int:
    """The 64-bit perceptual hash of an upright image; 0 where there is too little to see.

    That is an image whose shorter side is below SIDE pixels, or one that is flat.
    """
    if min(image.size) < SIDE:
        return 0
    grey = thumbnail(image).astype(np.float64)
    if grey.std() < FLAT:
        return 0
    waves = _WAVES @ grey @ _WAVES.T
    return int.from_bytes(np.packbits(waves > np.median(waves)).tobytes())


def thumbnail(image: Image.Image, trim: float = 0.0) -> Thumbnail:
    """(SIDE, SIDE) uint8: the image in grey, its proportions given up.

    trim: share of the width, or height, that is left away at each edge.
    """
    width, height = image.size
    box = (trim * width, trim * height, (1 - trim) * width, (1 - trim) * height)
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))


def views_of(image: Image.Image) -> Views:
    """Thumbnails by TRIMS, for `likeness`."""
    return tuple(thumbnail(image, trim) for trim in TRIMS)


def likeness(one: Views, other: Views) -> float:
    """-1..1: correlation of the fine detail of two images; copies have nearly 1.

    Either image may lack a little at its edges: the best of all trims of one against the whole of
    the other counts.
    """
    pairs = [(one[0], view) for view in other] + [(view, other[0]) for view in one[1:]]
    return max(_correlation(_detail(a), _detail(b)) for a, b in pairs)


def _correlation(one: Detail, other: Detail) -> float:
    """Of values whose mean is 0."""
    scale = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / scale if scale else 0.0


def _detail(grey: Thumbnail) -> Detail:
    """What is left of each cell of pixels without its mean."""
    count = SIDE // _CELL
    cells = grey.astype(np.float64).reshape(count, _CELL, count, _CELL)
    detail: Detail = cells - cells.mean(axis=(1, 3), keepdims=True)
    return detail


def near_pairs(looks: Looks, *, distance: int = NEAR, at_most: int) -> npt.NDArray[np.int64]:
    """Rows of hashes that differ in at most `distance` bits.

    looks: (N,); rows of 0 are near to none. at_most: the search ends with so many pairs.
    Returns: (n, 2), the smaller row first, in the order of rows. Memory grows with N and n only.
    """
    seen = np.flatnonzero(looks)
    values, group, counts = np.unique(looks[seen], return_inverse=True, return_counts=True)
    rows = seen[np.argsort(group, kind="stable")]
    ends = np.cumsum(counts)

    def rows_of(value: int) -> npt.NDArray[np.int64]:
        return rows[ends[value] - counts[value] : ends[value]]

    found: list[tuple[int, int]] = []
    for value in np.flatnonzero(counts > 1).tolist():
        found += _row_pairs(rows_of(value), None, at_most - len(found))
    for one, other in _near_values(values, distance):
        if len(found) == at_most:
            break
        found += _row_pairs(rows_of(one), rows_of(other), at_most - len(found))
    pairs = np.array(found, dtype=np.int64).reshape(-1, 2)
    pairs.sort(axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _row_pairs(
    one: npt.NDArray[np.int64], other: npt.NDArray[np.int64] | None, at_most: int
) -> list[tuple[int, int]]:
    """All pairs between two groups of rows, or (None) within one, as far as they are wanted."""
    pairs: list[tuple[int, int]] = []
    for position, row in enumerate(one.tolist()):
        partners = one[position + 1 :] if other is None else other
        pairs += [(row, partner) for partner in partners[: at_most - len(pairs)].tolist()]
        if len(pairs) == at_most:
            break
    return pairs


def _near_values(values: Looks, distance: int) -> Iterator[tuple[int, int]]:
    """Positions of two near values, each pair once.

    Of distance + 2 bands of bits at least two are equal in two near values.
    """
    number = distance + 2
    bands = [sum(1 << bit for bit in range(band, _BITS, number)) for band in range(number)]
    masks = [np.uint64(one | other) for one, other in combinations(bands, 2)]
    for turn, mask in enumerate(masks):
        order = np.argsort(values & mask, kind="stable")
        for one, other in _near_neighbours(values[order], mask, distance):
            apart = values[order[one]] ^ values[order[other]]
            new = np.ones(len(apart), dtype=bool)  # not found by an earlier mask
            for earlier in masks[:turn]:
                new &= (apart & earlier) != 0
            yield from zip(order[one[new]].tolist(), order[other[new]].tolist(), strict=True)


def _near_neighbours(
    values: Looks, mask: np.uint64, distance: int
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Positions of near pairs with equal bits under the mask, in values sorted by these bits.

    Every value is compared with its next neighbour, then with the one after, as far as bits agree.
    """
    keys = values & mask
    ends = np.searchsorted(keys, keys, side="right")
    one = np.arange(len(values))
    for shift in count(1):
        one = one[one + shift < ends[one]]
        if not len(one):
            return
        near = one[np.bitwise_count(values[one] ^ values[one + shift]) <= distance]
        if len(near):
            yield near, near + shift
