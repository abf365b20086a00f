"""Which images make up which batch, and how their pixels are come by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from pocketvision.data.images import Samples
from pocketvision.data.stream import Pixels


class Source(Protocol):
    """Some images of a data set with what is to be learned of them; it can be sent to a process."""

    def __len__(self) -> int: ...

    def batches(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Any]]:
        """For each batch of positions, ascending: (n, side, side, 3) uint8 and the truth."""

    def part(self, positions: np.ndarray) -> Self:
        """The images at some positions, ascending."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelSource:
    """Some images of a data set with their labels; it can be sent to another process.

    indices: (n,) int64, rows of `pixels`. labels: (n,) int64.
    """

    pixels: Pixels
    indices: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def batches(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        """(n, side, side, 3) uint8 and (n,) int64 labels of each."""
        rows = [self.indices[positions] for positions in batches]
        for positions, pixels in zip(batches, self.pixels.batches(rows), strict=True):
            yield torch.from_numpy(pixels), torch.from_numpy(self.labels[positions])

    def part(self, positions: np.ndarray) -> PixelSource:
        """The images at some positions, ascending."""
        return replace(self, indices=self.indices[positions], labels=self.labels[positions])


def training_sources(samples: Samples, pixels: Pixels) -> tuple[PixelSource, PixelSource]:
    """The images of train and of val, with their labels."""
    train, val = (
        PixelSource(pixels=pixels, indices=rows, labels=samples.labels[rows])
        for rows in (samples.indices("train"), samples.indices("val"))
    )
    return train, val


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


class Batches(IterableDataset[tuple[Tensor, Any]]):
    """The batches of one epoch; `batches` holds positions in `source`."""

    def __init__(self, source: Source, batches: list[np.ndarray]) -> None:
        self.source = source
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        # Sorted rows are read in the order of the file; order within a batch has no effect.
        yield from self.source.batches([np.sort(batch) for batch in self.batches])
