"""Dark and bright images, in memory: a data set that a few steps of training can learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pocketvision.data.stream import Batch, Rows
from pocketvision.train.batches import PixelSource

IMAGES = 64


@dataclass(frozen=True, slots=True)
class InMemory:
    """Pixels of a data set."""

    pixels: Batch

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, rows: Rows) -> Batch:
        taken: Batch = self.pixels[rows]
        return taken

    def batches(self, batches: Sequence[Rows]) -> Iterator[Batch]:
        return (self.take(rows) for rows in batches)


def two_tones(side: int = 32, seed: int = 0) -> PixelSource:
    """64 square images of noise, every other one brighter."""
    generator, labels = np.random.default_rng(seed), np.arange(IMAGES) % 2
    noise = generator.integers(0, 100, (IMAGES, side, side, 3))
    pixels = (noise + 120 * labels[:, None, None, None]).astype(np.uint8)
    return PixelSource(pixels=InMemory(pixels), indices=np.arange(IMAGES), labels=labels)
