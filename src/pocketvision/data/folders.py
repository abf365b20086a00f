"""Which image files a folder holds, of which class and split."""

from __future__ import annotations

import os
import stat
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pocketvision.data.columns import Texts, TextsBuilder
from pocketvision.data.layout import LAYOUT, SUFFIXES, folders_in, image_files, sources_of
from pocketvision.data.shards import Members, images_in, read_classes, too_large
from pocketvision.errors import DataError

SPLITS = ("train", "val", "test")


class Skipped(NamedTuple):
    """A file that cannot be used. The path is relative and can be printed."""

    path: str
    split: str
    label: str  # name of its class; empty where it has none
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Listing:
    """Image files before any was opened, one column per fact; an unsplit folder counts as train.

    classes: names of all class folders, empty ones included, sorted. paths: relative, POSIX form.
    labels: (N,) int32, index into `classes`. splits: (N,) int8, index into `SPLITS`. skipped: what
    is known to be of no use already. members: where images in tar files lie; None without any.
    """

    root: Path
    classes: tuple[str, ...]
    paths: Texts
    labels: npt.NDArray[np.int32]
    splits: npt.NDArray[np.int8]
    skipped: tuple[Skipped, ...] = ()
    members: Members | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, row: int) -> bytes:
        """The file as it is now. Raises: OSError, ValueError."""
        return read_image_file(self.root, self.paths[row], self.members, row)

    def skip(self, row: int, reason: str) -> Skipped:
        """The entry of a row that cannot be used."""
        return Skipped(
            path=printable(self.paths[row]),
            split=SPLITS[self.splits[row]],
            label=self.classes[self.labels[row]],
            reason=reason,
        )

    def take(self, rows: npt.NDArray[np.int64]) -> Listing:
        """Those rows, in that order."""
        return replace(
            self,
            paths=self.paths.take(rows),
            labels=self.labels[rows],
            splits=self.splits[rows],
            members=None if self.members is None else self.members.take(rows),
        )

    def only(self, wanted: frozenset[str], source: Path) -> Listing:
        """The files of a clean list; classes stay. Raises: DataError: it names files not here."""
        rows = np.array([row for row, path in enumerate(self.paths) if path in wanted], np.int64)
        if len(rows) < len(wanted):
            here = {self.paths[int(row)] for row in rows}
            absent = sorted(map(printable, wanted - here))
            raise DataError(
                f"The list {str(source)!r} names {len(absent)} files that are not in "
                f"{str(self.root)!r}, such as {', '.join(map(repr, absent[:3]))}; write it anew: "
                "pocketvision doctor FOLDER --fix FILE."
            )
        return replace(self.take(rows), skipped=())


