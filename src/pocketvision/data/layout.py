"""Where the images of a folder may lie: class folders or tar shards, with or without splits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from pocketvision.data.shards import shards_in, split_in_name
from pocketvision.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

LAYOUT = """Expected one folder per class, with or without splits:
  photos/              photos/
    cat/ 1.jpg ...       train/ cat/ ... dog/ ...
    dog/ 2.png ...       val/   cat/ ... dog/ ...    (optional)
                         test/  cat/ ... dog/ ...    (optional)
Tar shards may lie in place of the class folders (docs/data.md)."""


class Source(NamedTuple):
    """Where the images of a split are: in class folders, or where there are none, in shards."""

    folder: Path
    shards: list[Path]


def sources_of(root: Path) -> dict[str, Source]:
    """Those of each split; an unsplit folder is train.

    Raises: DataError: it cannot be told which is which, or a shard is compressed.
    """
    splits = _split_folders(root)
    if splits == {"train": root} and not folders_in(root):
        return _sources_in_names(root)
    return {
        split: Source(folder, [] if folders_in(folder) else shards_in(folder))
        for split, folder in splits.items()
    }


def _sources_in_names(root: Path) -> dict[str, Source]:
    """Shards in one folder: their names may tell the splits, as in "train-0001.tar"."""
    shards = shards_in(root)
    named = {shard: split_in_name(shard, tuple(SPLIT_NAMES)) for shard in shards}
    if not any(named.values()):
        return {"train": Source(root, shards)}
    unnamed = [shard.name for shard, word in named.items() if word is None]
    if unnamed or "train" not in named.values():
        raise DataError(
            f"{str(root)!r} has shards named after splits, but "
            + (f"{unnamed[0]!r} names none" if unnamed else "none named train")
            + "; name all of them after train, val or test, or none."
        )
    splits: dict[str, Source] = {}
    for shard, word in named.items():
        splits.setdefault(SPLIT_NAMES[word or ""], Source(root, [])).shards.append(shard)
    return splits


def _split_folders(root: Path) -> dict[str, Path]:
    """Each split's folder; the root itself, as train, where classes lie in it directly."""
    splits: dict[str, Path] = {}
    others = []
    for folder in folders_in(root):
        split = SPLIT_NAMES.get(folder.name.lower())
        # A class may be called "train" as well.
        if split is None or not (folders_in(folder) or shards_in(folder)):
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
    stray = [f"{folder.name}/" for folder in others if next(image_files(folder), None)]
    if stray:
        raise DataError(
            f"{str(root)!r} has class folders in train/, but images in {', '.join(stray)} that "
            f"belong to no class of a split; move them into one, or elsewhere.\n{LAYOUT}"
        )
    return splits


def folders_in(parent: Path) -> list[Path]:
    """Its folders that are not hidden, sorted."""
    return sorted(
        path for path in parent.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def image_files(folder: Path) -> Iterator[Path]:
    """Image files below a folder; links are followed, each real folder is entered once.

    A link to a folder that holds this one is not followed: what lies there belongs to others.
    """
    seen: set[str] = set()
    # Where a class folder is a link itself, both what it lies in and what it leads to.
    below = (folder, folder.parent / "any")
    above = {str(path) for place in below for path in Path(os.path.realpath(place)).parents}
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_pass_on):
        real = os.path.realpath(parent)
        if real in seen or real in above:
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
