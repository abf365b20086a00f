"""Images in tar files: where each one lies and what it shows; nothing is ever extracted.

A shard holds `key.jpg` with `key.cls` (a class name, or an index into classes.txt) or `key.json`
(its "label") right before or after it, as webdataset writes them, or `class/key.jpg`. `classes.txt`
beside the shards, or in the root, names the classes, one a line.
"""

from __future__ import annotations

import json
import re
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pocketvision.budget import format_size
from pocketvision.errors import DataError

SUFFIX = ".tar"
COMPRESSED = (".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4")
CLASSES = "classes.txt"
MAX_LABEL_BYTES = 1 << 20  # of a .cls or .json member
MAX_CLASSES_BYTES = 1 << 24  # of classes.txt
MAX_IMAGE_BYTES = 1_000_000_000  # more than the largest image that is decoded has uncompressed
READ_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Members:
    """Which rows lie in a tar file, and where: one column per fact.

    shards: the tar files, relative POSIX paths. shard: (N,) int32 index into them, -1 for a file of
    its own. offsets, lengths: (N,) int64, bytes of the image in the tar file.
    """

    shards: tuple[str, ...]
    shard: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    def take(self, rows: npt.NDArray[np.int64]) -> Members:
        """Those rows, in that order."""
        return Members(
            shards=self.shards,
            shard=self.shard[rows],
            offsets=self.offsets[rows],
            lengths=self.lengths[rows],
        )

    def read(self, root: Path, row: int) -> bytes:
        """The bytes of one member. Raises: OSError. ValueError: the tar file ends before it."""
        length = int(self.lengths[row])
        with (root / self.shards[self.shard[row]]).open("rb") as file:
            file.seek(int(self.offsets[row]))
            data: bytes = file.read(length)
        if len(data) < length:
            raise ValueError("the tar file ends before this member does")
        return data


class Member(NamedTuple):
    """One image in a shard, or why it cannot be used."""

    name: str
    label: str
    offset: int
    length: int
    reason: str = ""  # empty: it can be used


def shards_in(folder: Path) -> list[Path]:
    """The tar files directly in a folder, sorted. Raises: DataError: one that is compressed."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    for name in names:
        if name.lower().endswith(COMPRESSED):
            raise _compressed(folder / name)
    return [folder / name for name in names if name.lower().endswith(SUFFIX)]


def read_classes(*folders: Path) -> dict[str, str] | None:
    """What a label may be, to its class: names and indices of the first classes.txt in `folders`.

    A class whose name is a number goes before the index. None where there is no classes.txt.
    Raises: DataError: it is empty, far too large, no text, names a class twice, or has a line
        without a name before others, whose numbers it would shift.
    """
    path = next((folder / CLASSES for folder in folders if (folder / CLASSES).is_file()), None)
    if path is None:
        return None
    if (size := path.stat().st_size) > MAX_CLASSES_BYTES:
        raise DataError(
            f"{str(path)!r} has {format_size(size)}; expected the name of each class once, one a "
            f"line, in {format_size(MAX_CLASSES_BYTES)} at most."
        )
    try:
        lines = path.read_text(encoding="utf-8").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{str(path)!r} is no UTF-8 text; write it anew.") from error
    names = [line.strip() for line in lines]
    if "" in names:
        raise DataError(
            f"{str(path)!r} has no name in line {names.index('') + 1}, and what follows is "
            "numbered by its line, from 0 for the first; remove the empty line, or name the class."
        )
    if not names or len(set(names)) < len(names):
        raise DataError(
            f"{str(path)!r} has {len(names)} names, {len(set(names))} of them different; expected "
            "the name of each class once, one a line."
        )
    return {str(number): name for number, name in enumerate(names)} | {n: n for n in names}


def images_in(
    shard: Path, suffixes: tuple[str, ...], classes: dict[str, str] | None
) -> Iterator[Member]:
    """Every image of a shard with its label; memory does not grow with their number.

    suffixes: of image files. classes: as `read_classes` gives them; None: any label is a class. A
    shard that is damaged or cut off ends with an entry without a name that says so; what is no
    regular file has that entry alone.
    Raises: DataError: it is compressed. OSError: it cannot be read.
    """
    if not stat.S_ISREG(shard.stat().st_mode):  # a pipe would wait for a writer for ever
        yield Member("", "", 0, 0, "not a regular file")
        return
    whole = 0
    try:
        with tarfile.open(shard, "r:") as tar:
            for key, members in _by_key(tar, shard.stat().st_size):
                for image in _images_of(tar, key, members, suffixes, classes):
                    whole += not image.reason
                    yield image
    except (tarfile.TarError, ValueError, EOFError) as error:
        if _is_compressed(shard):
            raise _compressed(shard) from error
        yield Member("", "", 0, 0, f"damaged or cut off after {whole} images ({error})")


def _by_key(tar: tarfile.TarFile, size: int) -> Iterator[tuple[str, list[tarfile.TarInfo]]]:
    """Files that follow one another under one key: the name up to the first dot of its last part.

    Raises: ReadError: the tar file, of `size` bytes, ends within a member or without its mark, has
    a header that is none, or goes on behind its mark.
    """
    key, members = "", list[tarfile.TarInfo]()
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # it would remember them all
        if member.offset_data + member.size > size:
            raise tarfile.ReadError(f"it ends within {member.name!r}")
        folder, _, name = member.name.rpartition("/")
        if member.isdir() or name.startswith("."):
            continue
        own = f"{folder}/{name.partition('.')[0]}"
        if own != key and members:
            yield key, members
            members = []
        key = own
        members.append(member)
    if tar.offset + tarfile.BLOCKSIZE > size:
        raise tarfile.ReadError("it has no end mark")  # and the last image perhaps no label
    behind = _first_byte_from(tar)
    # To `next`, a header that is damaged is an end like any other.
    if behind < tar.offset + tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"the header at byte {tar.offset} is damaged")
    if members:
        yield key, members
    if behind < size:
        raise tarfile.ReadError("it goes on behind its end mark, as tar files put together do")


def _first_byte_from(tar: tarfile.TarFile) -> int:
    """Where the first byte lies, from the end that was read on, that is not zero; or the end."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    place = tar.offset
    while data := tar.fileobj.read(READ_BYTES):
        if rest := data.lstrip(b"\0"):
            return place + len(data) - len(rest)
        place += len(data)
    return place


