"""Which square blocks of a scene to train on: a seeded search over grids and assignments.

A test pixel is lost to the guard band when a labelled training pixel lies too near. A block is
wider than the band, so only the eight blocks around can hold one: each pixel is reduced to its
class, its block and the set of neighbours that would cost it, and pixels equal in all three become
one cell with a count. An assignment of blocks is then scored exactly on cells, without a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.scene.scene import Labels, Mask

Counts = NDArray[np.int64]

# What a class needs in train and in test to count as being in both: pixels, and a share of its own.
FEW, FEW_SHARE = 5, 0.05
SHARE_NEAR = 0.1  # how far from the train share a split may be for the sake of more classes
SHARE_STEP = 0.05  # differences from the train share that count as equal

# Bounds on the work of one search, so that a scene of any size takes seconds.
GRIDS, GRID_PIXELS = 128, 25_000_000
ASSIGNMENTS = 8, 512  # scored at once
CELLS = 40_000_000  # times assignments, over all grids; as many again to improve on them
ROUNDS = 20  # of improvement


def dilate(bits: NDArray[Any], radius: int) -> NDArray[Any]:
    """(..., H, W) whole numbers or bool -> the same: at each pixel the bitwise or of all pixels
    within `radius`, in rows and in columns (Chebyshev distance)."""
    pads = [(0, 0)] * (bits.ndim - 2) + [(radius, radius)] * 2
    spread = np.pad(bits, pads)
    height, width = bits.shape[-2:]
    span, length = 1, 2 * radius + 1
    while span < length:
        step = min(span, length - span)
        spread[..., :-step, :] |= spread[..., step:, :]
        spread[..., :-step] |= spread[..., step:]
        span += step
    return spread[..., :height, :width]


class Score(NamedTuple):
    """How good a split is; compared in this order."""

    near: int  # 1 where the training pixels are within SHARE_NEAR of the train share
    in_both: int  # classes with enough pixels in train and in test
    trained: int  # classes with any pixel in train
    share: int  # minus the steps from the train share
    kept: int  # test pixels after the guard


def scores(train: Counts, test: Counts, sizes: Counts, train_share: float) -> Counts:
    """(5, splits), the fields of `Score`; train, test: (splits, classes), sizes: (classes,)."""
    enough = np.maximum(FEW, np.ceil(FEW_SHARE * sizes))
    off = np.abs(train.sum(axis=1) / sizes.sum() - train_share)
    fields = [
        off <= SHARE_NEAR,
        ((train >= enough) & (test >= enough)).sum(axis=1),
        (train > 0).sum(axis=1),
        -np.round(off / SHARE_STEP),
        test.sum(axis=1),
    ]
    return np.stack(fields).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Square blocks over the labelled pixels of a scene, which are in row order.

    block, near: (pixels,) the block of each, and the colours of the neighbouring blocks that would
    cost it. Colours: 0..8, by row and column of the block modulo 3, so that all neighbours differ.
    """

    rows: int
    columns: int
    block: Counts
    near: Counts

    @property
    def blocks(self) -> int:
        """Their number, empty ones included."""
        return self.rows * self.columns

    @property
    def colour_bits(self) -> NDArray[np.uint16]:
        """(rows, columns) 1 << colour."""
        row, column = np.indices((self.rows, self.columns))
        return _colour_bits(row, column)


def lay_grid(labels: Labels, side: int, offset: tuple[int, int], reach: int) -> Grid:
    """Blocks of side x side, the first cut by `offset` (rows, columns), 0..side - 1.

    reach: distance within which a training pixel costs a test pixel, below `side`; 0: none does.
    """
    height, width = labels.shape
    y, x = np.nonzero(labels)
    row, column = (y + offset[0]) // side, (x + offset[1]) // side
    rows, columns = (height - 1 + offset[0]) // side + 1, (width - 1 + offset[1]) // side + 1
    own = _colour_bits(row, column)
    bits = np.zeros(labels.shape, np.uint16)
    bits[y, x] = own
    near = (dilate(bits, reach)[y, x] & ~own).astype(np.int64)
    return Grid(rows, columns, row * columns + column, near)


