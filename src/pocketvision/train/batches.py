"""Which images make up which batch, and how they are read from the pixel store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelSource:
    """Some rows of a pixel store with their labels; cheap to send to another process.

    store: file of uint8 (rows, side, side, 3). indices, labels: (n,) int64.
    """

    store: Path
    rows: int
    side: int
    indices: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def open(self) -> np.ndarray:
        """uint8 (rows, side, side, 3), read-only and memory-mapped."""
        shape = (self.rows, self.side, self.side, 3)
        return np.memmap(self.store, dtype=np.uint8, mode="r", shape=shape)


def num_batches(images: int, batch_size: int, world: int = 1) -> int:
    """Batches per epoch; they differ by at most one image, so none is an odd remainder.

    Each of `world` ranks gets two images of every batch at least, where there are as many: batch
    norm has no statistics of a single one.
    """
    return max(1, min(-(-images // batch_size), images // (2 * world)))


def epoch_batches(images: int, batches: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Positions 0..images-1 in the order of one epoch, which depends on (seed, epoch) alone."""
    order = np.random.default_rng((seed, epoch)).permutation(images)
    return np.array_split(order, batches)


class Batches(IterableDataset[tuple[Tensor, Tensor]]):
    """Batches of (uint8 (n, side, side, 3), int64 (n,)); `batches` holds positions in `source`."""

    def __init__(self, source: PixelSource, batches: list[np.ndarray]) -> None:
        self.source = source
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        store = self.source.open()
        for batch in self.batches:
            # Sorted rows are read in the order of the file; order within a batch has no effect.
            chosen = np.sort(batch)
            pixels = torch.from_numpy(store[self.source.indices[chosen]])
            yield pixels, torch.from_numpy(self.source.labels[chosen])
