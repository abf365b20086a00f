"""Class folders to `Samples`: which images there are, their classes, their splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from pocketvision.data.columns import Coded, HexDigests
from pocketvision.data.folders import SPLITS, Listing, Skipped, check_classes, list_images
from pocketvision.data.index import Index, index_of, read_clean_list
from pocketvision.data.splits import sorted_rows, split_by_content
from pocketvision.data.threads import Progress
from pocketvision.errors import DataError
from pocketvision.record.run import DataSummary, SplitSummary

SHARE_SET_ASIDE = 0.15  # of each class, for a split the folder does not have
LEAST_FOR_TEST = 30  # images a class needs before a test split is set aside
SHOWN = 10  # unreadable files named in a message

Origin = Literal["given", "set aside"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Samples:
    """The labelled images of one folder, ordered by class, then content: file names do not matter.

    index: what is known of each file. labels: (N,) int64, index into `classes`. split_codes: (N,)
    int8, index into `folders.SPLITS`, with the splits set aside. split_origins: "given" by the
    folder or "set aside" here. fingerprint: SHA-256 of classes, splits and contents, not of names.
    """

    index: Index
    split_codes: npt.NDArray[np.int8]
    split_origins: dict[str, Origin]
    labels: npt.NDArray[np.int64] = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", self.index.labels.astype(np.int64))
        object.__setattr__(self, "fingerprint", _fingerprint(self))

    def __len__(self) -> int:
        return len(self.index)

    @property
    def root(self) -> Path:
        return self.index.root

    @property
    def classes(self) -> tuple[str, ...]:
        return self.index.classes

    @property
    def paths(self) -> Sequence[str]:
        """Of each image, relative to root, POSIX form."""
        return self.index.paths

    @property
    def hashes(self) -> Sequence[str]:
        """SHA-256 of each image file, hexadecimal."""
        return HexDigests(self.index.hashes)

    @property
    def splits(self) -> Sequence[str]:
        """ "train", "val" or "test" for each image."""
        return Coded(self.split_codes, SPLITS)

    @property
    def shorter_sides(self) -> npt.NDArray[np.int32]:
        """(N,) int32, pixels."""
        shorter: npt.NDArray[np.int32] = self.index.sizes.min(axis=1)
        return shorter

    @property
    def shorter_side(self) -> int:
        """Of the image in the middle, when they are in the order of it; pixels."""
        return int(np.median(self.shorter_sides))

    @property
    def skipped(self) -> tuple[str, ...]:
        """ "path: reason" of each file that was left out."""
        return tuple(map(str, self.index.skipped))

    @property
    def headline_split(self) -> Literal["test", "val"]:
        """The split of the headline figure; "val" (used for selection too) without a test split."""
        return "test" if "test" in self.split_origins else "val"

    def read(self, row: int) -> bytes:
        """The image file as it is now; nothing is checked. Raises: OSError, ValueError."""
        return self.index.read(row)

    def read_unchanged(self, row: int) -> bytes:
        """The image file, if it still is what was scanned. Raises: DataError."""
        return self.index.read_unchanged(row)

    def where(self, row: int) -> str:
        """The image's path, for messages."""
        return self.index.where(row)

    def indices(self, split: str) -> npt.NDArray[np.int64]:
        """Rows of one split, ascending: (n,) int64; empty for a split that is not there."""
        return np.flatnonzero(self.split_codes == SPLITS.index(split)).astype(np.int64)

    def label_text(self, row: int) -> str:
        """What an image is labelled with, in a line of the fingerprint."""
        label: int = self.labels[row]
        return self.classes[label]

    def telling(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Those of the rows that have a score by themselves: here, all."""
        return rows

    def counts(self, split: str) -> tuple[int, ...]:
        """Images of each class in one split."""
        labels = self.labels[self.indices(split)]
        return tuple(np.bincount(labels, minlength=len(self.classes)).tolist())

    def summary(self) -> DataSummary:
        """Counts and origins for the record."""
        splits = tuple(
            SplitSummary(
                name=name,
                origin=self.split_origins[name],
                counts=self.counts(name),
                images=len(self.indices(name)),
            )
            for name in SPLITS
            if name in self.split_origins
        )
        return DataSummary(
            fingerprint=self.fingerprint,
            classes=self.classes,
            splits=splits,
            headline_split=self.headline_split,
            skipped=self.skipped,
        )


def scan(
    folder: str | Path,
    *,
    seed: int = 0,
    skip_bad: bool = False,
    only: str | Path | None = None,
    progress: Progress | None = None,
) -> Samples:
    """Find, decode once and split the images of a folder.

    The folder holds class folders, or train/ (val/, test/) with class folders; `valid` and
    `validation` mean val. Images are .jpg .jpeg .png .webp .bmp, also in subfolders of a class;
    other and hidden files are ignored, and so are images outside class folders. A folder without
    class folders may hold tar shards instead (see `shards`).

    A missing val is set aside from train by content (15 % of each class, at least one image); so is
    a missing test, unless a class has under 30 images: then the headline split is val. Copies of
    one image are never parted by this; those that the folder has in two splits stay there.
    skip_bad: leave unreadable files out, into `Samples.skipped`. only: a clean list, as
    `doctor --fix` writes: other files are left out. progress: called with (done, all).
    Raises: DataError: a folder without this layout, or with unreadable files.
    """
    listing = list_images(Path(folder))
    if only is not None:
        listing = listing.only(read_clean_list(Path(only)), Path(only))
    if listing.skipped and not len(listing):
        raise DataError(unreadable_message(listing.skipped, len(listing.skipped)))
    check_classes(listing.root, _present(listing), list(listing.classes))
    index = index_of(listing, progress)
    if index.skipped and not skip_bad:
        raise DataError(unreadable_message(index.skipped, len(index) + len(index.skipped)))
    check_classes(index.root, _present(index), list(index.classes))
    return _split(index, seed)


def _present(files: Listing | Index) -> Iterator[tuple[str, str]]:
    """Split and class of each file."""
    for split, label in zip(files.splits, files.labels, strict=True):
        yield SPLITS[split], files.classes[label]


def unreadable_message(skipped: tuple[Skipped, ...], total: int) -> str:
    """Which files cannot be used, why, and what to do."""
    lines = [f"{len(skipped)} of {total} images cannot be used:"]
    lines += [f"  {entry}" for entry in skipped[:SHOWN]]
    if len(skipped) > SHOWN:
        lines.append(f"  and {len(skipped) - SHOWN} others.")
    way_out = "Repair or remove them, or leave them out with --skip-bad."
    lines.append(way_out if len(skipped) < total else "None is left: repair them, or give others.")
    return "\n".join(lines)


def _split(index: Index, seed: int) -> Samples:
    splits, origins = set_aside(index, seed)
    if "val" not in origins:
        raise DataError(
            f"{str(index.root)!r} has one image per class, too few to set any aside for "
            f"validation; expected at least 2 different images of each class."
        )
    if lacking := [split for split in ("train", "val") if _lacked(index, splits, split)]:
        raise DataError(
            f"A validation split cannot be set aside in {str(index.root)!r}: "
            + "; ".join(f"{s} would have no image of {_lacked(index, splits, s)}" for s in lacking)
            + ". Every class needs 2 different images or more; add some, or remove the class."
        )
    return Samples(index=index, split_codes=splits, split_origins=origins)


def check_learned(samples: Samples, thing: str, way_out: str) -> None:
    """Raises: DataError: val or test has no `thing` at all, or one of a class that train lacks."""
    learned = np.array(samples.counts("train"))
    for split in [name for name in ("val", "test") if name in samples.split_origins]:
        there = np.array(samples.counts(split))
        if not there.any():
            raise DataError(
                f"The {len(samples.indices(split))} images of {split} have no {thing} of any "
                f"class, so that nothing can be scored on them; put images with one into {split}."
            )
        lacking = np.flatnonzero((learned == 0) & (there > 0))
        if len(lacking):
            names = ", ".join(repr(samples.classes[k]) for k in lacking)
            raise DataError(
                f"Train has no {thing} of {names}, which {split} has, so it cannot be learned; add "
                f"images of it to train, or {way_out}."
            )


def set_aside(
    index: Index, seed: int, shown: npt.NDArray[np.bool_] | None = None
) -> tuple[npt.NDArray[np.int8], dict[str, Origin]]:
    """The split of every image, and whose choice it was, as `scan` says it.

    shown: (N, K), which classes each image shows, where it may show any number: of images that show
    something, and of those that show nothing, the same share is set aside, but for those without
    which train would lack a class.
    Returns: (N,), index into `folders.SPLITS`, and the origin of each split that has images.
    """
    train = SPLITS.index("train")
    splits = index.splits.copy()
    origins: dict[str, Origin] = {
        name: "given" for code, name in enumerate(SPLITS) if (splits == code).any()
    }
    pool = np.flatnonzero(splits == train)
    shares = _shares_to_set_aside(origins, np.bincount(index.labels[pool]))
    # An image that a given split already holds would leak from one set aside: it stays in train.
    pool = pool[~_held(index.hashes[pool], index.hashes[splits != train])]
    origins |= dict.fromkeys(shares, "set aside")
    strata = index.labels
    if shown is not None:
        strata = np.asarray(shown.any(axis=1), np.int32)
    while len(pool):
        splits[pool] = split_by_content(index.hashes[pool], strata[pool], shares, seed=seed)
        needed = [] if shown is None else _needed(pool, splits, shown)
        if not needed:
            break
        splits[pool] = train
        pool = pool[~_held(index.hashes[pool], index.hashes[needed])]
    return splits, {
        name: origin for name, origin in origins.items() if (splits == SPLITS.index(name)).any()
    }


def _needed(
    pool: npt.NDArray[np.int64], splits: npt.NDArray[np.int8], shown: npt.NDArray[np.bool_]
) -> list[int]:
    """Of each class that was set aside from `pool` as a whole, the first image there."""
    learned = shown[splits == SPLITS.index("train")].any(axis=0)
    lacking = np.flatnonzero(shown[pool].any(axis=0) & ~learned)
    return [int(pool[shown[pool, label].argmax()]) for label in lacking]


def check_set_aside(root: Path, origins: dict[str, Origin]) -> None:
    """Of images that may show any number of classes. Raises: DataError: there is no val."""
    if "val" not in origins:
        raise DataError(
            f"{str(root)!r} has too few images to set any aside for validation; expected at least "
            "2 different ones, and one more wherever one image alone shows a class."
        )


def _lacked(index: Index, splits: npt.NDArray[np.int8], split: str) -> str:
    """The classes without an image in a split, for messages."""
    held = np.unique(index.labels[splits == SPLITS.index(split)])
    absent = np.setdiff1d(np.arange(len(index.classes)), held)
    return ", ".join(repr(index.classes[label]) for label in absent)


def _held(hashes: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """(n,), whether each of (n, 32) hashes is among the others."""
    known = {content.tobytes() for content in others}
    return np.fromiter((content.tobytes() in known for content in hashes), bool, len(hashes))


def _shares_to_set_aside(
    origins: dict[str, Origin], train_counts: npt.NDArray[np.intp]
) -> dict[str, float]:
    names = []
    if "test" not in origins and min(train_counts, default=0) >= LEAST_FOR_TEST:
        names.append("test")
    if "val" not in origins:
        names.append("val")
    return dict.fromkeys(names, SHARE_SET_ASIDE)


def _fingerprint(samples: Samples) -> str:
    """SHA-256 of one line an image, in the order of class, split name and content."""
    digest = hashlib.sha256()
    by_name = np.argsort(np.argsort(SPLITS))  # of each split, its place in the alphabet
    hashes, labels, splits = samples.index.hashes, samples.index.labels, samples.split_codes
    for row in sorted_rows(hashes, labels, by_name[splits]):
        label, split = samples.label_text(int(row)), SPLITS[splits[row]]
        line = f"{label}\0{split}\0{hashes[row].tobytes().hex()}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
