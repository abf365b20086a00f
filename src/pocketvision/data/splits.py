"""A split that follows from the content of the files alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pocketvision.data.folders import SPLITS

_TRAIN = SPLITS.index("train")
_OPEN = -1  # not chosen for any split yet


def split_by_content(
    hashes: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    shares: Mapping[str, float],
    *,
    seed: int,
) -> npt.NDArray[np.int8]:
    """The split of every file: one of `shares`, or "train".

    Of every class, round(share * n) files go to each named split: those that come first in the
    order of sha256(seed, content hash). So names, order and machine do not matter. Files of equal
    content go to one split, whatever their labels; with such copies a share is met as nearly as
    whole groups allow. A named split gets at least one file of each class that has two different
    files to spare, and the last group stays in train.

    hashes: (N, 32), SHA-256 of each file. labels: (N,), class of each file.
    Returns: (N,), index into `folders.SPLITS`.
    """
    group, first = _groups(hashes)  # files of equal content share a group
    chosen = np.full(len(first), _OPEN, dtype=np.int8)
    for label in np.unique(labels):
        order, copies = np.unique(group[labels == label], return_counts=True)
        by_place = _by_place(hashes[first[order]], seed)
        order, copies = order[by_place], copies[by_place]
        for name, share in shares.items():
            chosen[order] = _filled(SPLITS.index(name), share, chosen[order], copies)
        chosen[order[chosen[order] == _OPEN]] = _TRAIN
    return chosen[group]


def _groups(
    hashes: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The group of each file, (N,), and one file of each group."""
    order = sorted_rows(hashes)
    new = np.ones(len(order), dtype=bool)
    new[1:] = ~like_the_one_before(hashes, order)
    group = np.empty(len(order), dtype=np.int64)
    group[order] = np.cumsum(new) - 1
    return group, order[new]


def sorted_rows(
    hashes: npt.NDArray[np.uint8], *major: npt.NDArray[np.integer]
) -> npt.NDArray[np.int64]:
    """Rows in the order of the columns `major`, the first counting most, then of (N, 32) hashes."""
    words = np.ascontiguousarray(hashes).view(">u8")
    return np.lexsort((*words.T[::-1], *major[::-1]))


def like_the_one_before(
    hashes: npt.NDArray[np.uint8], order: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """(n - 1,), whether each row but the first, in that order, has the hash of the one before."""
    same = np.ones(max(len(order) - 1, 0), dtype=bool)
    for word in np.ascontiguousarray(hashes).view(np.uint64).T:  # one column in memory at a time
        ordered = word[order]
        same &= ordered[1:] == ordered[:-1]
    return same


def _by_place(hashes: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.int64]:
    """Rows in the order of sha256(seed, content hash)."""
    keys = np.empty_like(hashes)
    for row, content in enumerate(hashes):
        key = hashlib.sha256(f"{seed}:{content.tobytes().hex()}".encode()).digest()
        keys[row] = np.frombuffer(key, dtype=np.uint8)
    return sorted_rows(keys)


def _filled(
    split: int, share: float, chosen: npt.NDArray[np.int8], copies: npt.NDArray[np.int64]
) -> npt.NDArray[np.int8]:
    """The choices of one class with `split` filled, leaving at least one group for train.

    chosen, copies: (n,), the split and the number of files of each group, in their order.
    """
    filled = chosen.copy()
    wanted = max(1, math.floor(share * int(copies.sum()) + 0.5))
    have = int(copies[chosen == split].sum())
    free = np.flatnonzero(chosen == _OPEN)
    spare = len(free) if (chosen == _TRAIN).any() else len(free) - 1
    if have == 0 and spare > 0 and copies[free].min() > wanted:
        filled[free[np.argmin(copies[free])]] = split
        return filled
    for group in free:
        if spare == 0 or have == wanted:
            break
        if have + copies[group] <= wanted:
            filled[group] = split
            have += int(copies[group])
            spare -= 1
    return filled
