"""Folders of images with boxes to `BoxedSamples`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pocketvision.boxes import Objects
from pocketvision.data.columns import Texts
from pocketvision.data.folders import SPLITS, Listing, Skipped, printable
from pocketvision.data.images import (
    Samples,
    check_learned,
    check_set_aside,
    set_aside,
    unreadable_message,
)
from pocketvision.data.index import Index, index_of, read_clean_list
from pocketvision.data.objects.listing import ObjectListing, refuse_faults
from pocketvision.data.objects.read import list_objects
from pocketvision.data.threads import Progress
from pocketvision.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BoxedSamples(Samples):
    """Images with objects; `counts` are objects of each class, ignored ones left out.

    sizes: (N, 2) int32, width and height of the images as they are seen, in pixels.
    """

    objects: Objects
    sizes: npt.NDArray[np.int32]

    def label_text(self, row: int) -> str:
        one = self.objects.of(row)
        digest = hashlib.sha256()
        for column in (one.boxes, one.labels, one.ignored):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()

    def telling(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Those with an object to be found: without one there is no mAP."""
        kept = [row for row in rows.tolist() if not self.objects.of(row).ignored.all()]
        return np.array(kept, np.int64)

    def counts(self, split: str) -> tuple[int, ...]:
        """Objects of each class in one split."""
        there = self.objects.take(self.indices(split))
        labels = there.labels[~there.ignored]
        return tuple(np.bincount(labels, minlength=len(self.classes)).tolist())


def scan_objects(
    folder: str | Path,
    *,
    seed: int = 0,
    skip_bad: bool = False,
    only: str | Path | None = None,
    progress: Progress | None = None,
) -> BoxedSamples:
    """Find, decode once and split the images and boxes of a folder in VOC's, COCO's or YOLO's form.

    Splits that the folder lacks are set aside by content, 15 % each (test from 30 images on).
    skip_bad: go on without unreadable images, without empty boxes, and with boxes clipped that
    reach outside; what was left out is in `Samples.skipped`. only: a clean list, as `doctor --fix`
    writes. progress: called with (done, all).
    Raises: DataError: another layout, unusable files, faulty boxes, or a class that train lacks.
    """
    listing = list_objects(Path(folder))
    if only is not None:
        listing = _only(listing, Path(only))
    if not skip_bad:
        refuse_faults(listing)
    mended = tuple(Skipped(printable(f.path), "", "", f.sentence) for f in listing.faults)
    index = index_of(
        Listing(
            root=listing.root,
            classes=listing.classes,
            paths=Texts.of(listing.paths),
            labels=np.zeros(len(listing), np.int32),
            splits=listing.splits,
        ),
        progress,
    )
    index, rows = _of_stated_size(index, listing)
    if index.skipped and not (skip_bad and len(index)):
        raise DataError(unreadable_message(index.skipped, len(listing)))
    index = replace(index, skipped=(*index.skipped, *mended))
    objects = listing.objects.take(rows)
    codes, origins = set_aside(index, seed, _shown(objects, len(index.classes)))
    check_set_aside(index.root, origins)
    samples = BoxedSamples(
        index=index,
        split_codes=codes,
        split_origins=origins,
        objects=objects,
        sizes=index.seen_sizes,
    )
    check_learned(samples, "object", "remove the class")
    return samples


def _only(listing: ObjectListing, only: Path) -> ObjectListing:
    """The images of a clean list. Raises: DataError: it names others."""
    wanted = read_clean_list(only)
    rows = np.array([k for k, path in enumerate(listing.paths) if path in wanted], np.int64)
    if len(rows) < len(wanted):
        absent = sorted(wanted - set(listing.paths))
        raise DataError(
            f"The list {str(only)!r} names {len(absent)} files that are not in "
            f"{str(listing.root)!r}, such as {', '.join(map(repr, absent[:3]))}; write it anew."
        )
    return replace(
        listing,
        paths=tuple(listing.paths[k] for k in rows),
        splits=listing.splits[rows],
        objects=listing.objects.take(rows),
        sizes=listing.sizes[rows],
        annotations=tuple(listing.annotations[k] for k in rows),
        faults=tuple(fault for fault in listing.faults if fault.path in wanted),
    )


def _shown(objects: Objects, classes: int) -> npt.NDArray[np.bool_]:
    """(N, K), which classes each image shows, ignored objects left out."""
    counted = ~objects.ignored
    images = np.repeat(np.arange(len(objects)), np.diff(objects.starts))[counted]
    shown = np.zeros((len(objects), classes), bool)
    shown[images, objects.labels[counted]] = True
    return shown


def _of_stated_size(index: Index, listing: ObjectListing) -> tuple[Index, npt.NDArray[np.int64]]:
    """The images that are as their annotations state, and their rows in the listing.

    The others are skipped: nobody knows of what their boxes are fractions.
    """
    place = {path: row for row, path in enumerate(listing.paths)}
    rows = np.array([place[path] for path in index.paths], np.int64)
    unlike = _unlike(index, listing.sizes[rows])
    if not len(unlike):
        return index, rows
    skipped = [_as_skipped(index, row, listing.sizes[rows[row]]) for row in unlike.tolist()]
    alike = np.setdiff1d(np.arange(len(index)), unlike)
    return replace(index.take(alike), skipped=(*index.skipped, *skipped)), rows[alike]


def _unlike(index: Index, stated: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Rows whose annotation states another size than the image has as it is seen.

    stated: (N, 2), width and height; 0 where none is stated, as in YOLO's form.
    """
    differs = (stated != index.seen_sizes).any(axis=1)
    return np.flatnonzero((stated > 0).all(axis=1) & differs)


def _as_skipped(index: Index, row: int, stated: npt.NDArray[np.int32]) -> Skipped:
    """The entry of an image whose annotation states another size."""
    (width, height), (other_width, other_height) = index.seen_sizes[row], stated
    reason = f"{width}x{height} as it is seen, but its annotation says {other_width}x{other_height}"
    if index.turned[row] and (stated == index.sizes[row]).all():
        reason += (
            ", as it is stored before its EXIF orientation turns it; annotate it as it is seen, or "
            "remove the orientation from the file"
        )
    path = printable(index.paths[row])
    return Skipped(path, SPLITS[index.splits[row]], "", reason)
