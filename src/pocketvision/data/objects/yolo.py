"""YOLO: one text file an image, a line an object, in fractions of the image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from pocketvision.data.layout import image_files
from pocketvision.data.objects.listing import (
    Annotated,
    Four,
    ObjectListing,
    Stated,
    first_of,
    listing_of,
)
from pocketvision.data.objects.places import (
    LAYOUT,
    Place,
    by_key,
    files_below,
    places_of,
    read_text,
)
from pocketvision.data.objects.yolo_names import CLASSES, class_names
from pocketvision.errors import DataError

SUFFIX = ".txt"
IMAGES, LABELS = "images", "labels"
MAX_LABEL_BYTES = 8_000_000  # some 200,000 objects
TOLERANCE = 1e-3  # outside 0 to 1; programs round

_NUMBERS = ("centre x", "centre y", "width", "height")


def read_yolo(root: Path) -> ObjectListing:
    """The images of a folder and what their label files state; the names are in data.yaml.

    images/ and labels/, each with train/, val/ and test/ or neither; or train/, valid/ and test/
    with images/ and labels/ in each; labels may also lie beside their images. An image whose label
    file is empty or missing shows nothing.

    Raises: DataError: no names, labels without image, a split without any label file, or a line
        that is no object.
    """
    places = places_of(root, IMAGES, LABELS, SUFFIX)
    folders = [folder for place in places.values() for folder in (place.annotations, place.images)]
    names = class_names(root, folders)
    images = [
        image for split, place in places.items() for image in _annotated(root, split, place, names)
    ]
    return listing_of(root, "yolo", names, images)


def parse_labels(text: str, names: tuple[str, ...], source: str) -> list[Stated]:
    """The objects of a label file, one a line: class, centre x, centre y, width, height.

    names: of the classes, by number. source: the file, for messages.
    Raises: DataError: a line of another length, an unknown class, or a number outside 0 to 1.
    """
    objects: list[Stated] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        where = f"{source!r}, line {number}"
        _check_length(words, where)
        name = _name(words[0], names, where)
        written = _four(words[1:], where)
        objects.append(Stated(len(objects) + 1, f"line {number}", name, written, _corners(written)))
    return objects


def _annotated(root: Path, split: str, place: Place, names: tuple[str, ...]) -> Iterator[Annotated]:
    images = by_key(image_files(place.images), place.images)
    labels = _labels_in(place)
    # Beside the images there may be other texts.
    if place.images != place.annotations:
        _refuse_lonely(root, [path for key, path in labels.items() if key not in images])
    if images and not images.keys() & labels.keys():
        raise DataError(
            f"None of the {len(images)} images in {str(place.images)!r} has a label file in "
            f"{str(place.annotations)!r}. Add them; if these images show nothing, add an empty "
            f"one.\n{LAYOUT}"
        )
    for key, image in images.items():
        file = labels.get(key, place.annotations / f"{key}{SUFFIX}")
        text = read_text(file, MAX_LABEL_BYTES) if key in labels else ""
        yield Annotated(
            path=image.relative_to(root).as_posix(),
            split=split,
            annotation=file.relative_to(root).as_posix(),
            objects=parse_labels(text, names, str(file)),
        )


def _labels_in(place: Place) -> dict[str, Path]:
    files = files_below(place.annotations, SUFFIX)
    # labelImg writes the names of the classes beside the labels.
    return by_key((path for path in files if path.name != CLASSES), place.annotations)


def _refuse_lonely(root: Path, files: list[Path]) -> None:
    if not files:
        return
    raise DataError(
        "\n".join(
            [
                f"{len(files)} label files in {str(root)!r} have no image:",
                *first_of(path.relative_to(root).as_posix() for path in files),
                "Add the images under the same names, or remove the label files.",
            ]
        )
    )


def _check_length(words: list[str], where: str) -> None:
    if len(words) == 5:
        return
    line = " ".join(words)
    shown = line if len(line) <= 60 else f"{line[:60]}..."
    hint = ""
    if len(words) == 6:
        hint = " A sixth number is how sure a network was: these are its answers, not labels."
    elif len(words) > 6 and len(words) % 2:
        hint = " This looks like the outline of a segmentation; export boxes instead."
    raise DataError(
        f"{where} is {shown!r}, {len(words)} words; expected 5 numbers: class, "
        f"{', '.join(_NUMBERS)}.{hint}"
    )


def _name(word: str, names: tuple[str, ...], where: str) -> str:
    """Of a class by its number, which some programs write as "0.0"."""
    number = _number(word, "the class", where)
    if not (number.is_integer() and 0 <= number < len(names)):
        raise DataError(
            f"{where} has the class {word!r}, but there are {len(names)} names; expected a whole "
            f"number from 0 to {len(names) - 1}. Correct it, or add the name."
        )
    return names[int(number)]


def _four(words: list[str], where: str) -> Four:
    numbers = []
    for word, name in zip(words, _NUMBERS, strict=True):
        number = _number(word, name, where)
        if math.isfinite(number) and not -TOLERANCE <= number <= 1 + TOLERANCE:
            raise DataError(
                f"{where} has {name} = {word}; YOLO values are fractions of the image, from 0 to "
                f"1. Divide pixels by the image's width or height."
            )
        numbers.append(number)
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _number(word: str, name: str, where: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise DataError(f"{where} has {name} = {word!r}; expected a number.") from None


def _corners(written: Four) -> Four:
    x, y, width, height = written
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2
