"""Folders of images and masks to `MaskedSamples`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pocketvision.data.columns import Texts
from pocketvision.data.folders import SPLITS, Listing, Skipped, printable, read_image_file
from pocketvision.data.images import (
    Samples,
    check_learned,
    check_set_aside,
    set_aside,
    unreadable_message,
)
from pocketvision.data.index import index_of, read_clean_list
from pocketvision.data.masks.layout import Pair, list_pairs
from pocketvision.data.masks.mask import (
    VOID,
    Mask,
    read_mask,
    resized_mask,
    upright_size,
)
from pocketvision.data.shards import read_classes
from pocketvision.data.threads import Progress, decode_all
from pocketvision.errors import ConfigError, DataError

VALUES = 256
MAX_CLASSES = 255  # the value behind is void


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Masks:
    """The masks of all images, one column per fact; it can be sent to another process.

    paths: relative to root. hashes: (N, 32) uint8, SHA-256 of each file. pixels: (N, K) int64, how
    many of each class. void: values that are no class, ascending.
    """

    root: Path
    paths: Texts
    hashes: npt.NDArray[np.uint8]
    pixels: npt.NDArray[np.int64]
    void: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, row: int) -> Mask:
        """(H, W) uint8, the class of each pixel, 255 where it has none.

        Raises: DataError: the file is not what was scanned.
        """
        where = printable(str(self.root / self.paths[row]))
        try:
            content = read_image_file(self.root, self.paths[row], None, row)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{where!r} could be read when it was scanned, but not now ({error})."
            ) from error
        if hashlib.sha256(content).digest() != self.hashes[row].tobytes():
            raise DataError(f"{where!r} was changed after it was scanned; scan the folder again.")
        values = read_mask(content)
        values[np.isin(values, self.void)] = VOID
        return values


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StretchedMasks:
    """All masks at one size, (side, side), as contents of a store."""

    masks: Masks
    side: int

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.side, self.side)

    @property
    def key(self) -> str:
        """Of the content of the files in order."""
        key = hashlib.sha256(f"masks {self.side} {self.masks.void}".encode())
        key.update(self.masks.hashes.tobytes())
        return key.hexdigest()

    def row(self, row: int) -> npt.NDArray[np.uint8]:
        return resized_mask(self.masks.read(row), (self.side, self.side))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MaskedSamples(Samples):
    """Images with masks; `counts` are images in which a class occurs."""

    masks: Masks

    def label_text(self, row: int) -> str:
        return f"{self.masks.hashes[row].tobytes().hex()} {self.masks.void}"

    def counts(self, split: str) -> tuple[int, ...]:
        """Images of one split in which each class occurs."""
        return tuple((self.masks.pixels[self.indices(split)] > 0).sum(axis=0).tolist())


def scan_masks(
    folder: str | Path,
    *,
    void: tuple[int, ...] = (),
    seed: int = 0,
    skip_bad: bool = False,
    only: str | Path | None = None,
    progress: Progress | None = None,
) -> MaskedSamples:
    """Find, decode once and split the images and masks of a folder.

    The layouts are those of `masks.layout.LAYOUT`. A mask has the number of a class in every pixel,
    grey or as index of a palette; 255 and the values of `void` are no class. classes.txt in the
    folder names the classes in their order; without it their names are the numbers. Splits that the
    folder lacks are set aside by content, 15 % each (test from 30 images on).
    skip_bad: leave out images or masks that cannot be used, into `Samples.skipped`. only: a clean
    list, as `doctor --fix` writes. progress: called with (done, all).
    Raises: DataError: another layout, unusable files, or a class that train lacks. ConfigError: a
        value outside 0..255.
    """
    for value in void:
        if not 0 <= value <= 255:
            raise ConfigError(f"void={value} is out of range; expected values of pixels, 0..255.")
    root = Path(folder)
    pairs = _chosen(list_pairs(root), None if only is None else Path(only), root)
    void = tuple(sorted({*void, VOID}))
    facts: list[_Facts | str] = []
    decode_all(partial(_examine, root), pairs, facts.append)
    classes = _classes(root, facts, void)
    found, skipped = _usable(pairs, facts, len(classes), void)
    if skipped and (not skip_bad or not found):
        raise DataError(unreadable_message(skipped, len(pairs)))
    _refuse_one_class(root, [one for _, one in found], void)
    listing = _listing(root, [pair for pair, _ in found], classes, skipped)
    index = index_of(listing, progress)
    if len(index.skipped) > len(skipped) and not (skip_bad and len(index)):
        raise DataError(unreadable_message(index.skipped, len(pairs)))
    by_path = {pair.image: (pair.mask, one) for pair, one in found}
    masks = _masks(root, [by_path[path] for path in index.paths], len(classes), void)
    splits, origins = set_aside(index, seed, masks.pixels > 0)
    check_set_aside(root, origins)
    samples = MaskedSamples(index=index, split_codes=splits, split_origins=origins, masks=masks)
    check_learned(samples, "pixel", "declare its value void (--void)")
    return samples


class _Facts(NamedTuple):
    """What one mask is."""

    content: bytes  # SHA-256
    values: npt.NDArray[np.int64]  # (256,), pixels of each value


def _chosen(pairs: list[Pair], only: Path | None, root: Path) -> list[Pair]:
    """The pairs whose image is in a clean list."""
    if not pairs:
        raise DataError(f"{str(root)!r} holds no image with a mask.")
    if only is None:
        return pairs
    wanted = read_clean_list(only)
    if absent := sorted(wanted - {pair.image for pair in pairs}):
        raise DataError(
            f"The list {str(only)!r} names {len(absent)} files that are not in {str(root)!r}, such "
            f"as {', '.join(map(repr, absent[:3]))}; write it anew."
        )
    return [pair for pair in pairs if pair.image in wanted]


def _examine(root: Path, pair: Pair) -> _Facts | str:
    """The facts of one mask, or why it cannot be used. An image that cannot be read is not its."""
    try:
        content = read_image_file(root, pair.mask, None, 0)
        values = read_mask(content)
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    try:
        width, height = upright_size(read_image_file(root, pair.image, None, 0))
    except (OSError, ValueError):
        width, height = values.shape[1], values.shape[0]
    if values.shape != (height, width):
        return f"{values.shape[1]}x{values.shape[0]}, but its image is {width}x{height}"
    counts = np.bincount(values.ravel(), minlength=VALUES).astype(np.int64)
    return _Facts(hashlib.sha256(content).digest(), counts)


def _classes(root: Path, facts: Sequence[_Facts | str], void: tuple[int, ...]) -> tuple[str, ...]:
    """Of classes.txt, or the numbers up to the highest that occurs."""
    named = read_classes(root, root)
    if named is not None:
        names = tuple(dict.fromkeys(named.values()))
        if len(names) > MAX_CLASSES:
            raise DataError(
                f"classes.txt in {str(root)!r} has {len(names)} names; a mask can tell "
                f"{MAX_CLASSES} classes apart."
            )
        return names
    values = _values([one for one in facts if isinstance(one, _Facts)])
    highest = max((value for value in values if value not in void), default=0)
    return tuple(map(str, range(highest + 1)))


def _values(facts: Sequence[_Facts]) -> list[int]:
    """Those that occur in any mask, ascending."""
    seen = sum((one.values for one in facts), np.zeros(VALUES, np.int64))
    return np.flatnonzero(seen).tolist()


def _refuse_one_class(root: Path, facts: Sequence[_Facts], void: tuple[int, ...]) -> None:
    """Raises: DataError: all pixels that have a class have the same."""
    values = _values(facts)
    if len(set(values) - set(void)) >= 2:
        return
    hint = (
        f" {VOID} means no class: where it is meant as one, as in masks of black and white, write "
        "1 in its place."
        if VOID in values
        else ""
    )
    others = sorted(set(values) & set(void) - {VOID})
    told = f", of which {', '.join(map(str, others))} mean no class (--void)" if others else ""
    raise DataError(
        f"The masks in {str(root)!r} have one class only; expected at least 2. Their values are "
        f"{', '.join(map(str, values))}{told}.{hint} Add masks that show another class."
    )


def _usable(
    pairs: Sequence[Pair], facts: Sequence[_Facts | str], classes: int, void: tuple[int, ...]
) -> tuple[list[tuple[Pair, _Facts]], tuple[Skipped, ...]]:
    """Pairs that can be used, and the others with the reason."""
    able: list[tuple[Pair, _Facts]] = []
    skipped: list[Skipped] = []
    for pair, one in zip(pairs, facts, strict=True):
        reason = one if isinstance(one, str) else _fault(one.values, classes, void)
        if reason or isinstance(one, str):
            skipped.append(Skipped(printable(pair.mask), pair.split, "", reason))
        else:
            able.append((pair, one))
    return able, tuple(skipped)


def _fault(values: npt.NDArray[np.int64], classes: int, void: tuple[int, ...]) -> str:
    """What is wrong with the values of a mask; empty: nothing."""
    present = np.flatnonzero(values)
    strange = [int(v) for v in present if v >= classes and v not in void]
    if strange:
        return (
            f"value {strange[0]}, but there are {classes} classes, 0 to {classes - 1}; if it means "
            f"no class, say --void {strange[0]}"
        )
    if set(present.tolist()) - set(void):
        return ""
    return f"no pixel has a class, as {', '.join(map(str, present))} means none"


def _listing(
    root: Path, pairs: Sequence[Pair], classes: tuple[str, ...], skipped: tuple[Skipped, ...]
) -> Listing:
    return Listing(
        root=root,
        classes=classes,
        paths=Texts.of(pair.image for pair in pairs),
        labels=np.zeros(len(pairs), np.int32),
        splits=np.array([SPLITS.index(pair.split) for pair in pairs], np.int8),
        skipped=skipped,
    )


def _masks(
    root: Path, rows: Sequence[tuple[str, _Facts]], classes: int, void: tuple[int, ...]
) -> Masks:
    pixels = np.stack([one.values[:classes] for _, one in rows])
    pixels[:, [value for value in void if value < classes]] = 0
    return Masks(
        root=root,
        paths=Texts.of(path for path, _ in rows),
        hashes=np.frombuffer(b"".join(one.content for _, one in rows), np.uint8).reshape(-1, 32),
        pixels=pixels,
        void=void,
    )
