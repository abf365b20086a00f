"""Decoded images for training and for the gates: from the store, or decoded anew where it is full.

Both give the same pixels, bit for bit, in the same order.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pocketvision.data.cache import (
    Contents,
    DecodedImages,
    is_stored,
    pixel_store,
    shortage,
)
from pocketvision.data.images import Samples
from pocketvision.data.threads import Progress, decode_ahead, decode_all, heed_bombs_alone

TIMED = 32  # rows, to know what decoding takes
BATCHES_AHEAD = 2  # decoded while the step before them runs

Rows = npt.NDArray[np.int64]
Batch = npt.NDArray[np.uint8]


class Pixels(Protocol):
    """All images of a data set at one size, or all masks; it can be sent to another process."""

    def __len__(self) -> int: ...

    def take(self, rows: Rows) -> Batch:
        """Those images, (n, side, side, 3) uint8. Raises: DataError: a file that changed."""

    def batches(self, batches: Sequence[Rows]) -> Iterator[Batch]:
        """`take` of each, in turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredPixels:
    """Images in a pixel store: a file of uint8 (rows, *shape).

    contents: what it was made of, to be decoded anew where another run removed the store.
    """

    path: Path
    rows: int
    shape: tuple[int, ...]
    contents: Contents | None = None

    def __len__(self) -> int:
        return self.rows

    def take(self, rows: Rows) -> Batch:
        """Those images, (n, *shape) uint8."""
        return next(self.batches([rows]))

    def batches(self, batches: Sequence[Rows]) -> Iterator[Batch]:
        """`take` of each, in turn, the file being opened once."""
        try:
            store = np.memmap(self.path, np.uint8, mode="r", shape=(self.rows, *self.shape))
            os.utime(self.path)  # used now: others are removed before it
        except FileNotFoundError:
            if self.contents is None:
                raise
            yield from StreamedPixels(contents=self.contents).batches(batches)
            return
        for rows in batches:
            yield np.asarray(store[rows])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StreamedPixels:
    """Images that are read and decoded every time they are asked for."""

    contents: Contents

    def __len__(self) -> int:
        return len(self.contents)

    def take(self, rows: Rows) -> Batch:
        """Those images, (n, *shape) uint8. Raises: DataError: a file that changed."""
        images: list[Batch] = []
        decode_all(self.contents.row, rows.tolist(), images.append)
        return np.array(images, dtype=np.uint8).reshape(-1, *self.contents.shape)

    def batches(self, batches: Sequence[Rows]) -> Iterator[Batch]:
        """`take` of each, in turn, decoded in threads while the batch before is used."""
        # An iterator may outlive the filters around it: the caller's contexts take these back.
        heed_bombs_alone()
        largest = max(map(len, batches), default=0)
        images = decode_ahead(
            self.contents.row,
            chain.from_iterable(batches),
            max(1, BATCHES_AHEAD * largest),
        )
        for rows in batches:
            yield np.stack([next(images) for _ in rows])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PixelsInMemory:
    """Images that are there already. rows: (N, *shape) uint8."""

    rows: Batch

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Rows) -> Batch:
        """Those images, (n, *shape) uint8."""
        return self.rows[rows]

    def batches(self, batches: Sequence[Rows]) -> Iterator[Batch]:
        """`take` of each, in turn."""
        return map(self.take, batches)


def open_pixels(
    samples: Samples, side: int, progress: Progress | None = None, *, whole: bool = False
) -> Pixels:
    """All images at `side`: from the store, made now or before, or where it has no room, streamed.

    whole: as in `load_pixels`. Raises: as `cache.pixel_store`, but for too little room.
    """
    return opened(DecodedImages(index=samples.index, side=side, whole=whole), progress)


def decoding_seconds(contents: Contents) -> float:
    """What decoding a row takes with all threads: of a few, spread evenly, behind a first one.

    Raises: DataError: a file that changed.
    """
    rows = np.linspace(0, len(contents) - 1, min(TIMED, len(contents))).astype(np.int64)
    decoder = StreamedPixels(contents=contents)
    decoder.take(rows[:1])
    start = time.perf_counter()
    decoder.take(rows)
    return (time.perf_counter() - start) / len(rows)


def opened(contents: Contents, progress: Progress | None = None) -> Pixels:
    """As `open_pixels`, of any contents."""
    needed = len(contents) * int(np.prod(contents.shape))
    if not is_stored(contents) and shortage(needed):
        return StreamedPixels(contents=contents)
    store = pixel_store(contents, progress)
    path = Path(str(store.filename))
    return StoredPixels(path=path, rows=len(store), shape=contents.shape, contents=contents)
