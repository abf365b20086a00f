"""The output folder: writable before the work begins, and never there without its run.json."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pocketvision.budget import format_size
from pocketvision.errors import ArtefactError, ConfigError, StorageError, is_text
from pocketvision.storage import from_json, write_atomic, write_into

HOLDS = {
    "done": "a finished run",
    "failed": "a run that failed its gate or budget",
    "unfinished": "an unfinished run with other options",
}

State = TypeVar("State")

NOTHING_LEFT_BYTES = 1_000_000
PREPARED = "shrinking"  # what may come before a run: the work that makes its network smaller


def check_writable(out: Path) -> None:
    """Raises: ConfigError: `out` could not be made when everything is measured, or recorded."""
    is_text("out", str(out))
    parent = out.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ConfigError(
            f"The output folder {out} cannot be made: {parent} is not a folder that can be written."
        )


@contextlib.contextmanager
def storage_told(out: Path) -> Iterator[None]:
    """Errors of disks and folders become a sentence that says what to do.

    Raises: StorageError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(_what_to_do(error, out)) from error
    except RuntimeError as error:  # libraries in C++ do not say that a disk is full
        if free_bytes(out) > NOTHING_LEFT_BYTES:
            raise
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out))
        raise StorageError(_what_to_do(full, out)) from error


def _what_to_do(error: OSError, out: Path) -> str:
    place = error.filename or out
    again = "run the same command again" + (": it goes on from here." if out.exists() else ".")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk of {place} is full; make room and {again}"
    return f"{error.strerror or error}: {place}. When that is put right, {again}"


def check_room(out: Path, needed: int) -> None:
    """Raises: StorageError: the disk has less than `needed` bytes for `out`."""
    free = free_bytes(out)
    if free < needed:
        raise StorageError(
            f"The output folder {out} can come to take {format_size(needed)}, and its disk has "
            f"{format_size(free)} free; make room, or give an --out on another disk."
        )


def free_bytes(out: Path) -> int:
    """What the disk has left on which `out` lies or would be made."""
    place = out.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def taken(out: Path, status: str | None) -> ConfigError:
    """The error for an output folder that is in use; status: of the run in it, if there is one."""
    holds = HOLDS[status] if status else "something else"
    return ConfigError(
        f"The output folder {out} exists and holds {holds}; nothing was changed. Give another "
        "--out, or remove the folder."
    )


def read_unfinished(kind: type[State], path: Path, out: Path) -> State:
    """The state of unfinished work at `path` in `out`, which exists.

    Raises: ConfigError: `out` holds something else.
    """
    try:
        return from_json(kind, path.read_bytes(), source=str(path))
    except (OSError, ArtefactError):
        raise taken(out, None) from None


def is_free(out: Path) -> bool:
    """Whether a run may begin in `out`: it is not there, or only prepared."""
    return not out.exists() or (
        out.is_dir() and [path.name for path in out.iterdir()] == [PREPARED]
    )


def make_folder(out: Path, name: str, content: str) -> None:
    """Make `out` with one file inside, both at once, so that a run in it can always be resumed.

    What a killed run left of it is removed: the caller holds the lock. Where `out` is prepared, the
    file is put beside what is there.
    """
    if out.exists():
        write_into(out / name, content)
        return
    building = out.with_name(f".{out.name}.new")
    shutil.rmtree(building, ignore_errors=True)
    write_atomic(building / name, content)
    building.rename(out)
