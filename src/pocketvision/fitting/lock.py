"""One process at a time works on an output folder; the next is told which one does.

The lock is the kernel's, on a file beside the folder, so a killed process never leaves one behind:
its file is taken over, and removed by whoever ends in peace.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import types
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from pocketvision.errors import ConfigError
from pocketvision.fitting.folder import check_writable, storage_told

try:
    import fcntl as _fcntl
except ImportError:  # Windows
    fcntl: types.ModuleType | None = None
else:
    fcntl = _fcntl

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


@contextlib.contextmanager
def working_in(out: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Have `out` alone during the block, and tell what goes wrong with its disk as a sentence.

    Raises: ConfigError: it cannot be written, or another process has it. StorageError: in place of
    an OSError.
    """
    with storage_told(out):
        check_writable(out)
        with locked(out, say):
            yield


@contextlib.contextmanager
def locked(out: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes from `out` during the block, whether it is there yet or not.

    Folders above it are made, and removed again if nothing came into them. Where the system has no
    such locks that is said, and the block runs without.

    Raises: ConfigError: another process has it. OSError: its place cannot be written.
    """
    folder = out.absolute().resolve()
    made = _make_parents(folder)
    path = folder.parent / f".{folder.name}.lock"
    handle = _acquire(path, out)
    if handle is None:
        say(f"This system cannot lock {out}: take care that nothing else fits into it meanwhile.")
    try:
        yield
    finally:
        try:
            path.unlink(missing_ok=True)
            for parent in made:
                with contextlib.suppress(OSError):  # not empty: the run is in it
                    parent.rmdir()
        finally:
            if handle is not None:
                os.close(handle)


def _make_parents(folder: Path) -> list[Path]:
    """Make the folders above `folder`; those that were not there, the deepest first."""
    made = [parent for parent in folder.parents if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    return made


def _acquire(path: Path, out: Path) -> int | None:
    """The open, locked file; None where the system has no locks.

    Raises: ConfigError: another process has it.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if not _lock(handle):
                raise ConfigError(_in_use(path, out))
            if _is_still_there(handle, path):
                _sign(handle)
                return handle
        except OSError as error:
            os.close(handle)
            if error.errno in _NO_LOCKS:
                return None
            raise
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its holder ended and removed it in between


def _lock(handle: int) -> bool:
    """Lock the file; False if another process has. Raises: OSError: there are no locks."""
    if fcntl is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still_there(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(handle), there)


def _sign(handle: int) -> None:
    now = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    os.ftruncate(handle, 0)
    os.write(handle, f"process {os.getpid()} on {socket.gethostname()} since {now}\n".encode())


def _in_use(path: Path, out: Path) -> str:
    try:
        holder = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        holder = ""
    return (
        f"Another run works on the output folder {out}: {holder or 'a process just started'}. Wait "
        "for it, stop it, or give another --out."
    )
