"""What is known of every image file of a folder after one pass: listed, read once, decoded once."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from pocketvision.data.columns import Texts
from pocketvision.data.folders import Listing, list_images, printable, read_image_file
from pocketvision.data.folders import Skipped as Skipped
from pocketvision.data.looks import look_of
from pocketvision.data.orientation import is_turned
from pocketvision.data.pixels import FORMATS, decode, open_image
from pocketvision.data.shards import Members
from pocketvision.data.splits import like_the_one_before, sorted_rows
from pocketvision.data.threads import Progress, decode_all
from pocketvision.errors import DataError

MODES = ("colour", "grey", "transparent", "palette", "16-bit", "cmyk", "other")
LOOK_SIDE = 16  # images are decoded at a scale with sides >= 32, as many pixels as a look needs

_MODE_OF = {
    **dict.fromkeys(("RGB", "RGBX", "YCbCr", "LAB", "HSV"), "colour"),
    **dict.fromkeys(("1", "L"), "grey"),
    **dict.fromkeys(("LA", "La", "PA", "RGBA", "RGBa"), "transparent"),
    "P": "palette",
    "I": "16-bit",
    "CMYK": "cmyk",
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Index:
    """One column per fact of every readable image file, before any split is set aside.

    Rows are ordered by class, then content, then path: names matter for copies alone.

    classes: sorted names of all class folders, empty ones included. paths: relative to root, POSIX
    form; "shard.tar/member" for an image in a tar file. labels: (N,) int32, index into `classes`.
    splits: (N,) int8, index into `folders.SPLITS`; an unsplit folder counts as train. hashes:
    (N, 32) uint8, SHA-256 of the content. looks: (N,) uint64, the perceptual hash of
    `looks.look_of`. sizes: (N, 2) int32, width and height in pixels as stored. turned: (N,) bool,
    whether EXIF swaps the two in the image as it is seen. formats: (N,) int8, index into
    `pixels.FORMATS`, by content. modes: (N,) int8, index into `MODES`. skipped: files that cannot
    be used, and why. members: where images in tar files lie; None without any.
    """

    root: Path
    classes: tuple[str, ...]
    paths: Sequence[str]
    labels: npt.NDArray[np.int32]
    splits: npt.NDArray[np.int8]
    hashes: npt.NDArray[np.uint8]
    looks: npt.NDArray[np.uint64]
    sizes: npt.NDArray[np.int32]
    turned: npt.NDArray[np.bool_]
    formats: npt.NDArray[np.int8]
    modes: npt.NDArray[np.int8]
    skipped: tuple[Skipped, ...] = ()
    members: Members | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def seen_sizes(self) -> npt.NDArray[np.int32]:
        """(N, 2) int32, width and height in pixels of the images as they are seen."""
        return np.where(self.turned[:, None], self.sizes[:, ::-1], self.sizes)

    def take(self, rows: npt.NDArray[np.int64]) -> Index:
        """Those rows, in that order."""
        return replace(
            self,
            paths=Texts.of(self.paths[row] for row in rows.tolist()),
            labels=self.labels[rows],
            splits=self.splits[rows],
            hashes=self.hashes[rows],
            looks=self.looks[rows],
            sizes=self.sizes[rows],
            turned=self.turned[rows],
            formats=self.formats[rows],
            modes=self.modes[rows],
            members=None if self.members is None else self.members.take(rows),
        )

    def read(self, row: int) -> bytes:
        """The file as it is now; nothing is checked. Raises: OSError, ValueError."""
        return read_image_file(self.root, self.paths[row], self.members, row)

    def read_unchanged(self, row: int) -> bytes:
        """The file, if it still is what was indexed. Raises: DataError."""
        try:
            data = self.read(row)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise DataError(
                f"{self.where(row)!r} could be read when it was scanned, but not now ({reason}); "
                f"scan the folder again."
            ) from error
        if hashlib.sha256(data).digest() != self.hashes[row].tobytes():
            raise DataError(
                f"{self.where(row)!r} was changed after it was scanned; scan the folder again."
            )
        return data

    def where(self, row: int) -> str:
        """The file's path, for messages."""
        return printable(str(self.root / self.paths[row]))


def read_index(
    folder: str | Path, *, only: Path | None = None, progress: Progress | None = None
) -> Index:
    """List, read, hash and decode every image file of a folder, once.

    only: a clean list (see `read_clean_list`); other files are left out, unread. progress: called
    with (done, all). Memory grows with the number of files by their columns alone.
    Raises: DataError: no folder, splits that cannot be told apart, a folder that is closed, or a
        list that names files that are not there.
    """
    listing = list_images(Path(folder))
    if only is not None:
        listing = listing.only(read_clean_list(only), only)
    return index_of(listing, progress)


