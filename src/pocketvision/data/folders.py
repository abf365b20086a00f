"""Which image files a folder holds: class folders, with or without splits."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from pocketvision.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

LAYOUT = """Expected one folder per class, with or without splits:
  photos/              photos/
    cat/ 1.jpg ...       train/ cat/ ... dog/ ...
    dog/ 2.png ...       val/   cat/ ... dog/ ...    (optional)
                         test/  cat/ ... dog/ ...    (optional)"""


class Found(NamedTuple):
    """An image file before it was opened; an unsplit folder counts as train."""

    split: str
    label: str
    path: str  # relative, POSIX form


def find_images(root: Path) -> tuple[list[Found], list[str]]:
    """All image files, and the names of all class folders, empty ones included, sorted.

    Raises: DataError: no folder, splits that cannot be told apart, or a folder that is closed.
    """
    if not root.exists():
        raise DataError(f"The folder {str(root)!r} does not exist; give a folder of images.")
    if not root.is_dir():
        raise DataError(f"{str(root)!r} is a file; give the folder that holds the class folders.")
    try:
        return _find(root)
    except OSError as error:
        raise DataError(
            f"{str(error.filename)!r} cannot be read ({error.strerror}); "
            f"change its permissions, or move it elsewhere."
        ) from error


def _find(root: Path) -> tuple[list[Found], list[str]]:
    found: list[Found] = []
    classes: set[str] = set()
    for split, folder in _split_folders(root).items():
        for class_folder in _folders(folder):
            classes.add(class_folder.name)
            for path in _image_files(class_folder):
                found.append(Found(split, class_folder.name, path.relative_to(root).as_posix()))
    return found, sorted(classes)


def _split_folders(root: Path) -> dict[str, Path]:
    """Each split's folder; the root itself, as train, where classes lie in it directly."""
    splits: dict[str, Path] = {}
    others = []
    for folder in _folders(root):
        split = SPLIT_NAMES.get(folder.name.lower())
        if split is None or not _folders(folder):  # a class may be called "train" as well
            others.append(folder)
        elif split in splits:
            raise DataError(
                f"{str(root)!r} has both {splits[split].name}/ and {folder.name}/; keep one."
            )
        else:
            splits[split] = folder
    if not splits:
        return {"train": root}
    if "train" not in splits:
        names = ", ".join(f"{folder.name}/" for folder in splits.values())
        raise DataError(f"{str(root)!r} has {names} but no train/ with class folders.\n{LAYOUT}")
    stray = [f"{folder.name}/" for folder in others if next(_image_files(folder), None)]
    if stray:
        raise DataError(
            f"{str(root)!r} has class folders in train/, but images in {', '.join(stray)} that "
            f"belong to no class of a split; move them into one, or elsewhere.\n{LAYOUT}"
        )
    return splits


def _folders(parent: Path) -> list[Path]:
    return sorted(
        path for path in parent.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _image_files(folder: Path) -> Iterator[Path]:
    """Image files below a folder; links are followed, each real folder is entered once."""
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_pass_on):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                yield Path(parent, name)


def _pass_on(error: OSError) -> NoReturn:
    """os.walk would leave out a folder it cannot read."""
    raise error


def check_classes(root: Path, present: Iterable[tuple[str, str]], classes: list[str]) -> None:
    """Every class must have images in every split.

    present: (split, class) of each image. classes: the names of all class folders.
    Raises: DataError: no images, one class only, a class without images in a split, or a name
        that cannot be printed.
    """
    counts = Counter(present)
    if not counts:
        raise DataError(f"{str(root)!r} holds no readable image in a class folder.\n{LAYOUT}")
    if len(classes) < 2:
        raise DataError(
            f"{str(root)!r} has only one class, {classes[0]!r}; expected at least 2.\n{LAYOUT}"
        )
    for name in classes:
        if not name.isprintable():
            raise DataError(f"The class name {name!r} is not printable text; rename the folder.")
    missing = [
        f"{split} has no readable image of {', '.join(map(repr, absent))}"
        for split in sorted({split for split, _ in counts}, key=SPLITS.index)
        if (absent := [label for label in classes if not counts[split, label]])
    ]
    if missing:
        raise DataError(
            f"Classes in {str(root)!r} are incomplete: {'; '.join(missing)}. "
            f"Every class folder needs at least one image in every split there is; "
            f"add images ({' '.join(SUFFIXES)}), or remove the class."
        )
