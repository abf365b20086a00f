"""Folders of images with boxes to `BoxedSamples`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pocketvision.boxes import Objects
from pocketvision.data.columns import Texts
from pocketvision.data.folders import SPLITS, Listing, Skipped, printable, read_image_file
from pocketvision.data.images import Samples, check_learned, set_aside, unreadable_message
from pocketvision.data.index import Index, index_of, read_clean_list
from pocketvision.data.masks.mask import upright_size
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
    mended = tuple(Skipped(f.path, "", "", f.sentence) for f in listing.faults)
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
    place = {path: row for row, path in enumerate(listing.paths)}
    rows = np.array([place[path] for path in index.paths], np.int64)
    sizes, unlike = _upright(index, listing.sizes[rows])
    skipped = (*index.skipped, *unlike)
    if skipped and (not skip_bad or len(unlike) == len(index)):
        raise DataError(unreadable_message(skipped, len(listing)))
    index = replace(index, skipped=(*skipped, *mended))
    codes, origins = set_aside(index, seed)
    if "val" not in origins:
        raise DataError(
            f"{str(index.root)!r} has too few images to set any aside for validation; expected at "
            "least 2 different ones."
        )
    samples = BoxedSamples(
        index=index,
        split_codes=codes,
        split_origins=origins,
        objects=listing.objects.take(rows),
        sizes=sizes,
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


def _upright(
    index: Index, stated: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], tuple[Skipped, ...]]:
    """Sizes as seen, and the images whose annotation states another."""
    sizes = index.sizes.copy()
    unlike: list[Skipped] = []
    for row in np.flatnonzero((stated > 0).all(axis=1) & (stated != sizes).any(axis=1)).tolist():
        content = read_image_file(index.root, index.paths[row], None, row)
        sizes[row] = upright_size(content)
        if (sizes[row] != stated[row]).any():
            unlike.append(
                Skipped(
                    printable(index.paths[row]),
                    SPLITS[index.splits[row]],
                    "",
                    f"{sizes[row][0]}x{sizes[row][1]}, but its annotation says "
                    f"{stated[row][0]}x{stated[row][1]}",
                )
            )
    return sizes, tuple(unlike)