class _Facts(NamedTuple):
    """What one readable file is."""

    content: bytes  # SHA-256
    look: int
    width: int
    height: int
    turned: bool
    format: int
    mode: int


def index_of(listing: Listing, progress: Progress | None = None) -> Index:
    """Read every file of a listing; see `read_index`."""
    count = len(listing)
    hashes = np.zeros((count, 32), dtype=np.uint8)
    looks = np.zeros(count, dtype=np.uint64)
    sizes = np.zeros((count, 2), dtype=np.int32)
    turned = np.zeros(count, dtype=bool)
    formats, modes = np.zeros(count, dtype=np.int8), np.zeros(count, dtype=np.int8)
    rows = array("q")  # of `listing`: those that are readable, in the columns above without gaps
    skipped = list(listing.skipped)
    done = 0

    def keep(facts: _Facts | str) -> None:
        nonlocal done
        if isinstance(facts, str):
            skipped.append(listing.skip(done, facts))
        else:
            place = len(rows)
            hashes[place] = np.frombuffer(facts.content, dtype=np.uint8)
            looks[place] = facts.look
            sizes[place] = facts.width, facts.height
            turned[place] = facts.turned
            formats[place], modes[place] = facts.format, facts.mode
            rows.append(done)
        done += 1

    decode_all(partial(_examine, listing), range(count), keep, progress)
    listing = listing.take(np.array(rows, dtype=np.int64))
    order = _order(listing.labels, hashes[: len(rows)], listing.paths)
    listing = listing.take(order)
    hashes = hashes[order]  # one by one: each frees the column it was made from
    looks = looks[order]
    sizes = sizes[order]
    return Index(
        root=listing.root,
        classes=listing.classes,
        paths=listing.paths,
        labels=listing.labels,
        splits=listing.splits,
        hashes=hashes,
        looks=looks,
        sizes=sizes,
        turned=turned[order],
        formats=formats[order],
        modes=modes[order],
        skipped=tuple(skipped),
        members=listing.members,
    )


def _order(
    labels: npt.NDArray[np.int32], hashes: npt.NDArray[np.uint8], paths: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Rows by class, content and, of copies in one class, path."""
    order = sorted_rows(hashes, labels)
    same = like_the_one_before(hashes, order) & (labels[order[1:]] == labels[order[:-1]])
    for start, end in _runs(same):
        order[start:end] = sorted(order[start:end], key=lambda row: paths[row])
    return order


def _runs(same: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(n, 2): start and end of each stretch of rows equal to their neighbours."""
    edges = np.diff(same.astype(np.int8), prepend=0, append=0)
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) + 1], axis=1)


def _examine(listing: Listing, row: int) -> _Facts | str:
    """The facts of one file, or why it cannot be used."""
    try:
        data = listing.read(row)
        if not data:
            return "empty file"
        with open_image(BytesIO(data)) as image:
            width, height = image.size
            format_, mode = _format_of(image), _mode_of(image)
            look = look_of(decode(image, LOOK_SIDE))  # every byte is read at any scale
            turned = is_turned(image)  # behind it, as Pillow keeps what it read of EXIF
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:
        return str(error)
    return _Facts(hashlib.sha256(data).digest(), look, width, height, turned, format_, mode)


def _format_of(image: Image.Image) -> int:
    """Index into FORMATS; JPEG files of several pictures name themselves MPO."""
    return FORMATS.index(image.format) if image.format in FORMATS else FORMATS.index("JPEG")


def _mode_of(image: Image.Image) -> int:
    """Index into MODES, of the file before it is decoded."""
    if image.mode.startswith("I;16"):
        return MODES.index("16-bit")
    if image.has_transparency_data:
        return MODES.index("transparent")
    return MODES.index(_MODE_OF.get(image.mode, "other"))


def clean_line(path: str) -> str:
    """One line of a clean list: the path, with a line break, a backslash or a leading # escaped."""
    line = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"\\{line}" if line.startswith("#") else line


def read_clean_list(file: Path) -> frozenset[str]:
    """The paths of a clean list: one relative path a line, "#" comments, as `doctor --fix` writes.

    Raises: DataError: it cannot be read, or names no file.
    """
    try:
        text = file.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise DataError(
            f"The list {str(file)!r} cannot be read ({error.strerror}); give the file that "
            "`pocketvision doctor FOLDER --fix FILE` wrote."
        ) from error
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    paths = frozenset(_unescape(line) for line in lines if line and not line.startswith("#"))
    if not paths:
        raise DataError(f"The list {str(file)!r} names no file; expected one path a line.")
    return paths


def _unescape(line: str) -> str:
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "r": "\r"}.get(match[1], match[1]), line)
