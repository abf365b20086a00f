"""Which COCO files a folder has, and in which folder the images of each lie."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterable
from pathlib import Path

from pocketvision.data.layout import SPLIT_NAMES, folders_in
from pocketvision.data.objects.listing import first_of
from pocketvision.data.objects.places import split_called, split_folders
from pocketvision.errors import DataError

ROBOFLOW = "_annotations.coco.json"

# "instances_train2017.json", "val.json", "test-dev.json"
_INSTANCES = "instances_"
_SPLIT = re.compile(rf"(trainval|{'|'.join(SPLIT_NAMES)})(?![a-z])", re.IGNORECASE)


def annotation_files(root: Path) -> dict[str, Path]:
    """The COCO file of each split, empty where there is none; a single one is train.

    Raises: DataError: it cannot be told which file is of which split, or none is of train.
    """
    if inside := _inside(root):
        return inside
    files = _json_files(root)
    # Beside them, COCO has files of captions and of key points.
    instances = [path for path in files if path.name.lower().startswith(_INSTANCES)]
    files = instances or [p for p in files if _mentions(p, b'"images"', b'"annotations"')]
    words = [_word(path) for path in files]
    if len(files) == 1 and words[0] in (None, "train", "trainval"):
        return {"train": files[0]}
    if files and not any(words):
        raise DataError(
            f"{str(root)!r} has {len(files)} COCO files, such as {files[0].name!r} and "
            f"{files[1].name!r}; keep one, or name them instances_train.json, instances_val.json "
            f"and instances_test.json."
        )
    return _by_name(root, files) if files else {}


def image_folder(root: Path, split: str, file: Path, names: Iterable[str]) -> Path:
    """Where the images of a COCO file lie.

    names: as the file has them, relative and inside the folder.
    Raises: DataError: no folder has them all.
    """
    wanted = list(names)
    missing_in: dict[Path, list[str]] = {}
    candidates = _candidates(root, split, file)
    for folder in candidates:
        missing = [name for name in wanted if not os.path.isfile(folder / name)]
        if not missing:
            return folder
        missing_in[folder] = missing
    best = min(missing_in, key=lambda folder: len(missing_in[folder]))
    missing = missing_in[best]
    looked = ", ".join(f"{folder.relative_to(root).as_posix()}/" for folder in candidates)
    found = "" if len(missing) == len(wanted) else f" of {best.relative_to(root).as_posix()}/"
    raise DataError(
        "\n".join(
            [
                f"{len(missing)} of {len(wanted)} images{found} that {str(file)!r} names are "
                f"missing:",
                *first_of(map(repr, missing)),
                f"Looked in {looked}; images may lie in {split}/, images/{split}/ or images/. Add "
                f"them, or remove their entries.",
            ]
        )
    )


def _inside(root: Path) -> dict[str, Path]:
    """The files in the folders of the splits, as Roboflow writes them."""
    files: dict[str, Path] = {}
    for folder in folders_in(root):
        split, path = split_called(folder.name), folder / ROBOFLOW
        if split is None or not path.is_file():
            continue
        if split in files:
            raise DataError(
                f"{str(root)!r} has both {files[split].parent.name}/ and {folder.name}/; keep one."
            )
        files[split] = path
    lacking = set(split_folders(root)) - set(files) if files else set()
    if lacking:
        raise DataError(
            f"{str(root)!r} has images of {' and '.join(sorted(lacking))} without a {ROBOFLOW}, "
            f"which {next(iter(files.values())).parent.name}/ has; add it, or move the folder "
            f"elsewhere."
        )
    return _with_train(root, files)


def _by_name(root: Path, files: list[Path]) -> dict[str, Path]:
    """Files whose names tell the split; trainval counts where there is neither train nor val."""
    splits: dict[str, Path] = {}
    for path in files:
        word = _word(path)
        if word is None:
            raise DataError(
                f"{str(path)!r} is a COCO file whose name tells no split; expected a name such as "
                f"instances_train.json, as others have. Rename it, or move it elsewhere."
            )
        split = SPLIT_NAMES.get(word, word)
        if split in splits:
            raise DataError(
                f"{str(root)!r} has both {splits[split].name!r} and {path.name!r} for {split}; "
                f"keep one."
            )
        splits[split] = path
    both = splits.pop("trainval", None)
    if both and not splits.keys() & {"train", "val"}:
        splits["train"] = both
    return _with_train(root, splits)


def _with_train(root: Path, files: dict[str, Path]) -> dict[str, Path]:
    if files and "train" not in files:
        names = ", ".join(repr(path.relative_to(root).as_posix()) for path in files.values())
        raise DataError(f"{str(root)!r} has {names} but no COCO file of train; add it.")
    return files


def _json_files(root: Path) -> list[Path]:
    """Those in the folder and in annotations/."""
    folders = [root, *(f for f in folders_in(root) if f.name.lower() == "annotations")]
    return [
        path
        for folder in folders
        for path in sorted(folder.iterdir())
        if path.suffix.lower() == ".json" and path.is_file() and not path.name.startswith(".")
    ]


def _word(path: Path) -> str | None:
    """The split as a file's name has it."""
    found = _SPLIT.match(_bare(path))
    return found[1].lower() if found else None


def _bare(path: Path) -> str:
    """ "instances_train2017.json" -> "train2017"."""
    stem = path.stem
    return stem[len(_INSTANCES) :] if stem.lower().startswith(_INSTANCES) else stem


def _mentions(path: Path, *keys: bytes) -> bool:
    """True for a file that has all the keys; most other JSON files have not."""
    if path.stat().st_size == 0:  # which cannot be mapped
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return all(data.find(key) >= 0 for key in keys)


def _candidates(root: Path, split: str, file: Path) -> list[Path]:
    """Folders in which the images may lie, the likeliest first."""
    words = [_bare(file), *(word for word, means in SPLIT_NAMES.items() if means == split)]
    folders = [file.parent] if file.name == ROBOFLOW else []
    for word in words:
        folders += [root / "images" / word, root / word / "images", root / word]
    folders += [root / "images", root / "JPEGImages", file.parent, root]
    there = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
    return there or [root]
