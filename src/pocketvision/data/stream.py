"""Decoded images for training and for the gates: from the store, or decoded anew where it is full.

Both give the same pixels, bit for bit, in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pocketvision.data.cache import decode_row, is_stored, pixel_store, shortage
from pocketvision.data.images import Samples
from pocketvision.data.index import Index
from pocketvision.data.threads import Progress, decode_ahead, decode_all, heed_bombs_alone

BATCHES_AHEAD = 2  # decoded while the step before them runs

Rows = npt.NDArray[np.int64]
Batch = npt.NDArray[np.uint8]


class Pixels(Protocol):
    """All images of a data set at one size; it can be sent to another process."""

    def __len__(self) -> int: ...

    def take(self, rows: Rows) -> Batch:
        """Those images, (n, side, side, 3) uint8. Raises: DataError: a file that changed."""

    def batches(self, batches: Sequence[Rows]) -> Iterator[Batch]:
        """`take` of each, in turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredPixels:
    """Images in a pixel store: a file of uint8 (rows, side, side, 3).

    index: the images it was made from, to be decoded anew where another run removed the store.
    """

    path: Path
    rows: int
    side: int
    index: Index | None = None

    def __len__(self) -> int:
        return self.rows

    def take(self, rows: Rows) -> Batch:
        """Those images, (n, side, side, 3) uint8."""
        return next(self.batches([rows]))

    def batches(self, batches: Sequence[Rows]) -> Iterator[Batch]:
        """`take` of each, in turn, the file being opened once."""
        shape = (self.rows, self.side, self.side, 3)
        try:
            store = np.memmap(self.path, dtype=np.uint8, mode="r", shape=shape)
            os.utime(self.path)  # used now: others are removed before it
        except FileNotFoundError:
            if self.index is None:
                raise
            yield from StreamedPixels(index=self.index, side=self.side).batches(batches)
            return
        for rows in batches:
            yield np.asarray(store[rows])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StreamedPixels:
    """Images that are read and decoded every time they are asked for."""

    index: Index
    side: int

    def __len__(self) -> int:
        return len(self.index)

    def take(self, rows: Rows) -> Batch:
        """Those images, (n, side, side, 3) uint8. Raises: DataError: a file that changed."""
        images: list[Batch] = []
        decode_all(partial(decode_row, self.index, self.side), rows.tolist(), images.append)
        return np.array(images, dtype=np.uint8).reshape(-1, self.side, self.side, 3)

    def batches(self, batches: Sequence[Rows]) -> Iterator[Batch]:
        """`take` of each, in turn, decoded in threads while the batch before is used."""
        # An iterator may outlive the filters around it: the caller's contexts take these back.
        heed_bombs_alone()
        largest = max(map(len, batches), default=0)
        images = decode_ahead(
            partial(decode_row, self.index, self.side),
            chain.from_iterable(batches),
            max(1, BATCHES_AHEAD * largest),
        )
        for rows in batches:
            yield np.stack([next(images) for _ in rows])


def open_pixels(samples: Samples, side: int, progress: Progress | None = None) -> Pixels:
    """All images at `side`: from the store, made now or before, or where it has no room, streamed.

    Raises: as `cache.pixel_store`, but for too little room.
    """
    if not is_stored(samples, side) and shortage(len(samples), side):
        return StreamedPixels(index=samples.index, side=side)
    store = pixel_store(samples, side, progress)
    path = Path(str(store.filename))
    return StoredPixels(path=path, rows=len(store), side=side, index=samples.index)
