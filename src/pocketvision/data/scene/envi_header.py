"""The text header (.hdr) of an ENVI file: what the plain numbers beside it are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pocketvision.data.scene.facts import Shape, sizes
from pocketvision.errors import DataError

Interleave = Literal["bsq", "bil", "bip"]

INTERLEAVES: tuple[Interleave, ...] = ("bsq", "bil", "bip")
MAX_HEADER_BYTES = 4_000_000
DATA_SUFFIXES = ("", ".img", ".dat", ".raw", ".bin", ".bsq", ".bil", ".bip")

DATA_TYPES = {  # ENVI's "data type"
    1: "u1",
    2: "i2",
    3: "i4",
    4: "f4",
    5: "f8",
    12: "u2",
    13: "u4",
    14: "i8",
    15: "u8",
}
COMPLEX_TYPES = (6, 9)


@dataclass(frozen=True, kw_only=True, slots=True)
class EnviHeader:
    """What a header says of the numbers; `fields` holds all of it as text."""

    path: Path  # of the header
    data: Path
    shape: Shape
    dtype: np.dtype[Any]
    interleave: Interleave
    offset: int
    compressed: bool
    fields: dict[str, str]

    @property
    def data_bytes(self) -> int:
        """Length of the file of numbers, uncompressed."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize

    def texts(self, key: str) -> list[str]:
        """The parts of a list; empty where the key is missing."""
        text = self.fields.get(key, "")
        return [part.strip() for part in text.split(",")] if text else []

    def numbers(self, key: str) -> list[float]:
        """The same as numbers.

        Raises: DataError: a part that is none.
        """
        try:
            return [float(value) for value in self.texts(key)]
        except ValueError as error:
            raise DataError(
                f"{str(self.path)!r}: {key!r} must be numbers ({error}); correct or remove it."
            ) from error


def read_header(path: Path) -> EnviHeader:
    """A header, checked against the size of the file it describes.

    Raises: DataError: no ENVI header, a key that is missing or has an unknown value, complex
        numbers, no file of numbers, or one of another size.
    """
    fields = _parse(path)
    number = _whole(path, fields, "data type", low=1)
    if number in COMPLEX_TYPES:
        raise DataError(
            f"{str(path)!r}: data type = {number} are complex numbers; expected one of "
            f"{sorted(DATA_TYPES)}."
        )
    if number not in DATA_TYPES:
        raise DataError(
            f"{str(path)!r}: data type = {number} is unknown; expected one of {sorted(DATA_TYPES)}."
        )
    order = _whole(path, {"byte order": "0"} | fields, "byte order", low=0)
    if order > 1:
        raise DataError(f"{str(path)!r}: byte order = {order} is unknown; expected 0 or 1.")
    header = EnviHeader(
        path=path,
        data=_data_file(path),
        shape=(
            _whole(path, fields, "lines", low=1),
            _whole(path, fields, "samples", low=1),
            _whole(path, fields, "bands", low=1),
        ),
        dtype=np.dtype("<>"[order] + DATA_TYPES[number]),
        interleave=_interleave(path, fields),
        offset=_whole(path, {"header offset": "0"} | fields, "header offset", low=0),
        compressed=fields.get("file compression", "0") == "1",
        fields=fields,
    )
    if not header.compressed:
        check_size(header, header.data.stat().st_size)
    return header


def is_header(path: Path) -> bool:
    """True for a file that begins like an ENVI header; others are called .hdr as well."""
    with path.open("rb") as file:
        return file.read(7).removeprefix(b"\xef\xbb\xbf").startswith(b"ENVI")


def header_of(data: Path) -> Path | None:
    """The header beside a file of numbers, if there is one: cube.img.hdr or cube.hdr."""
    names = [data.name + suffix for suffix in (".hdr", ".HDR")]
    names += [data.with_suffix(suffix).name for suffix in (".hdr", ".HDR")]
    return next((data.parent / name for name in names if (data.parent / name).is_file()), None)


def _parse(path: Path) -> dict[str, str]:
    """Keys in lower case and values as text, without the braces of lists.

    Raises: DataError: a file that is too large, is no ENVI header, or has an open brace.
    """
    size = path.stat().st_size
    if size > MAX_HEADER_BYTES:
        raise DataError(
            f"{str(path)!r} has {size:,} bytes; an ENVI header has at most {MAX_HEADER_BYTES:,}."
        )
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # as older programs write µ and °; it never fails
    if not text.startswith("ENVI") or "\0" in text:
        raise DataError(f"{str(path)!r} is no ENVI header: it must be text that begins with ENVI.")
    return dict(_entries(path, iter(text.splitlines()[1:])))


def _entries(path: Path, lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        key, equals, value = line.partition("=")
        if not equals or key.lstrip().startswith(";"):
            continue
        parts = [value.strip()]
        if parts[0].startswith("{"):
            while "}" not in parts[-1]:
                following = next(lines, None)
                if following is None:
                    raise DataError(
                        f"{str(path)!r}: the list of {key.strip()!r} has no closing }}."
                    )
                parts.append(following)
            parts = ["\n".join(parts)[1:].rpartition("}")[0]]
        yield " ".join(key.lower().split()), parts[0].strip()


def _field(path: Path, fields: dict[str, str], key: str) -> str:
    if key not in fields:
        raise DataError(f"{str(path)!r} has no {key!r}; add the line: {key} = ...")
    return fields[key]


def _whole(path: Path, fields: dict[str, str], key: str, low: int) -> int:
    text = _field(path, fields, key)
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) >= low):
        raise DataError(f"{str(path)!r}: {key} = {text!r}; expected a whole number from {low} up.")
    return int(text)


def _interleave(path: Path, fields: dict[str, str]) -> Interleave:
    text = _field(path, fields, "interleave").lower()
    for interleave in INTERLEAVES:
        if text == interleave:
            return interleave
    raise DataError(f"{str(path)!r}: interleave = {text!r} is unknown; expected bsq, bil or bip.")


def _data_file(path: Path) -> Path:
    """The file of numbers beside a header."""
    stem = path.with_suffix("")
    names = [stem.name + suffix for ending in DATA_SUFFIXES for suffix in (ending, ending.upper())]
    for name in names:
        if (path.parent / name).is_file():
            return path.parent / name
    raise DataError(
        f"{str(path)!r} has no file of numbers beside it; expected {stem.name!r}, without an "
        f"ending or with one of {' '.join(DATA_SUFFIXES[1:])}."
    )


def check_size(header: EnviHeader, size: int) -> None:
    """Raises: DataError: unless `size` bytes are what the header promises."""
    if size != header.data_bytes:
        raise DataError(
            f"{str(header.data)!r} has {size:,} bytes, but its header says {header.data_bytes:,} "
            f"(lines x samples x bands = {sizes(header.shape)}, {header.dtype.itemsize} bytes "
            f"each, header offset {header.offset}); correct {header.path.name}."
        )
