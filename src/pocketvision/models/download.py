"""Files of weights from the network: into the cache, whole and verified, or not at all."""

from __future__ import annotations

import os
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pocketvision
from pocketvision.data.cache import cache_folder
from pocketvision.errors import ArtefactError
from pocketvision.storage import sha256_bytes, sha256_file

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30.0  # of silence

Progress = Callable[[int, int], None]  # bytes (done, in all; 0 where the server does not say)

# "resnet50-11ad3fa6.pth": what PyTorch's hub and timm append is how the SHA-256 begins.
_HASH = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


def hash_prefix(file_name: str) -> str:
    """How the SHA-256 of the file begins, by its name; empty if the name does not say."""
    found = _HASH.search(file_name)
    return found[1] if found else ""


def check_hash(path: Path, expected: str | None = None) -> None:
    """Raises: ArtefactError: the SHA-256 does not begin as expected, or as the name says."""
    prefix = hash_prefix(path.name) if expected is None else expected
    found = sha256_file(path)
    if not found.startswith(prefix):
        raise ArtefactError(
            f"{path} is damaged, cut off perhaps: its SHA-256 begins with {found[: len(prefix)]}, "
            f"expected {prefix}. Download it again."
        )


def cached_path(url: str) -> Path:
    """Where `fetch` keeps the file: in $POCKETVISION_CACHE/weights, under the name it has there."""
    name = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name or "weights"
    if not hash_prefix(name):  # two addresses may end in "model.pth"
        name = f"{sha256_bytes(url.encode())[:8]}-{name}"
    return cache_folder() / "weights" / name


def fetch(url: str, progress: Progress | None = None) -> Path:
    """The file behind `url`, downloaded now or found in the cache.

    Where its name ends in the beginning of its SHA-256, it is verified. It appears in the cache
    whole: what is cut off, or is something else, leaves nothing behind.

    Raises: ArtefactError: no such file, no network, another content than its name says.
    """
    path = cached_path(url)
    if path.is_file():
        check_hash(path)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            _download(url, file, path, progress)
            file.flush()
            os.fsync(file.fileno())
        _refuse_page(temporary, url)
        check_hash(temporary, hash_prefix(path.name))
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def _refuse_page(path: Path, url: str) -> None:
    """Raises: ArtefactError: a web page; kept, it would be found in the cache for ever."""
    with path.open("rb") as file:
        start = file.read(64)
    if start.lstrip().startswith(b"<"):
        raise ArtefactError(
            f"{url} leads to a web page, not to weights; give the address of the file itself."
        )


def _download(url: str, file: BinaryIO, path: Path, progress: Progress | None) -> None:
    agent = {"User-Agent": f"pocketvision/{pocketvision.__version__}"}
    try:
        request = urllib.request.Request(url, headers=agent)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            total, done = int(response.headers.get("Content-Length") or 0), 0
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the server's answer
        raise _not_downloaded(url, path, error) from error
    except urllib.error.URLError as error:
        raise _not_downloaded(url, path, error.reason) from error
    except (OSError, ValueError) as error:
        raise _not_downloaded(url, path, error) from error
    if done < total:
        raise ArtefactError(
            f"{url} broke off after {done} of {total} bytes; nothing was kept. Try again, or fetch "
            f"it elsewhere and put it at {path}."
        )


def _not_downloaded(url: str, path: Path, reason: object) -> ArtefactError:
    return ArtefactError(
        f"{url} cannot be downloaded ({reason}). Without a network, fetch it elsewhere and put it "
        f"at {path}."
    )
