"""Which mask belongs to which image of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pocketvision.data.layout import SPLIT_NAMES, folders_in, image_files
from pocketvision.data.masks.mask import SUFFIXES
from pocketvision.errors import DataError

MASK_FOLDERS = ("masks", "labels", "annotations", "annot")
MASK_ENDINGS = ("", "_mask", "_L")  # of a mask's name, behind that of its image
SHOWN = 10  # files named in a message

LAYOUT = """Expected images and masks of the same names, with or without splits:
  streets/              streets/               streets/               streets/
    images/ 1.jpg ...     train/ images/ ...     images/ train/ ...     train/      1.jpg ...
    masks/  1.png ...            masks/  ...             val/   ...     trainannot/ 1.png ...
                          val/   images/ ...     masks/  train/ ...     val/        ...
                                 masks/  ...             val/   ...     valannot/   ...
or Pascal VOC's JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/."""


class Pair(NamedTuple):
    """An image and its mask, relative to the folder, POSIX form."""

    image: str
    mask: str
    split: str


class _Place(NamedTuple):
    images: Path
    masks: Path
    split: str


def list_pairs(root: Path) -> list[Pair]:
    """All images with their masks, in the order of their paths; an unsplit folder counts as train.

    Raises: DataError: no folder, another layout, an image without mask or a mask without image.
    """
    if not root.exists():
        raise DataError(f"The folder {str(root)!r} does not exist; give a folder of images.")
    if not root.is_dir():
        raise DataError(f"{str(root)!r} is a file; give the folder that holds images and masks.")
    try:
        if (root / "SegmentationClass").is_dir():
            return _voc_pairs(root)
        places = _places(root)
        if not places:
            raise DataError(f"{str(root)!r} has no images beside masks.\n{LAYOUT}")
        if "train" not in {place.split for place in places}:
            raise DataError(f"{str(root)!r} has splits, but none that is train.\n{LAYOUT}")
        return sorted(pair for place in places for pair in _pairs_in(place, root))
    except OSError as error:
        raise DataError(
            f"{str(error.filename)!r} cannot be read ({error.strerror}); "
            f"change its permissions, or move it elsewhere."
        ) from error


def _places(root: Path) -> list[_Place]:
    """Where images and masks lie, of each split."""
    images = _named(root, ("images",))
    if images is not None:
        masks = _named(root, MASK_FOLDERS)
        if masks is None:
            raise DataError(f"{str(root)!r} has images/ but no masks/ beside it.\n{LAYOUT}")
        splits = _splits_in(images)
        return [_Place(folder, masks / folder.name, split) for split, folder in splits.items()] or [
            _Place(images, masks, "train")
        ]
    found = []
    for split, folder in _splits_in(root).items():
        inner, masks = _named(folder, ("images",)), _named(folder, MASK_FOLDERS)
        beside = _named(root, tuple(_beside(folder.name)))
        if inner is not None and masks is not None:
            found.append(_Place(inner, masks, split))
        elif beside is not None:
            found.append(_Place(folder, beside, split))
        else:
            raise DataError(f"{str(folder)!r} has no masks, inside or beside it.\n{LAYOUT}")
    return found


def _splits_in(folder: Path) -> dict[str, Path]:
    splits: dict[str, Path] = {}
    for inner in folders_in(folder):
        split = SPLIT_NAMES.get(inner.name.lower())
        if split in splits:
            raise DataError(
                f"{str(folder)!r} has both {splits[split].name}/ and {inner.name}/; keep one."
            )
        if split is not None:
            splits[split] = inner
    return splits


def _beside(split: str) -> Iterator[str]:
    """Names of the folder of masks beside that of a split's images."""
    for name in MASK_FOLDERS:
        yield from (f"{split}{name}", f"{split}_{name}", f"{split}-{name}")


def _named(parent: Path, names: tuple[str, ...]) -> Path | None:
    """Its folder of one of these names, in any case."""
    wanted = {name.lower() for name in names}
    return next((path for path in folders_in(parent) if path.name.lower() in wanted), None)


def _pairs_in(place: _Place, root: Path) -> list[Pair]:
    """The images of one place with their masks. Raises: DataError: one lacks the other."""
    if not place.masks.is_dir():
        raise DataError(f"{str(place.images)!r} has images, but there is no {str(place.masks)!r}.")
    masks = _by_stem(place.masks)
    pairs, bare = [], []
    for image in image_files(place.images):
        stem = _stem(image, place.images)
        mask = next((masks.pop(k) for end in MASK_ENDINGS if (k := stem + end) in masks), None)
        if mask is None:
            bare.append(image.relative_to(root).as_posix())
            continue
        image_path, mask_path = (path.relative_to(root).as_posix() for path in (image, mask))
        pairs.append(Pair(image_path, mask_path, place.split))
    if bare:
        raise DataError(
            f"{_count(bare, 'image has', 'images have')} no mask in {str(place.masks)!r}: "
            f"{_some(bare)}. Add masks of the same names ({' '.join(SUFFIXES)}), or remove them."
        )
    if left := [path.relative_to(root).as_posix() for path in masks.values()]:
        raise DataError(
            f"{_count(left, 'mask has', 'masks have')} no image in {str(place.images)!r}: "
            f"{_some(left)}. Add the images, or remove the masks."
        )
    return pairs


def _voc_pairs(root: Path) -> list[Pair]:
    """Images named in ImageSets/Segmentation, masks in SegmentationClass."""
    sets = root / "ImageSets" / "Segmentation"
    lists = {SPLIT_NAMES[p.stem]: p for p in sorted(sets.glob("*.txt")) if p.stem in SPLIT_NAMES}
    if "train" not in lists:
        raise DataError(f"{str(sets)!r} has no train.txt that names images, one a line.")
    pairs: list[Pair] = []
    seen: dict[str, str] = {}
    for split, path in lists.items():
        for name in _names_in(path):
            if name in seen:
                raise DataError(f"{name!r} is in {seen[name]}.txt and in {split}.txt; keep one.")
            seen[name] = split
            image, mask = f"JPEGImages/{name}.jpg", f"SegmentationClass/{name}.png"
            if absent := [file for file in (image, mask) if not (root / file).is_file()]:
                raise DataError(f"{path.name} names {name!r}, but there is no {absent[0]}.")
            pairs.append(Pair(image, mask, split))
    return sorted(pairs)


def _names_in(path: Path) -> list[str]:
    """The lines of a list. Raises: DataError: no text, or a name that leaves the folder."""
    try:
        names = path.read_text("utf-8").split()
    except UnicodeDecodeError as error:
        raise DataError(f"{str(path)!r} is no UTF-8 text; expected one name a line.") from error
    if strange := [name for name in names if Path(name).name != name]:
        raise DataError(f"{str(path)!r} names {strange[0]!r}; expected names without folders.")
    return names


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in image_files(folder) if path.suffix.lower() in SUFFIXES)


def _by_stem(folder: Path) -> dict[str, Path]:
    """The masks of a folder by name, without suffix. Raises: DataError: two have one."""
    found: dict[str, Path] = {}
    for path in _files(folder):
        stem = _stem(path, folder)
        if stem in found:
            raise DataError(
                f"{str(path.parent)!r} has both {found[stem].name!r} and {path.name!r}, and an "
                "image has one mask; remove one."
            )
        found[stem] = path
    return found


def _stem(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _count(found: list[str], one: str, many: str) -> str:
    return f"{len(found)} {one if len(found) == 1 else many}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} others" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more
