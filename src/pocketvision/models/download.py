"""Files of weights from the network: into the cache, whole and verified, or not at all."""

from __future__ import annotations

import http.client
import os
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pocketvision
from pocketvision.data.cache import cache_folder
from pocketvision.errors import ArtefactError
from pocketvision.models.checkpoint import read_checkpoint
from pocketvision.models.pretrained import by_file
from pocketvision.storage import sha256_bytes, sha256_file

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30.0  # of silence

Progress = Callable[[int, int], None]  # bytes (done, in all; 0 where the server does not say)

# "resnet50-11ad3fa6.pth": what PyTorch's hub and timm append is how the SHA-256 begins.
_HASH = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


def hash_prefix(file_name: str) -> str:
    """How the SHA-256 of the file begins, by its name; empty if the name does not say.

    Digits alone are taken for a date ("m-20240115.pth"), except in the name of a published file.
    """
    found = _HASH.search(file_name)
    if found is None or (found[1].isdecimal() and by_file(file_name) is None):
        return ""
    return found[1]


def check_hash(path: Path) -> None:
    """Raises: ArtefactError: the SHA-256 does not begin as the file's name says."""
    prefix = hash_prefix(path.name)
    found = sha256_file(path)
    if not found.startswith(prefix):
        raise ArtefactError(
            f"{path} is damaged, cut off perhaps: its SHA-256 begins with {found[: len(prefix)]}, "
            f"expected {prefix}. Download it again."
        )


def cached_path(url: str) -> Path:
    """Where `fetch` keeps the file: in $POCKETVISION_CACHE/weights, under the name it has there.

    Raises: ArtefactError: `url` is no address.
    """
    try:
        name = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name or "weights"
        if "\0" in name:
            raise ValueError("null byte")
    except ValueError as error:
        raise ArtefactError(
            f"{url} is not an address ({error}); expected one such as "
            "https://example.org/folder/weights.pth."
        ) from error
    if not hash_prefix(name):  # two addresses may end in "model.pth"
        name = f"{sha256_bytes(url.encode())[:8]}-{name}"
    return cache_folder() / "weights" / name


def fetch(url: str, progress: Progress | None = None) -> Path:
    """The file behind `url`, downloaded now or found in the cache.

    It is verified, in the cache too: by its SHA-256 where the name ends in the beginning of it,
    else by reading its tensors. It appears in the cache whole: what is cut off, or is something
    else, leaves nothing behind; what was damaged there is fetched again.

    Raises: ArtefactError: no address, no such file, no network, other content than the name says,
        no weights, a cache that cannot be written.
    """
    path = cached_path(url)
    try:
        if path.is_file():
            if not _fault(path):
                return path
            path.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"
        ) as folder:
            whole = Path(folder) / path.name
            _download(url, whole, path, progress)
            if fault := _fault(whole):
                raise ArtefactError(f"{url} was downloaded but not kept: {fault}")
            os.replace(whole, path)
    except OSError as error:
        raise ArtefactError(
            f"The cache {str(path.parent)!r} cannot be written ({error.strerror}); make room, or "
            "let $POCKETVISION_CACHE name another folder."
        ) from error
    return path


def _fault(path: Path) -> str:
    """What is wrong with a file of weights, in words; empty: nothing."""
    try:
        if hash_prefix(path.name):
            check_hash(path)
        else:
            read_checkpoint(path)
    except ArtefactError as error:
        return str(error).replace(f"{path.parent}{os.sep}", "")  # a place that is about to go
    return ""


def _download(url: str, target: Path, path: Path, progress: Progress | None) -> None:
    """Write what `url` answers to `target`; `path` is where a person may put it instead."""
    done = 0
    with target.open("wb") as file:
        for chunk, total in _chunks(url, path):
            if not done and chunk.lstrip().startswith(b"<"):
                raise ArtefactError(
                    f"{url} leads to a web page, not to weights; give the address of the file "
                    "itself."
                )
            file.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, total)
        file.flush()
        os.fsync(file.fileno())


def _chunks(url: str, path: Path) -> Iterator[tuple[bytes, int]]:
    """What `url` answers, piece by piece, each with the bytes in all (0: the server does not say).

    Raises: ArtefactError: no answer, or one that breaks off.
    """
    agent = {"User-Agent": f"pocketvision/{pocketvision.__version__}"}
    total = done = 0
    try:
        request = urllib.request.Request(url, headers=agent)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            total = int(response.headers.get("Content-Length") or 0)
            while chunk := response.read(CHUNK_BYTES):
                yield chunk, total
                done += len(chunk)
    except http.client.IncompleteRead as error:
        raise _broken_off(url, path, done + len(error.partial), total) from error
    except urllib.error.HTTPError as error:
        error.close()  # it holds the server's answer
        raise _not_downloaded(url, path, error) from error
    except urllib.error.URLError as error:
        raise _not_downloaded(url, path, error.reason) from error
    except http.client.HTTPException as error:  # whose text alone may be a single character
        raise _not_downloaded(url, path, f"{type(error).__name__}: {error}") from error
    except (OSError, ValueError) as error:
        raise _not_downloaded(url, path, error) from error
    if done < total:
        raise _broken_off(url, path, done, total)


def _broken_off(url: str, path: Path, done: int, total: int) -> ArtefactError:
    return ArtefactError(
        f"{url} broke off after {done}{f' of {total}' if total else ''} bytes; nothing was kept. "
        f"Try again, or fetch it elsewhere and put it at {path}."
    )


def _not_downloaded(url: str, path: Path, reason: object) -> ArtefactError:
    return ArtefactError(
        f"{url} cannot be downloaded ({reason}). Without a network, fetch it elsewhere and put it "
        f"at {path}."
    )
