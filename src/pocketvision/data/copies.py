"""Which images of a folder are copies of one another: byte for byte, or by how they look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt

from pocketvision.data.index import Index
from pocketvision.data.looks import ALIKE, SIDE, Views, likeness, near_pairs, views_of
from pocketvision.data.pixels import decode, open_image
from pocketvision.data.splits import sorted_rows
from pocketvision.data.threads import Progress, decode_all

MOST_PAIRS = 20_000  # pairs of images that are looked at; both are decoded

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Copies:
    """Copies among the rows of an index.

    order: (N,) rows by content. starts: (contents + 1,), where each content begins in it. near:
    (n, 2) contents that look alike, the smaller first.
    complete: False where more pairs than MOST_PAIRS had similar hashes, and some were not compared.
    """

    order: Rows
    starts: Rows
    near: Rows
    complete: bool

    def rows(self, content: int) -> Rows:
        """All rows of one content, ascending."""
        return self.order[self.starts[content] : self.starts[content + 1]]

    def groups(self) -> Iterator[Rows]:
        """The rows of every content that is there more than once."""
        for content in np.flatnonzero(np.diff(self.starts) > 1).tolist():
            yield self.rows(content)

    def near_rows(self) -> Iterator[tuple[Rows, Rows]]:
        """The rows of both sides of every pair that looks alike."""
        for one, other in self.near.tolist():
            yield self.rows(one), self.rows(other)


def find_copies(index: Index, progress: Progress | None = None) -> Copies:
    """Equal files, and near duplicates: similar hashes, confirmed by looking at both images.

    progress: called with (done, all) while images are looked at.
    """
    order = sorted_rows(index.hashes)
    ordered = index.hashes[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    starts = np.append(np.flatnonzero(new), len(order))
    first = order[new]
    candidates = near_pairs(index.looks[first], at_most=MOST_PAIRS)
    alike = _alike(index, first[candidates], progress)
    return Copies(
        order=order,
        starts=starts,
        near=candidates[alike],
        complete=len(candidates) < MOST_PAIRS,
    )


def _alike(index: Index, pairs: Rows, progress: Progress | None) -> npt.NDArray[np.bool_]:
    """(n,), whether the two images of each pair of rows have the same detail."""
    seen: dict[int, Views | None] = {}

    def look(row: int) -> tuple[int, Views | None]:
        return row, _views(index, row)

    def keep(result: tuple[int, Views | None]) -> None:
        seen[result[0]] = result[1]

    decode_all(look, np.unique(pairs).tolist(), keep, progress)
    return np.array([_copies(seen[one], seen[other]) for one, other in pairs.tolist()], bool)


def _copies(one: Views | None, other: Views | None) -> bool:
    return one is not None and other is not None and likeness(one, other) >= ALIKE


def _views(index: Index, row: int) -> Views | None:
    """None for a file that has gone or changed since it was indexed."""
    try:
        with open_image(BytesIO(index.read(row))) as image:
            return views_of(decode(image, SIDE // 2))
    except (OSError, ValueError):
        return None
