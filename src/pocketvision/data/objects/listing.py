"""Which objects the annotations of a folder state, before any image is opened."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from pocketvision.boxes import Objects
from pocketvision.data.folders import SPLITS, printable
from pocketvision.errors import DataError

SHOWN = 10  # entries named in a message
MAX_SIDE = 1_000_000  # pixels of an image that an annotation may state
ROUNDING = 1e-9  # of the image; what computing fractions costs
# What a box may reach outside by where no size is stated: a pixel of an image of 100.
SLACK_WITHOUT_SIZE = 0.01

Format = Literal["voc", "coco", "yolo"]
FaultKind = Literal["outside", "empty", "not a number"]
Four = tuple[float, float, float, float]

_WRITTEN: dict[Format, str] = {
    "voc": "xmin, ymin, xmax, ymax",
    "coco": "x, y, width, height",
    "yolo": "centre x, centre y, width, height",
}


class Fault(NamedTuple):
    """A box that was mended or left out: "outside" was clipped, the other kinds are left out."""

    path: str  # of the image, relative, POSIX form
    object: int  # its number in the image's annotation, from 1
    kind: FaultKind
    sentence: str  # which file says what

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.sentence}"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ObjectListing:
    """Annotated images before any was opened, one column per fact; unsplit folders are train.

    classes: names without the background; sorted, or for YOLO in the order of its file. paths:
    relative to root, POSIX form, sorted. splits: (N,) int8, index into `folders.SPLITS`. objects:
    of the images in that order. sizes: (N, 2) int32, width and height in pixels as the annotations
    state them; 0 where they do not (YOLO). annotations: the file that annotates each image,
    relative, for messages. faults: boxes that were mended or left out; see `refuse_faults`.
    """

    root: Path
    format: Format
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    splits: npt.NDArray[np.int8]
    objects: Objects
    sizes: npt.NDArray[np.int32]
    annotations: tuple[str, ...]
    faults: tuple[Fault, ...]

    def __len__(self) -> int:
        """Images."""
        return len(self.paths)


class Stated(NamedTuple):
    """One object as an annotation states it."""

    number: int  # in the image's annotation, from 1
    where: str  # the same in the file's own terms, as "line 4"
    name: str  # of its class
    written: Four  # what the file says
    corners: Four  # x0, y0, x1, y1 in fractions of the image, not clipped
    ignored: bool = False


class Annotated(NamedTuple):
    """One image with what is stated of it."""

    path: str  # relative, POSIX form
    split: str
    annotation: str  # the file, relative
    objects: Sequence[Stated]
    size: tuple[int, int] = (0, 0)  # width and height; 0 where the format states none


def names_in(images: Iterable[Annotated]) -> tuple[str, ...]:
    """The classes that any object has, sorted."""
    return tuple(sorted({stated.name for image in images for stated in image.objects}))


def listing_of(
    root: Path, format: Format, classes: tuple[str, ...], images: Iterable[Annotated]
) -> ObjectListing:
    """The images in order, their boxes clipped and without those that are none.

    Raises: DataError: an image that is annotated twice, or a class name that cannot be printed.
    """
    for name in classes:
        if not name.isprintable():
            raise DataError(f"The class name {name!r} is not printable text; rename the class.")
    ordered = sorted(images, key=lambda image: image.path)
    _refuse_repeated(root, ordered)
    label_of = {name: label for label, name in enumerate(classes)}
    boxes: list[Four] = []
    labels, ignored, faults, ends = [], [], [], [0]
    for image in ordered:
        for stated in image.objects:
            box, kind = _mended(stated, image.size)
            if kind:
                sentence = _sentence(format, image, stated, kind)
                faults.append(Fault(image.path, stated.number, kind, sentence))
            if box:
                boxes.append(box)
                labels.append(label_of[stated.name])
                ignored.append(stated.ignored)
        ends.append(len(boxes))
    return ObjectListing(
        root=root,
        format=format,
        classes=classes,
        paths=tuple(image.path for image in ordered),
        splits=np.array([SPLITS.index(image.split) for image in ordered], np.int8),
        objects=Objects(
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            labels=np.array(labels, np.int32),
            ignored=np.array(ignored, bool),
            starts=np.array(ends, np.int64),
        ),
        sizes=np.array([image.size for image in ordered], np.int32).reshape(-1, 2),
        annotations=tuple(image.annotation for image in ordered),
        faults=tuple(faults),
    )


def refuse_faults(listing: ObjectListing) -> None:
    """Raises: DataError: a box was mended or left out."""
    if not listing.faults:
        return
    left_out = sum(fault.kind != "outside" for fault in listing.faults)
    total = len(listing.objects.labels) + left_out
    raise DataError(
        "\n".join(
            [
                f"{len(listing.faults)} of {total} boxes in {str(listing.root)!r} are faulty:",
                *first_of(listing.faults),
                "Mend them, or go on without with --skip-bad.",
            ]
        )
    )


def check_classes(listing: ObjectListing) -> None:
    """Objects that are ignored count for neither side.

    Raises: DataError: no object in train, or a class in val or test that train lacks.
    """
    splits = np.repeat(listing.splits, np.diff(listing.objects.starts))
    splits, labels = splits[~listing.objects.ignored], listing.objects.labels
    labels = labels[~listing.objects.ignored]
    of_split = {name: set(labels[splits == code].tolist()) for code, name in enumerate(SPLITS)}
    if not of_split["train"]:
        trained = int((listing.splits == SPLITS.index("train")).sum())
        raise DataError(
            f"{str(listing.root)!r} has no object in train that could be learned, in {trained} "
            f"images; boxes that are empty, difficult or crowds do not count. Annotate some."
        )
    lacking = [
        f"{split} has {', '.join(repr(listing.classes[label]) for label in sorted(unknown))}"
        for split in ("val", "test")
        if (unknown := of_split[split] - of_split["train"])
    ]
    if lacking:
        known = ", ".join(repr(listing.classes[label]) for label in sorted(of_split["train"]))
        raise DataError(
            f"Classes in {str(listing.root)!r} differ: {'; '.join(lacking)}, but train has objects "
            f"of {known} alone. Move images into train, or correct the names."
        )


def first_of(entries: Iterable[object]) -> list[str]:
    """Lines that name the first ten, and how many others there are."""
    lines = [f"  {entry}" for entry in entries]
    others = len(lines) - SHOWN
    return lines[:SHOWN] + ([f"  and {others} others."] if others > 0 else [])


def _refuse_repeated(root: Path, ordered: Sequence[Annotated]) -> None:
    for one, other in pairwise(ordered):
        if one.path == other.path:
            raise DataError(
                f"{str(root / one.path)!r} is annotated twice: for {one.split} in "
                f"{one.annotation!r} and for {other.split} in {other.annotation!r}; keep one."
            )


def _mended(stated: Stated, size: tuple[int, int]) -> tuple[Four | None, FaultKind | None]:
    """The box as it is used, if it can be, and what was wrong with it, if anything."""
    if not all(map(math.isfinite, stated.written + stated.corners)):
        return None, "not a number"
    x0, y0, x1, y1 = (min(max(corner, 0.0), 1.0) for corner in stated.corners)
    # As float32 holds them: what has no width there has none for the network either.
    if np.float32(x0) >= np.float32(x1) or np.float32(y0) >= np.float32(y1):
        return None, "empty"
    across, down = _outside(stated.corners)
    # One pixel is how programs differ in where they count from and how they round.
    far = across > _slack(size[0]) or down > _slack(size[1])
    return (x0, y0, x1, y1), "outside" if far else None


def _slack(side: int) -> float:
    return (1 / side if side else SLACK_WITHOUT_SIZE) + ROUNDING


def _outside(corners: Four) -> tuple[float, float]:
    """How far a box reaches outside, across and down, in fractions of the image."""
    x0, y0, x1, y1 = corners
    return max(-x0, x1 - 1, 0.0), max(-y0, y1 - 1, 0.0)


def _sentence(format: Format, image: Annotated, stated: Stated, kind: FaultKind) -> str:
    numbers = ", ".join(f"{number:.10g}" for number in stated.written)
    return (
        f"{stated.where} ({stated.name!r}) in {printable(image.annotation)} "
        f"{_wrong(stated.corners, image.size, kind)}: {_WRITTEN[format]} = {numbers}"
    )


def _wrong(corners: Four, size: tuple[int, int], kind: FaultKind) -> str:
    """What is wrong with a box, as a part of a sentence."""
    if kind == "not a number":
        return "has a coordinate that is no finite number"
    x0, y0, x1, y1 = corners
    picture = f"the image of {size[0]}x{size[1]} pixels" if all(size) else "the image"
    if kind == "empty":
        return f"lies outside {picture}" if x0 < x1 and y0 < y1 else "has no area"
    across, down = _outside(corners)
    if not all(size):
        return f"reaches outside {picture} by {max(across, down):.3g} of its side"
    return f"reaches outside {picture} by {max(across * size[0], down * size[1]):.4g} pixels"
