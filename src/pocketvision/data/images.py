"""Class folders to `Samples`: which images there are, their classes, their splits."""

from __future__ import annotations

import stat
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from pocketvision.data.folders import SPLITS, Found, check_classes, find_images
from pocketvision.data.pixels import decode, open_image
from pocketvision.data.splits import split_by_content
from pocketvision.data.threads import Progress, decode_all
from pocketvision.errors import DataError
from pocketvision.record import DataSummary, SplitSummary
from pocketvision.storage import sha256_bytes

SHARE_SET_ASIDE = 0.15  # of each class, for a split the folder does not have
LEAST_FOR_TEST = 30  # images a class needs before a test split is set aside
SHOWN = 10  # unreadable files named in a message

Origin = Literal["given", "set aside"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Samples:
    """The labelled images of one folder, ordered by class, then content: file names do not matter.

    paths: relative to root, POSIX form. labels: (N,) int64, index into `classes`. splits: "train",
    "val" or "test" for each image. hashes: SHA-256 of each file. shorter_sides: (N,) int32, pixels.
    split_origins: "given" by the folder or "set aside" here. skipped: "path: reason" of each
    unreadable file. fingerprint: SHA-256 of classes, splits and contents, not of names.
    """

    root: Path
    paths: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    hashes: tuple[str, ...]
    shorter_sides: npt.NDArray[np.int32]
    split_origins: dict[str, Origin]
    skipped: tuple[str, ...] = ()
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", _fingerprint(self))

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def headline_split(self) -> Literal["test", "val"]:
        """The split of the headline figure; "val" (used for selection too) without a test split."""
        return "test" if "test" in self.split_origins else "val"

    def indices(self, split: str) -> npt.NDArray[np.int64]:
        """Rows of one split, ascending: (n,) int64; empty for a split that is not there."""
        return np.flatnonzero(np.array(self.splits) == split).astype(np.int64)

    def summary(self) -> DataSummary:
        """Counts and origins for the record."""
        counts = Counter(zip(self.splits, self.labels.tolist(), strict=True))
        splits = tuple(
            SplitSummary(
                name=name,
                origin=self.split_origins[name],
                counts=tuple(counts[name, label] for label in range(len(self.classes))),
            )
            for name in SPLITS
            if name in self.split_origins
        )
        return DataSummary(
            fingerprint=self.fingerprint,
            classes=self.classes,
            splits=splits,
            headline_split=self.headline_split,
            skipped=self.skipped,
        )


class _Checked(NamedTuple):
    """A readable image file."""

    split: str
    label: str
    content: str  # SHA-256
    path: str
    shorter_side: int


def scan(
    folder: str | Path,
    *,
    seed: int = 0,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Samples:
    """Find, decode once and split the images of a folder.

    The folder holds class folders, or train/ (val/, test/) with class folders; `valid` and
    `validation` mean val. Images are .jpg .jpeg .png .webp .bmp, also in subfolders of a class;
    other and hidden files are ignored, and so are images outside class folders.

    A missing val is set aside from train by content (15 % of each class, at least one image); so is
    a missing test, unless a class has under 30 images: then the headline split is val. Copies of
    one image are never parted by this; those that the folder has in two splits stay there.
    skip_bad: leave unreadable files out, into `Samples.skipped`. progress: called with (done, all).
    Raises: DataError: a folder without this layout, or with unreadable files.
    """
    root = Path(folder)
    found, classes = find_images(root)
    check_classes(root, ((file.split, file.label) for file in found), classes)
    checked, skipped = _check_files(root, found, progress)
    if skipped and not skip_bad:
        raise DataError(_unreadable_message(skipped, len(found)))
    check_classes(root, ((file.split, file.label) for file in checked), classes)
    return _split(root, checked, classes, skipped, seed)


def _check_files(
    root: Path, found: list[Found], progress: Progress | None
) -> tuple[list[_Checked], tuple[str, ...]]:
    """Decode every file once; the readable ones in their final order, and why others are not."""
    checked: list[_Checked] = []
    skipped: list[str] = []

    def sort_out(result: _Checked | str) -> None:
        if isinstance(result, str):
            skipped.append(result)
        else:
            checked.append(result)

    decode_all(partial(_check_file, root), found, sort_out, progress)
    return sorted(checked, key=lambda file: (file.label, file.content, file.path)), tuple(skipped)


def _check_file(root: Path, file: Found) -> _Checked | str:
    try:
        data = _read(root / file.path)
        with open_image(BytesIO(data)) as image:
            shorter_side = min(image.size)
            decode(image, 1)  # a JPEG at its smallest scale: every byte is read all the same
    except OSError as error:
        return f"{_printable(file.path)}: {error.strerror}"
    except ValueError as error:
        return f"{_printable(file.path)}: {error}"
    return _Checked(file.split, file.label, sha256_bytes(data), file.path, shorter_side)


def _printable(path: str) -> str:
    """Names that are no Unicode text could not be printed or recorded."""
    return path.encode(errors="backslashreplace").decode()


def _read(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would wait for ever
        raise ValueError("not a regular file")
    data = path.read_bytes()
    if not data:
        raise ValueError("empty file")
    return data


def _unreadable_message(skipped: tuple[str, ...], total: int) -> str:
    lines = [f"{len(skipped)} of {total} images cannot be read:"]
    lines += [f"  {line}" for line in skipped[:SHOWN]]
    if len(skipped) > SHOWN:
        lines.append(f"  and {len(skipped) - SHOWN} others.")
    lines.append("Repair or remove them, or leave them out with --skip-bad.")
    return "\n".join(lines)


def _split(
    root: Path, files: list[_Checked], classes: list[str], skipped: tuple[str, ...], seed: int
) -> Samples:
    index = {name: label for label, name in enumerate(classes)}
    labels = np.array([index[file.label] for file in files], dtype=np.int64)
    hashes = [file.content for file in files]
    splits = [file.split for file in files]
    origins: dict[str, Origin] = {name: "given" for name in SPLITS if name in splits}
    given = {hashes[row] for row, name in enumerate(splits) if name != "train"}
    pool = [row for row, name in enumerate(splits) if name == "train"]
    shares = _shares_to_set_aside(origins, np.bincount(labels[pool]))
    # An image that a given split already holds would leak from one set aside: it stays in train.
    pool = [row for row in pool if hashes[row] not in given]
    origins |= dict.fromkeys(shares, "set aside")
    chosen = split_by_content(
        [hashes[row] for row in pool], [int(labels[row]) for row in pool], shares, seed=seed
    )
    for row, name in zip(pool, chosen, strict=True):
        splits[row] = name
    origins = {name: origin for name, origin in origins.items() if name in splits}
    if "val" not in splits:
        raise DataError(
            f"{str(root)!r} has one image per class, too few to set any aside for validation; "
            f"expected at least 2 different images of each class."
        )
    return Samples(
        root=root,
        paths=tuple(file.path for file in files),
        labels=labels,
        splits=tuple(splits),
        classes=tuple(classes),
        hashes=tuple(hashes),
        shorter_sides=np.array([file.shorter_side for file in files], dtype=np.int32),
        split_origins=origins,
        skipped=skipped,
    )


def _shares_to_set_aside(
    origins: dict[str, Origin], train_counts: npt.NDArray[np.intp]
) -> dict[str, float]:
    names = []
    if "test" not in origins and train_counts.min() >= LEAST_FOR_TEST:
        names.append("test")
    if "val" not in origins:
        names.append("val")
    return dict.fromkeys(names, SHARE_SET_ASIDE)


def _fingerprint(samples: Samples) -> str:
    lines = sorted(
        f"{samples.classes[label]}\0{split}\0{content}\n"
        for label, split, content in zip(
            samples.labels.tolist(), samples.splits, samples.hashes, strict=True
        )
    )
    return sha256_bytes("".join(lines).encode("utf-8", "surrogateescape"))