def _images_of(
    tar: tarfile.TarFile,
    key: str,
    members: list[tarfile.TarInfo],
    suffixes: tuple[str, ...],
    classes: dict[str, str] | None,
) -> Iterator[Member]:
    """The images among the files of one key."""
    label, reason = _label(tar, key, members, classes)
    for member in members:
        if not member.name.lower().endswith(suffixes):
            continue
        yield Member(
            member.name, label, member.offset_data, member.size, _of_no_use(member) or reason
        )


def _of_no_use(member: tarfile.TarInfo) -> str:
    """Why an image cannot be read from its place; empty where it can."""
    if not member.isreg() or member.issparse():
        return "a link or a sparse file, whose content is not in one piece"
    return too_large(member.size)


def too_large(size: int) -> str:
    """Why an image file of so many bytes is not read; empty where it is."""
    if size <= MAX_IMAGE_BYTES:
        return ""
    return f"too large: {format_size(size)}; an image file may have {format_size(MAX_IMAGE_BYTES)}"


def _label(
    tar: tarfile.TarFile,
    key: str,
    members: list[tarfile.TarInfo],
    classes: dict[str, str] | None,
) -> tuple[str, str]:
    """The class of the images of one key, or why there is none."""
    written = next((m for m in members if m.name.lower().endswith((".cls", ".json"))), None)
    if written is None:
        folders = [part for part in key.split("/")[:-1] if part not in ("", ".", "..")]
        if not folders:
            return "", "no label: expected a .cls or .json beside it in the tar, or a class folder"
        label = folders[0]
    else:
        try:
            label = _written_label(tar, written)
        except ValueError as error:
            return "", f"label {written.name!r}: {error}"
    if classes is None:
        return label, ""
    if label not in classes:
        return "", f"unknown label {label!r}; {CLASSES} has neither that name nor that index"
    return classes[label], ""


def _written_label(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    """The text of a .cls member, or "label" of a .json one. Raises: ValueError."""
    file = tar.extractfile(member) if member.isreg() and member.size <= MAX_LABEL_BYTES else None
    if file is None:
        raise ValueError(f"not a file of up to {MAX_LABEL_BYTES} bytes")
    text = file.read().decode()
    if member.name.lower().endswith(".json"):
        try:
            value = json.loads(text)
        except RecursionError:
            raise ValueError("nested too deeply to be read") from None
        value = value.get("label") if isinstance(value, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError('no "label" that is a text or a whole number')
        text = str(value)
    if not text.strip():
        raise ValueError("it is empty")
    return text.strip()


def split_in_name(shard: Path, names: tuple[str, ...]) -> str | None:
    """The one of `names` that a shard's name holds as a word: "imagenet-train-0001.tar"."""
    found = re.search(rf"(?:^|[-_.])({'|'.join(names)})(?=[-_.\d])", shard.name.lower())
    return found[1] if found else None


def _is_compressed(shard: Path) -> bool:
    with shard.open("rb") as file:
        return file.read(8).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))


def _compressed(shard: Path) -> DataError:
    return DataError(
        f"{str(shard)!r} is compressed, so no image in it can be read on its own; unpack it to a "
        "plain .tar (images are compressed already)."
    )