def read_image_file(root: Path, path: str, members: Members | None, row: int) -> bytes:
    """The bytes of one row, a file of its own or in a tar file. Raises: OSError, ValueError."""
    if members is not None and members.shard[row] >= 0:
        return members.read(root, row)
    with open(os.open(root / path, _OPEN), "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("not a regular file")
        if reason := too_large(facts.st_size):
            raise ValueError(reason)
        return file.read()


# A pipe would wait for a writer for ever. (Windows has neither pipes in folders nor the flag.)
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def printable(path: str) -> str:
    """Names that are no Unicode text could not be printed or recorded."""
    return path.encode(errors="backslashreplace").decode()


def list_images(root: Path) -> Listing:
    """All image files, none opened, and the names of all class folders, sorted.

    Raises: DataError: no folder, splits that cannot be told apart, or a folder that is closed.
    """
    if not root.exists():
        raise DataError(f"The folder {str(root)!r} does not exist; give a folder of images.")
    if not root.is_dir():
        raise DataError(f"{str(root)!r} is a file; give the folder that holds the class folders.")
    try:
        return _list(root)
    except OSError as error:
        raise DataError(
            f"{str(error.filename)!r} cannot be read ({error.strerror}); "
            f"change its permissions, or move it elsewhere."
        ) from error


def _list(root: Path) -> Listing:
    columns = _Columns(root)
    for split, (folder, shards) in sources_of(root).items():
        for class_folder in folders_in(folder) if not shards else ():
            columns.number(class_folder.name)
            for path in image_files(class_folder):
                columns.add(path.relative_to(root).as_posix(), split, class_folder.name)
        classes = read_classes(folder, root) if shards else None
        for name in (classes or {}).values():
            columns.number(name)
        for shard in shards:
            columns.add_shard(shard, split, classes)
    return columns.done()


class _Columns:
    """A listing that grows."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.numbers: dict[str, int] = {}  # of the classes, in the order they are met
        self.paths, self.labels, self.splits = TextsBuilder(), array("i"), array("b")
        self.shards: list[str] = []
        self.shard, self.offsets, self.lengths = array("i"), array("q"), array("q")
        self.skipped: list[Skipped] = []

    def number(self, name: str) -> int:
        """That of a class, which may be new."""
        return self.numbers.setdefault(name, len(self.numbers))

    def add(self, path: str, split: str, label: str) -> None:
        """A file of its own."""
        self.paths.append(path)
        self.labels.append(self.number(label))
        self.splits.append(SPLITS.index(split))

    def add_shard(self, shard: Path, split: str, classes: dict[str, str] | None) -> None:
        """The images of a tar file."""
        name = shard.relative_to(self.root).as_posix()
        self._no_shard_until_here()
        self.shards.append(name)
        for image in images_in(shard, SUFFIXES, classes):
            path = f"{name}/{image.name}" if image.name else name
            if image.reason:
                self.skipped.append(Skipped(printable(path), split, image.label, image.reason))
                continue
            self.add(path, split, image.label)
            self.shard.append(len(self.shards) - 1)
            self.offsets.append(image.offset)
            self.lengths.append(image.length)

    def _no_shard_until_here(self) -> None:
        missing = len(self.paths) - len(self.shard)
        self.shard.extend([-1] * missing)
        self.offsets.frombytes(bytes(8 * missing))
        self.lengths.frombytes(bytes(8 * missing))

    def done(self) -> Listing:
        """The listing; the columns are not used afterwards."""
        classes = sorted(self.numbers)
        final = np.empty(len(classes), dtype=np.int32)
        for number, name in enumerate(classes):
            final[self.numbers[name]] = number
        return Listing(
            root=self.root,
            classes=tuple(classes),
            paths=self.paths.done(),
            labels=final[np.array(self.labels, dtype=np.int32)],
            splits=np.array(self.splits, dtype=np.int8),
            skipped=tuple(self.skipped),
            members=self._members() if self.shards else None,
        )

    def _members(self) -> Members:
        self._no_shard_until_here()
        return Members(
            shards=tuple(self.shards),
            shard=np.array(self.shard, dtype=np.int32),
            offsets=np.array(self.offsets, dtype=np.int64),
            lengths=np.array(self.lengths, dtype=np.int64),
        )


def check_classes(root: Path, present: Iterable[tuple[str, str]], classes: list[str]) -> None:
    """Every class must have images in every split.

    present: (split, class) of each image. classes: the names of all class folders.
    Raises: DataError: no images, one class only, a class without images in a split, or a name
        that cannot be printed.
    """
    counts = Counter(present)
    if not counts:
        raise DataError(f"{str(root)!r} holds no readable image in a class folder.\n{LAYOUT}")
    if len(classes) < 2:
        raise DataError(
            f"{str(root)!r} has only one class, {classes[0]!r}; expected at least 2.\n{LAYOUT}"
        )
    for name in classes:
        if not name.isprintable():
            raise DataError(f"The class name {name!r} is not printable text; rename the folder.")
    missing = [
        f"{split} has no readable image of {', '.join(map(repr, absent))}"
        for split in sorted({split for split, _ in counts}, key=SPLITS.index)
        if (absent := [label for label in classes if not counts[split, label]])
    ]
    if missing:
        raise DataError(
            f"Classes in {str(root)!r} are incomplete: {'; '.join(missing)}. "
            f"Every class folder needs at least one image in every split there is; "
            f"add images ({' '.join(SUFFIXES)}), or remove the class."
        )
