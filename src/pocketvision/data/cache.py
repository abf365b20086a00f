"""Decode once: every image of a data set at one size, as a memory-mapped file.

$POCKETVISION_CACHE names the folder (else the XDG cache folder); $POCKETVISION_CACHE_LIMIT caps
what all stores take together ("20GB" when unset): those unused the longest are removed first.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pocketvision.budget import format_size, parse_size
from pocketvision.data.index import Index
from pocketvision.data.pixels import load_pixels
from pocketvision.data.threads import Progress, decode_all
from pocketvision.errors import ConfigError, DataError

FORMAT_VERSION = 2  # of the stores; another version never reads this one's
DEFAULT_LIMIT = "20GB"
ABANDONED_S = 24 * 3600.0  # a half-built store not written to for this long has no writer

PixelStore = np.memmap[tuple[int, ...], np.dtype[np.uint8]]


class Contents(Protocol):
    """What a store holds: rows of uint8, each decoded from a file. It can be sent to a process."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row."""

    @property
    def key(self) -> str:
        """Hexadecimal; equal for equal rows."""

    def __len__(self) -> int: ...

    def row(self, row: int) -> npt.NDArray[np.uint8]:
        """One row, decoded now. Raises: DataError: its file is not what was indexed."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DecodedImages:
    """All images of an index at one size, (side, side, 3), as `load_pixels` gives them."""

    index: Index
    side: int
    whole: bool = False

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.side, self.side, 3)

    @property
    def key(self) -> str:
        """Of the content of the files in order, so renamed or moved files find their store."""
        key = hashlib.sha256(f"{FORMAT_VERSION} {self.side}{' whole' * self.whole}".encode())
        for content in self.index.hashes:
            key.update(f" {content.tobytes().hex()}".encode())
        return key.hexdigest()

    def row(self, row: int) -> npt.NDArray[np.uint8]:
        return load_pixels(BytesIO(self.index.read_unchanged(row)), self.side, self.whole)


def cache_folder() -> Path:
    """Where pocketvision keeps what it can make again; it need not exist yet."""
    if named := os.environ.get("POCKETVISION_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pocketvision"


def store_bytes(n: int, side: int) -> int:
    """Bytes of the store of `n` images."""
    return n * side * side * 3


def is_stored(contents: Contents) -> bool:
    """True if the store of these is there already."""
    return _is_whole(_path(contents), _bytes(contents))


def shortage(needed: int) -> str:
    """Why a store of so many bytes would not fit, in half a sentence; empty where it would."""
    limit = _limit()
    if needed > limit:
        return (
            f"the decoded images need {format_size(needed)}, but the cache may take "
            f"{format_size(limit)} ($POCKETVISION_CACHE_LIMIT)"
        )
    folder = cache_folder() / "pixels"
    removable = sum(_facts(store)[1] for store in folder.glob("*.u8"))
    room = shutil.disk_usage(_nearest(folder)).free + removable
    if needed > room:
        return (
            f"the decoded images need {format_size(needed)}, but the disk of {str(folder)!r} has "
            f"{format_size(room)} free ($POCKETVISION_CACHE names another)"
        )
    return ""


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return folder if folder.exists() else _nearest(folder.parent)


def pixel_store(contents: Contents, progress: Progress | None = None) -> PixelStore:
    """All rows, decoded now or found in the cache.

    Returns: (N, *shape) uint8, read-only; row i is `contents.row(i)`.
    progress: called with (done, all) while it is built.
    Raises: DataError: an image that changed since `scan`, or too little room. ConfigError: a limit
        that is no size.
    """
    path = _path(contents)
    folder, needed = path.parent, _bytes(contents)
    try:
        if not _is_whole(path, needed):
            if reason := shortage(needed):
                raise DataError(f"{reason[0].upper()}{reason[1:]}; make room, or raise the limit.")
            folder.mkdir(parents=True, exist_ok=True)
            _make_room(path, needed)
            _build(path, contents, progress)
        os.utime(path)  # used now: the last to be removed
        shape = (len(contents), *contents.shape)
        return np.memmap(path, dtype=np.uint8, mode="r", shape=shape)
    except OSError as error:
        raise DataError(
            f"The pixel store in {str(folder)!r} cannot be written ({error.strerror}); make room, "
            f"or let $POCKETVISION_CACHE name another folder."
        ) from error


def _path(contents: Contents) -> Path:
    return cache_folder() / "pixels" / f"{contents.key}.u8"


def _bytes(contents: Contents) -> int:
    return len(contents) * math.prod(contents.shape)


def _is_whole(path: Path, needed: int) -> bool:
    return path.is_file() and path.stat().st_size == needed


def _build(path: Path, contents: Contents, progress: Progress | None) -> None:
    """Write under a name of our own, then rename: a second process doing the same does no harm."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            decode_all(
                contents.row,
                range(len(contents)),
                lambda pixels: file.write(pixels.tobytes()),
                progress,
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _make_room(path: Path, needed: int) -> None:
    """Remove abandoned and, as far as room demands, the longest unused stores, never `path`."""
    folder, limit = path.parent, _limit()
    for half in folder.glob(".*.tmp"):
        if time.time() - _facts(half)[0] > ABANDONED_S:
            _remove(half)
    stores = sorted((*_facts(store), store) for store in folder.glob("*.u8") if store != path)
    taken = sum(size for _, size, _ in stores)
    for _, size, store in stores:
        if taken + needed <= limit and needed <= shutil.disk_usage(folder).free:
            break
        _remove(store)
        taken -= size


def _limit() -> int:
    try:
        return parse_size(os.environ.get("POCKETVISION_CACHE_LIMIT") or DEFAULT_LIMIT)
    except ConfigError as error:
        raise ConfigError(f"$POCKETVISION_CACHE_LIMIT: {error}") from error


def _facts(path: Path) -> tuple[float, int]:
    """When it was last used, and its size; a file another process just removed is new and empty."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return time.time(), 0
    return facts.st_mtime, facts.st_size


def _remove(path: Path) -> None:
    with contextlib.suppress(PermissionError):  # mapped by another process, on Windows
        path.unlink(missing_ok=True)