def search(
    labels: Labels, *, side: int, reach: int, train_share: float, seed: int
) -> tuple[Mask, Mask]:
    """Training and test pixels, (H, W) each: the best by `Score` of many seeded assignments on
    several seeded grids. A class that no training block holds is trained on whole."""
    random = np.random.default_rng(seed)
    grids = int(np.clip(GRID_PIXELS // labels.size, 1, GRIDS))
    best: tuple[Score, Mask, Mask] | None = None
    for _ in range(grids):
        top, left = (int(corner) for corner in random.integers(side, size=2))
        grid = lay_grid(labels, side, (top, left), reach)
        cells = count_cells(grid, labels)
        share = CELLS // (grids * len(cells.pixels))
        number = int(np.clip(share, *ASSIGNMENTS))
        rounds = min(ROUNDS, share // number)
        proposed = propose(grid, number, train_share, random)
        trained = improve(grid, cells, proposed, train_share, rounds, random)
        train, test = _masks(labels, grid, trained, reach)
        score = _score_masks(labels, train, test, train_share)
        if best is None or score > best[0]:
            best = score, train, test
    assert best is not None  # there is at least one grid
    return best[1:]


def _masks(labels: Labels, grid: Grid, trained: NDArray[np.bool_], reach: int) -> tuple[Mask, Mask]:
    labelled = labels > 0
    train = np.zeros(labels.shape, np.bool_)
    train[labelled] = trained[grid.block]
    untrained = np.setdiff1d(labels[labelled], labels[train])
    if len(untrained):
        train |= np.isin(labels, untrained)  # a map needs every class
    return train, labelled & ~dilate(train, reach)


def _score_masks(labels: Labels, train: Mask, test: Mask, train_share: float) -> Score:
    length = int(labels.max()) + 1
    counts = [np.bincount(labels[m], minlength=length)[1:] for m in (train, test, labels > 0)]
    present = counts[2] > 0
    in_train, in_test, sizes = (count[present] for count in counts)
    fields = scores(in_train[None], in_test[None], sizes, train_share)[:, 0]
    return Score(*(int(field) for field in fields))


class Cells(NamedTuple):
    """(cells,) each: pixels of one class in one block with the same neighbours near, by class.

    first: (classes,) where each class that is present begins."""

    block: Counts
    near: Counts
    pixels: NDArray[np.int32]
    first: Counts


def count_cells(grid: Grid, labels: Labels) -> Cells:
    """The cells of a grid over the labelled pixels."""
    label_of = labels[labels > 0].astype(np.int64)
    key = (label_of * grid.blocks + grid.block) << 9 | grid.near
    cell, count = np.unique(key, return_counts=True)
    label, block = np.divmod(cell >> 9, grid.blocks)
    first = np.unique(label, return_index=True)[1]
    return Cells(block, cell & 511, count.astype(np.int32), first)


def propose(
    grid: Grid, number: int, train_share: float, random: np.random.Generator
) -> NDArray[np.bool_]:
    """(number, blocks) random assignments whose pixels are as near the share as whole blocks
    allow, blocks taken in a random order."""
    sizes = np.bincount(grid.block, minlength=grid.blocks)
    order = random.random((number, grid.blocks)).argsort(axis=1)
    ordered = sizes[order]
    taken = ordered.cumsum(axis=1) - ordered / 2 <= train_share * sizes.sum()
    trained = np.zeros(taken.shape, np.bool_)
    np.put_along_axis(trained, order, taken, axis=1)
    return trained


def improve(
    grid: Grid,
    cells: Cells,
    trained: NDArray[np.bool_],
    train_share: float,
    rounds: int,
    random: np.random.Generator,
) -> NDArray[np.bool_]:
    """(blocks,) the best of `trained` (assignments, blocks), then better ones that differ from it
    in one or two blocks, for as long as a round finds one."""
    row, score = best_assignment(grid, cells, trained, train_share)
    best: NDArray[np.bool_] = trained[row]
    for _ in range(rounds):
        tried = np.tile(best, (len(trained), 1))
        rows = np.arange(len(tried))
        for _ in range(2):
            tried[rows, random.choice(cells.block, len(tried))] ^= True
        row, found = best_assignment(grid, cells, tried, train_share)
        if found <= score:
            break
        best, score = tried[row], found
    return best


def best_assignment(
    grid: Grid, cells: Cells, trained: NDArray[np.bool_], train_share: float
) -> tuple[int, Score]:
    """The best row of `trained` (assignments, blocks), and its score."""
    shaped = trained.reshape(len(trained), grid.rows, grid.columns)
    around = dilate(shaped * grid.colour_bits, 1).reshape(trained.shape)
    in_train = trained[:, cells.block]
    in_test = ~in_train & (around[:, cells.block] & cells.near == 0)
    train = np.add.reduceat(in_train * cells.pixels, cells.first, axis=1)
    test = np.add.reduceat(in_test * cells.pixels, cells.first, axis=1)
    sizes = np.add.reduceat(cells.pixels, cells.first)
    fields = scores(train, test, sizes, train_share)
    best = int(np.lexsort(fields[::-1])[-1])
    return best, Score(*(int(field) for field in fields[:, best]))


def _colour_bits(row: Counts, column: Counts) -> NDArray[np.uint16]:
    colour = row % 3 * 3 + column % 3
    bits: NDArray[np.uint16] = np.left_shift(1, colour).astype(np.uint16)
    return bits
