"""Decode once: every image of a data set at one size, as a memory-mapped file.

$POCKETVISION_CACHE names the folder (else the XDG cache folder); $POCKETVISION_CACHE_LIMIT caps
what all stores take together ("20GB" when unset): those unused the longest are removed first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pocketvision.budget import format_size, parse_size
from pocketvision.data.images import Samples
from pocketvision.data.index import Index
from pocketvision.data.pixels import load_pixels
from pocketvision.data.threads import Progress, decode_all
from pocketvision.errors import ConfigError, DataError

FORMAT_VERSION = 2  # of the stores; another version never reads this one's
DEFAULT_LIMIT = "20GB"
ABANDONED_S = 24 * 3600.0  # a half-built store not written to for this long has no writer

PixelStore = np.memmap[tuple[int, ...], np.dtype[np.uint8]]


def cache_folder() -> Path:
    """Where pocketvision keeps what it can make again; it need not exist yet."""
    if named := os.environ.get("POCKETVISION_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pocketvision"


def store_bytes(n: int, side: int) -> int:
    """Bytes of the store of `n` images."""
    return n * side * side * 3


def is_stored(samples: Samples, side: int) -> bool:
    """True if the store of these images is there already."""
    return _is_whole(_path(samples, side), store_bytes(len(samples), side))


def shortage(n: int, side: int) -> str:
    """Why a store of `n` images would not fit, in half a sentence; empty where it would."""
    needed, limit = store_bytes(n, side), _limit()
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


def pixel_store(samples: Samples, side: int, progress: Progress | None = None) -> PixelStore:
    """All images at `side`, decoded now or found in the cache.

    Returns: (N, side, side, 3) uint8, RGB, read-only; row i is `load_pixels` of image i.
    The key is the content of the files in order, so renamed or moved files find their store.
    progress: called with (done, all) while it is built.
    Raises: DataError: an image that changed since `scan`, or too little room. ConfigError: a limit
        that is no size.
    """
    path = _path(samples, side)
    folder, needed = path.parent, store_bytes(len(samples), side)
    try:
        if not _is_whole(path, needed):
            if reason := shortage(len(samples), side):
                raise DataError(f"{reason[0].upper()}{reason[1:]}; make room, or raise the limit.")
            folder.mkdir(parents=True, exist_ok=True)
            _make_room(path, needed)
            _build(path, samples, side, progress)
        os.utime(path)  # used now: the last to be removed
        return np.memmap(path, dtype=np.uint8, mode="r", shape=(len(samples), side, side, 3))
    except OSError as error:
        raise DataError(
            f"The pixel store in {str(folder)!r} cannot be written ({error.strerror}); make room, "
            f"or let $POCKETVISION_CACHE name another folder."
        ) from error


def decode_row(index: Index, side: int, row: int) -> npt.NDArray[np.uint8]:
    """One image, (side, side, 3) uint8. Raises: DataError: it is not what was indexed."""
    return load_pixels(BytesIO(index.read_unchanged(row)), side)


def _path(samples: Samples, side: int) -> Path:
    key = hashlib.sha256(f"{FORMAT_VERSION} {side}".encode())
    for content in samples.hashes:
        key.update(f" {content}".encode())
    return cache_folder() / "pixels" / f"{key.hexdigest()}.u8"


def _is_whole(path: Path, needed: int) -> bool:
    return path.is_file() and path.stat().st_size == needed


def _build(path: Path, samples: Samples, side: int, progress: Progress | None) -> None:
    """Write under a name of our own, then rename: a second process doing the same does no harm."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            decode_all(
                partial(decode_row, samples.index, side),
                range(len(samples)),
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
