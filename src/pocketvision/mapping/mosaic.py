"""A scene in tiles: spectra with what their windows see around them, and logits back to classes.

What stands here needs numpy alone: it travels inside every shipped run.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.scene.scene import missing

STRIP_BYTES = 64_000_000  # of rows in memory at once, unless one window across is more
WINDOWS_AT_ONCE = 64  # of the patch form


class Tile(NamedTuple):
    """Rows top..bottom - 1 and columns left..right - 1 of a scene, h x w pixels.

    spectra: (h + window - 1, w + window - 1, B) float32, filled where there is no measurement.
    measured: (h, w), false for pixels without a measurement.
    """

    top: int
    bottom: int
    left: int
    right: int
    spectra: NDArray[np.float32]
    measured: NDArray[np.bool_]


def spans(length: int, largest: int) -> list[tuple[int, int]]:
    """0..length in the fewest parts of at most `largest`, which differ by one at most."""
    parts = -(-length // largest)
    edges = [length * part // parts for part in range(parts + 1)]
    return list(itertools.pairwise(edges))


def tiles(
    rows: Callable[[int, int], NDArray[Any]],
    shape: tuple[int, int, int],
    window: int,
    fill: NDArray[np.float32],
    no_data: float | None,
    largest: int,
) -> Iterator[Tile]:
    """All tiles of a scene of `shape` (H, W, B), strip by strip; `largest`: side in pixels.

    rows: (start, stop) -> spectra (stop - start, W, B) in any real type. Whole rows are read: as
    many as fit STRIP_BYTES as float32, at least 2 * window - 1 where the scene is very wide.
    """
    height, width, bands = shape
    half = window // 2
    row_bytes = max(1, width * bands * 4)
    strip = min(largest, max(window, STRIP_BYTES // row_bytes - 2 * half))
    for top, bottom in spans(height, strip):
        start = max(0, top - half)
        read = rows(start, min(height, bottom + half))
        for left, right in spans(width, largest):
            spectra, measured = block(
                read,
                (top - half - start, left - half),
                window,
                fill,
                no_data,
                (bottom - top, right - left),
            )
            yield Tile(top, bottom, left, right, spectra, measured)


def block(
    read: NDArray[Any],
    corner: tuple[int, int],
    window: int,
    fill: NDArray[np.float32],
    no_data: float | None,
    size: tuple[int, int] = (1, 1),
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Spectra of the windows of `size` pixels, and which of these pixels hold a measurement.

    read: (rows, W, B). corner: of the first window in `read`; negative outside it.
    Returns (h + window - 1, w + window - 1, B) float32 and (h, w) bool.
    """
    high, wide = size[0] + window - 1, size[1] + window - 1
    spectra = np.empty((high, wide, len(fill)), np.float32)
    spectra[:] = fill
    measured = np.zeros((high, wide), bool)
    row, column = corner
    inside = read[max(0, row) : row + high, max(0, column) : column + wide]
    there = (
        slice(max(0, -row), max(0, -row) + inside.shape[0]),
        slice(max(0, -column), max(0, -column) + inside.shape[1]),
    )
    gone = missing(inside, no_data)
    spectra[there] = inside
    spectra[there][gone] = fill
    measured[there] = ~gone
    half = window // 2
    return spectra, measured[half : half + size[0], half : half + size[1]]


def tile_logits(
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    form: str,
    window: int,
    spectra: NDArray[np.float32],
) -> NDArray[np.float32]:
    """(h, w, K) of a tile's spectra: at once in the dense form, else window by window.

    run: (N, height, width, B) -> logits of a file in that form.
    """
    if form == "dense":
        dense: NDArray[np.float32] = run(spectra[None])[0]
        return dense
    views = np.lib.stride_tricks.sliding_window_view(spectra, (window, window), (0, 1))
    height, width = views.shape[:2]
    logits = []
    for start in range(0, height * width, WINDOWS_AT_ONCE):
        places = np.arange(start, min(height * width, start + WINDOWS_AT_ONCE))
        windows = views[places // width, places % width].transpose(0, 2, 3, 1)
        logits.append(run(np.ascontiguousarray(windows)))
    return np.concatenate(logits).reshape(height, width, -1)


def class_numbers(logits: NDArray[np.float32], measured: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(h, w): the number 1..K of the greatest logit; 0 where there is no measurement."""
    return np.where(measured, logits.argmax(-1) + 1, 0)


def uncertainty_of(logits: NDArray[np.float32], measured: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(h, w): entropy of the softmax over log K, 0 sure to 1 undecided; NaN without measurement."""
    count = logits.shape[-1]
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    entropy = -(np.exp(logs) * logs).sum(-1) / np.log(max(count, 2))
    return np.where(measured, np.clip(entropy, 0, 1), np.nan).astype(np.float32)
