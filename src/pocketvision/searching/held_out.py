"""Training images that judge what is tried before anything is chosen; val and test stay unseen."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from pocketvision.train.batches import Source

SHARE, LEAST, MOST = 0.15, 50, 1000  # of the training images

AnySource = TypeVar("AnySource", bound=Source)


def parts_of(train: AnySource, seed: int) -> tuple[AnySource, AnySource]:
    """What is trained on, and what judges: both of the training images."""
    order = np.random.default_rng(seed).permutation(len(train))
    count = min(MOST, max(LEAST, int(SHARE * len(order))), len(order) // 2)
    return train.part(np.sort(order[count:])), train.part(np.sort(order[:count]))
