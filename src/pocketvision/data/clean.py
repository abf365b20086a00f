"""The clean list: the files of a folder that are left when `doctor` had its way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pocketvision.data.copies import Copies
from pocketvision.data.findings import shown
from pocketvision.data.folders import SPLITS
from pocketvision.data.index import Index, clean_line
from pocketvision.errors import ConfigError, DataError
from pocketvision.storage import write_atomic

Mask = npt.NDArray[np.bool_]

_TRAIN = SPLITS.index("train")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rule:
    """Why rows of an index are left out of the clean list; each row under its first rule only."""

    why: str  # "5 files that ..."
    rows: npt.NDArray[np.int64]


def rules(index: Index, copies: Copies, *, set_aside: bool) -> tuple[Rule, ...]:
    """What the clean list leaves out of the readable files, rule by rule.

    All images with contradictory labels; copies in train of images in val or test, and in val of
    those in test; all but one of equal files of a split; and where a split is set aside from train
    (set_aside), all but one of near duplicates there.
    """
    left_out = np.zeros(len(index), dtype=bool)
    found = []
    for why, mask in (
        ("that have different labels, or look like such", _contradictory(index, copies)),
        ("that val or test has too, or that look like one there", _leaking(index, copies)),
        ("that are there more than once", _surplus(index, copies)),
    ):
        found.append(Rule(why=why, rows=np.flatnonzero(mask & ~left_out)))
        left_out |= mask
    if set_aside:
        again = list(_near_again(index, copies, left_out))
        rows = np.array(again, dtype=np.int64)
        found.append(Rule(why="that look like another, and could be parted from it", rows=rows))
    return tuple(rule for rule in found if len(rule.rows))


def _contradictory(index: Index, copies: Copies) -> Mask:
    mask = np.zeros(len(index), dtype=bool)
    for rows in _related(copies):
        mask[rows] |= (index.labels[rows] != index.labels[rows[0]]).any()
    return mask


def _leaking(index: Index, copies: Copies) -> Mask:
    mask = np.zeros(len(index), dtype=bool)
    for rows in _related(copies):
        mask[rows] |= index.splits[rows] < index.splits[rows].max()
    return mask


def _surplus(index: Index, copies: Copies) -> Mask:
    mask = np.zeros(len(index), dtype=bool)
    for rows in copies.groups():
        _, first = np.unique(index.splits[rows], return_index=True)
        mask[np.delete(rows, first)] = True
    return mask


def _near_again(index: Index, copies: Copies, left_out: Mask) -> Iterator[int]:
    """Rows of train that look like one that stays."""
    gone = left_out.copy()
    for one, other in copies.near_rows():
        first, second = (
            rows[(index.splits[rows] == _TRAIN) & ~gone[rows]] for rows in (one, other)
        )
        if len(first) and len(second):
            gone[second] = True
            yield from second.tolist()


def _related(copies: Copies) -> Iterator[npt.NDArray[np.int64]]:
    """The rows of equal files, and those of every pair that looks alike."""
    yield from copies.groups()
    for one, other in copies.near_rows():
        yield np.append(one, other)


def write_clean_list(file: Path, index: Index, left_out: tuple[Rule, ...]) -> int:
    """Write the paths that stay, for `fit --only`; returns how many. No image is touched.

    Raises: ConfigError: the file exists. DataError: nothing stays. OSError: it cannot be written.
    """
    check_new(file)
    stays = np.ones(len(index), dtype=bool)
    for rule in left_out:
        stays[rule.rows] = False
    count = int(stays.sum())
    if not count:
        raise DataError(f"No image of {str(index.root)!r} would be left; {file} is not written.")
    heading = f"# {count:,} files of {shown(str(index.root))} that `doctor` has nothing against\n"
    lines = (clean_line(index.paths[row]) + "\n" for row in np.flatnonzero(stays).tolist())
    write_atomic(file, (heading + "".join(lines)).encode("utf-8", "surrogateescape"))
    return count


def check_new(file: Path) -> None:
    """Raises: ConfigError: there is such a file already."""
    if file.exists():
        raise ConfigError(f"{file} exists; give --fix the name of a new file.")
