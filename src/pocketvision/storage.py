"""How values become files and come back: JSON of frozen dataclasses, atomic writes, hashes.

Reading is strict: unknown keys, missing keys and wrong types are errors that say where.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any, Literal, TypeVar

import pydantic

from pocketvision.errors import ArtefactError

T = TypeVar("T")

PART = ".part"  # the end of the names of files that are being written

_adapters: dict[object, pydantic.TypeAdapter[Any]] = {}  # building one takes milliseconds


def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    if kind not in _adapters:
        _adapters[kind] = pydantic.TypeAdapter(kind)
    return _adapters[kind]


def to_json(value: object, *, indent: int | None = 2) -> str:
    """A (nested) dataclass as JSON text with a final newline; equal values give equal text."""
    return _adapter(type(value)).dump_json(value, indent=indent).decode() + "\n"


def from_json(
    kind: type[T],
    text: str | bytes,
    *,
    source: str,
    extra: Literal["forbid", "ignore"] = "forbid",
) -> T:
    """The inverse of `to_json`; `source` names the file in messages, `extra` what to do with keys
    that `kind` does not have.

    Raises: ArtefactError: text that is no JSON, or does not describe a `kind`.
    """
    try:
        value: T = _adapter(kind).validate_json(text, extra=extra)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole text"
        raise ArtefactError(
            f"{source} is not a valid {kind.__name__}: {where}: {first['msg']}."
        ) from error
    return value


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that it is either there whole or not at all; an existing one is replaced.

    Its folder is made if it is not there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_into(path, content)


def write_into(path: Path, content: str | bytes) -> None:
    """As `write_atomic`, in a folder that must be there: one that vanished is not made anew."""
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        # What stopped the writing is what is raised, even where the rest cannot be removed.
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def remove_parts(folder: Path) -> None:
    """Remove what killed processes had half written anywhere in `folder`; none may write now."""
    for part in folder.rglob(f".*{PART}"):
        part.unlink(missing_ok=True)


def sha256_bytes(data: bytes) -> str:
    """Hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
