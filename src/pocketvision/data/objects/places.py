"""Where images and the files that annotate them one by one lie, and in which split."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from pocketvision.budget import format_size
from pocketvision.data.layout import SPLIT_NAMES, folders_in, image_files
from pocketvision.errors import DataError

LAYOUT = """Expected images with annotations in one of three formats:
  Pascal VOC              COCO                          YOLO
  photos/                 photos/                       photos/
    JPEGImages/             train/ 1.jpg ...              data.yaml   (or classes.txt)
      1.jpg 2.jpg ...       val/   2.jpg ... (optional)   images/
    Annotations/            annotations/                    train/ 1.jpg ...
      1.xml 2.xml ...         instances_train.json          val/   2.jpg ... (optional)
    ImageSets/Main/           instances_val.json          labels/
      train.txt val.txt                                     train/ 1.txt ...
      (optional)                                            val/   2.txt ...
or train/ (valid/, test/) with images and annotations in each."""

# COCO's folders are called train2017 and so on.
_SPLIT = re.compile(rf"({'|'.join(SPLIT_NAMES)})(?:\d{{4}})?", re.IGNORECASE)


class Place(NamedTuple):
    """Where the images of a split are, and what annotates them; it may be one folder."""

    images: Path
    annotations: Path


def places_of(root: Path, image_names: str, annotation_names: str, suffix: str) -> dict[str, Place]:
    """Those of each split; an unsplit folder is train.

    image_names, annotation_names: what the folders may be called, in lower case, as "a|b". suffix:
    of the annotations, with its dot.
    Raises: DataError: it cannot be told which is which, or there is no train.
    """
    images, annotations = _called(root, image_names), _called(root, annotation_names)
    splits = split_folders(root)
    one = images or annotations
    if one is None and splits:
        return {s: _place_in(f, image_names, annotation_names) for s, f in splits.items()}
    if one is None:
        _refuse_deeper(root, image_names, annotation_names)
        return {"train": Place(root, root)}
    if splits:
        raise DataError(
            f"{str(root)!r} has images in {next(iter(splits.values())).name}/ beside {one.name}/; "
            f"keep one way of splitting.\n{LAYOUT}"
        )
    if images is None or annotations is None:
        lacking = image_names if images is None else annotation_names
        raise DataError(
            f"{str(root)!r} has {one.name}/, but no folder {lacking.replace('|', '/ or ')}/ beside "
            f"it.\n{LAYOUT}"
        )
    return _parallel(images, annotations, suffix)


def split_folders(parent: Path) -> dict[str, Path]:
    """The folders in it that are called after splits and hold images; none where it is not split.

    Raises: DataError: two of one split, none of train, or images in a folder of no split.
    """
    splits: dict[str, Path] = {}
    others = []
    for folder in folders_in(parent):
        if next(image_files(folder), None) is None:
            continue
        split = split_called(folder.name)
        if split is None:
            others.append(folder)
        elif split in splits:
            raise DataError(
                f"{str(parent)!r} has both {splits[split].name}/ and {folder.name}/; keep one."
            )
        else:
            splits[split] = folder
    if splits and "train" not in splits:
        names = ", ".join(f"{folder.name}/" for folder in splits.values())
        raise DataError(f"{str(parent)!r} has {names} but no train/ with images.\n{LAYOUT}")
    if splits and others:
        names = ", ".join(f"{folder.name}/" for folder in others)
        raise DataError(
            f"{str(parent)!r} has train/, but images in {names} that belong to no split; move them "
            f"into one, or elsewhere.\n{LAYOUT}"
        )
    return splits


def split_called(name: str) -> str | None:
    """The split that a folder's name means, as "valid" or "train2017" do."""
    found = _SPLIT.fullmatch(name)
    return SPLIT_NAMES[found[1].lower()] if found else None


def files_below(folder: Path, suffix: str) -> Iterator[Path]:
    """Files with a suffix (any case) that are not hidden, sorted; each real folder once."""
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_pass_on):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and name.lower().endswith(suffix):
                yield Path(parent, name)


def by_key(paths: Iterable[Path], folder: Path) -> dict[str, Path]:
    """Each file by its name in the folder, without suffix: what an image and its annotation share.

    Raises: DataError: two files have one name.
    """
    found: dict[str, Path] = {}
    for path in paths:
        key = path.relative_to(folder).with_suffix("").as_posix()
        if key in found:
            raise DataError(
                f"{str(path.parent)!r} has both {found[key].name!r} and {path.name!r}, and one "
                f"annotation cannot belong to two; rename one."
            )
        found[key] = path
    return found


def read_bytes(path: Path, most: int) -> bytes:
    """A whole file. Raises: DataError: it is no regular file, or has more than `most` bytes."""
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):  # a pipe would wait for a writer for ever
        raise DataError(f"{str(path)!r} is not a regular file; replace or remove it.")
    if facts.st_size > most:
        raise DataError(
            f"{str(path)!r} has {format_size(facts.st_size)}; an annotation file has "
            f"{format_size(most)} at most."
        )
    return path.read_bytes()


def read_text(path: Path, most: int) -> str:
    """A whole text file. Raises: DataError: as `read_bytes`, or it is no UTF-8."""
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{str(path)!r} is no UTF-8 text ({error}); write it anew.") from error


def _called(parent: Path, names: str) -> Path | None:
    """The folder with one of the names. Raises: DataError: there are two."""
    found = [folder for folder in folders_in(parent) if folder.name.lower() in names.split("|")]
    if len(found) > 1:
        raise DataError(
            f"{str(parent)!r} has both {found[0].name}/ and {found[1].name}/; keep one."
        )
    return found[0] if found else None


def _refuse_deeper(root: Path, image_names: str, annotation_names: str) -> None:
    """Raises: DataError: the layout begins one folder deeper, as an unpacked archive has it."""
    for folder in folders_in(root):
        if _called(folder, image_names) and _called(folder, annotation_names):
            raise DataError(
                f"{str(root)!r} is not the folder that holds images and annotations, but "
                f"{str(folder)!r} is; give that one."
            )


def _place_in(folder: Path, image_names: str, annotation_names: str) -> Place:
    """Two folders inside the folder of a split, or everything in it side by side."""
    images, annotations = _called(folder, image_names), _called(folder, annotation_names)
    if images and annotations:
        return Place(images, annotations)
    if images or annotations:
        lacking = image_names if images is None else annotation_names
        raise DataError(
            f"{str(folder)!r} has {(images or annotations or folder).name}/, but no folder "
            f"{lacking.replace('|', '/ or ')}/ beside it.\n{LAYOUT}"
        )
    return Place(folder, folder)


def _parallel(images: Path, annotations: Path, suffix: str) -> dict[str, Place]:
    """Folders of images and of annotations that are split alike, or not at all."""
    splits = split_folders(images)
    if not splits:
        return {"train": Place(images, annotations)}
    twins = {split: annotations / folder.name for split, folder in splits.items()}
    for split, twin in twins.items():
        if not twin.is_dir():
            raise DataError(
                f"{str(splits[split])!r} has images, but there is no {str(twin)!r} with their "
                f"annotations; add it.\n{LAYOUT}"
            )
    for folder in folders_in(annotations):
        if folder not in twins.values() and (stray := next(files_below(folder, suffix), None)):
            raise DataError(
                f"{str(stray)!r} annotates no image: {str(images / folder.name)!r} holds none; "
                f"add the images, or remove {str(folder)!r}."
            )
    return {split: Place(folder, twins[split]) for split, folder in splits.items()}


def _pass_on(error: OSError) -> NoReturn:
    """os.walk would leave out a folder it cannot read."""
    raise error
