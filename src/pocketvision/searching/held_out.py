"""Training images that judge what is tried before anything is chosen; val and test stay unseen."""

from __future__ import annotations

import numpy as np

from pocketvision.data.images import Samples
from pocketvision.data.stream import Pixels
from pocketvision.train.batches import PixelSource

SHARE, LEAST, MOST = 0.15, 50, 1000  # of the training images


def parts_of(samples: Samples, pixels: Pixels, seed: int) -> tuple[PixelSource, PixelSource]:
    """What is trained on, and what judges: both of the training images."""
    rows = np.random.default_rng(seed).permutation(samples.indices("train"))
    count = min(MOST, max(LEAST, int(SHARE * len(rows))), len(rows) // 2)
    held_out, train = (
        PixelSource(pixels=pixels, indices=part, labels=samples.labels[part])
        for part in (np.sort(rows[:count]), np.sort(rows[count:]))
    )
    return train, held_out
