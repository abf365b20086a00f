"""COCO: one JSON file a split with images, categories and annotations that name both by number."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeGuard

from pocketvision.data.layout import SUFFIXES
from pocketvision.data.objects.coco_files import annotation_files, image_folder
from pocketvision.data.objects.listing import (
    MAX_SIDE,
    Annotated,
    Four,
    ObjectListing,
    Stated,
    listing_of,
    names_in,
)
from pocketvision.data.objects.places import LAYOUT, read_bytes
from pocketvision.errors import DataError

MAX_JSON_BYTES = 2_000_000_000  # that of COCO's 118,000 photos has 450 MB
SHOWN_CHARACTERS = 80  # of a value in a message

Entry = dict[str, object]


class CocoImage(NamedTuple):
    """An image as a COCO file states it."""

    name: str  # relative to a folder that the file does not name, POSIX form
    size: tuple[int, int]  # width and height in pixels
    objects: Sequence[Stated]


def read_coco(root: Path) -> ObjectListing:
    """The images that COCO files name and what they state; crowds are ignored.

    annotations/instances_train.json, ..._val.json, ..._test.json (or in the folder itself, or
    train.json and so on), `_annotations.coco.json` in train/, valid/ and test/, or one file for
    all. The images lie in train/, images/train/, images/ or beside the file; images that no file
    names are left out. Classes are the categories of which there is an object.

    Raises: DataError: files that cannot be told apart, that are damaged or contradict themselves,
        or that name images which are not there.
    """
    files = annotation_files(root)
    if not files:
        raise DataError(f"{str(root)!r} has no COCO file.\n{LAYOUT}")
    images = [image for split, file in files.items() for image in _annotated(root, split, file)]
    return listing_of(root, "coco", names_in(images), images)


def _annotated(root: Path, split: str, file: Path) -> list[Annotated]:
    stated = parse_coco(_load(file), str(file))
    folder = image_folder(root, split, file, [image.name for image in stated])
    return [
        Annotated(
            path=(folder / image.name).relative_to(root).as_posix(),
            split=split,
            annotation=file.relative_to(root).as_posix(),
            objects=image.objects,
            size=image.size,
        )
        for image in stated
    ]


def _load(file: Path) -> object:
    data = read_bytes(file, MAX_JSON_BYTES)
    try:
        document: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{str(file)!r} is no JSON that can be read ({error}); write it anew."
        ) from error
    return document


def parse_coco(document: object, source: str) -> list[CocoImage]:
    """The images of a COCO file, in its order, each with its annotations; other keys are ignored.

    Raises: DataError: something is missing, of a wrong kind, there twice, or named and not there.
    """
    if not isinstance(document, dict):
        raise DataError(
            f"{source!r} holds {_shown(document)}; expected an object with 'images', 'categories' "
            f"and 'annotations'."
        )
    images = _by_id(document, "images", source)
    categories = _categories(document, source)
    facts = {number: _image(entry, f"{source!r}: image {number}") for number, entry in images}
    _refuse_repeated_names(facts, source)
    objects: dict[int, list[Stated]] = {number: [] for number in facts}
    for number, entry in _by_id(document, "annotations", source):
        where = f"{source!r}: annotation {number}"
        image = _known(entry, "image_id", facts, where)
        name = categories[_known(entry, "category_id", categories, where)]
        written = _bbox(entry, where)
        objects[image].append(
            Stated(
                number=len(objects[image]) + 1,
                where=f"annotation {number}",
                name=name,
                written=written,
                corners=_corners(written, facts[image][1]),
                ignored=_flag(entry, "iscrowd", where),
            )
        )
    return [CocoImage(name, size, objects[number]) for number, (name, size) in facts.items()]


def _categories(document: Entry, source: str) -> dict[int, str]:
    """Names by number. Raises: DataError: a category without a name, or two with one."""
    names: dict[int, str] = {}
    number_of: dict[str, int] = {}
    for number, entry in _by_id(document, "categories", source):
        name = entry.get("name")
        if not isinstance(name, str) or not name.strip():
            raise DataError(
                f"{source!r}: category {number} has {_found(entry, 'name')}; expected text."
            )
        names[number] = name.strip()
        if number_of.setdefault(name.strip(), number) != number:
            raise DataError(
                f"{source!r}: categories {number_of[name.strip()]} and {number} are both called "
                f"{name.strip()!r}; rename one, or make them one."
            )
    return names


def _by_id(document: Entry, key: str, source: str) -> list[tuple[int, Entry]]:
    """The entries of a list with their numbers.

    Raises: DataError: no list, an entry that is none or has no number, or a number twice.
    """
    entries = document.get(key)
    if not isinstance(entries, list):
        raise DataError(
            f"{source!r} has {_found(document, key)}; a COCO file needs the list {key!r}, if only "
            f"an empty one."
        )
    seen: set[int] = set()
    numbered = []
    for place, entry in enumerate(entries):
        where = f"{source!r}: {key}[{place}]"
        if not isinstance(entry, dict):
            raise DataError(f"{where} is {_shown(entry)}; expected an object with an 'id'.")
        number = _whole(entry, "id", where)
        if number in seen:
            raise DataError(
                f"{where} has the id {number}, which another of {key} has; make each one's its own."
            )
        seen.add(number)
        numbered.append((number, entry))
    return numbered


def _image(entry: Entry, where: str) -> tuple[str, tuple[int, int]]:
    """Name and size."""
    return _file_name(entry, where), (_side(entry, "width", where), _side(entry, "height", where))


def _file_name(entry: Entry, where: str) -> str:
    """Relative, in POSIX form. Raises: DataError: it leads elsewhere, or is of no image."""
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        raise DataError(f"{where} has {_found(entry, 'file_name')}; expected the file's name.")
    # Also as Windows understands it: the folder may be carried there.
    parts = re.split(r"[/\\]", name)
    if parts[0] == "" or ".." in parts or re.match(r"[A-Za-z]:", name):
        raise DataError(
            f"{where} has the file_name {_shown(name)}, which leads out of the folder; expected a "
            f"relative path inside it, without '..'. Correct it."
        )
    if not name.lower().endswith(SUFFIXES):
        raise DataError(
            f"{where} has the file_name {_shown(name)}, which is no image; expected one of "
            f"{' '.join(SUFFIXES)}."
        )
    return PurePosixPath(name).as_posix()


def _refuse_repeated_names(facts: dict[int, tuple[str, tuple[int, int]]], source: str) -> None:
    first: dict[str, int] = {}
    for number, (name, _) in facts.items():
        if first.setdefault(name, number) != number:
            raise DataError(
                f"{source!r}: images {first[name]} and {number} are both the file {name!r}; make "
                f"them one."
            )


def _side(entry: Entry, key: str, where: str) -> int:
    value = entry.get(key)
    if _is_number(value) and 1 <= value <= MAX_SIDE and value == int(value):
        return int(value)
    raise DataError(
        f"{where} has {_found(entry, key)}; expected the image's {key} in pixels, a whole number "
        f"from 1 to {MAX_SIDE:,}."
    )


def _whole(entry: Entry, key: str, where: str) -> int:
    value = entry.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise DataError(f"{where} has {_found(entry, key)}; expected a whole number.")


def _known(entry: Entry, key: str, known: Mapping[int, object], where: str) -> int:
    """A number that something has."""
    number = _whole(entry, key, where)
    if number not in known:
        things = {"image_id": "image", "category_id": "category"}
        raise DataError(
            f"{where} has the {key} {number}, but no {things[key]} has this id; add the "
            f"{things[key]}, or remove the annotation."
        )
    return number


def _bbox(entry: Entry, where: str) -> Four:
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise DataError(
            f"{where} has {_found(entry, 'bbox')}; expected [x, y, width, height] in pixels."
        )
    x, y, width, height = map(_as_float, box)
    return x, y, width, height


def _corners(written: Four, size: tuple[int, int]) -> Four:
    """In fractions of the image; COCO measures from its edge."""
    x, y, width, height = written
    return x / size[0], y / size[1], (x + width) / size[0], (y + height) / size[1]


def _flag(entry: Entry, key: str, where: str) -> bool:
    value = entry.get(key, 0)
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise DataError(f"{where} has {_found(entry, key)}; expected 0 or 1.")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # JSON's whole numbers have no end
        return float("inf")


def _found(entry: Entry, key: str) -> str:
    """What an entry has under a key, for messages."""
    return f"{key} = {_shown(entry[key])}" if key in entry else f"no {key!r}"


def _shown(value: object) -> str:
    """A value as JSON has it, cut where it is long."""
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits
        text = f"a value of kind {type(value).__name__}"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
