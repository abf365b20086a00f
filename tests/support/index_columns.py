"""An index without files, for what looks at its columns alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pocketvision.data.index import Index


def columns(
    labels: Sequence[int],
    *,
    contents: Sequence[int] = (),
    splits: Sequence[int] = (),
    modes: Sequence[int] = (),
    formats: Sequence[int] = (),
) -> Index:
    """An index of images that were never files; two classes, unsplit unless told otherwise."""
    count = len(labels)
    hashes = np.random.default_rng(0).integers(0, 256, (count, 32), dtype=np.uint8)
    return Index(
        root=Path("photos"),
        classes=("a", "b"),
        paths=[f"{'ab'[label]}/{row}.jpg" for row, label in enumerate(labels)],
        labels=np.array(labels, np.int32),
        splits=np.array(splits or [0] * count, np.int8),
        hashes=hashes[list(contents)] if contents else hashes,
        looks=np.zeros(count, np.uint64),
        sizes=np.full((count, 2), 64, np.int32),
        turned=np.zeros(count, bool),
        formats=np.array(formats or [0] * count, np.int8),
        modes=np.array(modes or [0] * count, np.int8),
    )
