"""Pascal VOC: one XML file an image, lists of the images of each split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from pocketvision.data.layout import image_files
from pocketvision.data.objects.listing import (
    MAX_SIDE,
    Annotated,
    Four,
    ObjectListing,
    Stated,
    first_of,
    listing_of,
    names_in,
)
from pocketvision.data.objects.places import (
    Place,
    by_key,
    files_below,
    places_of,
    read_bytes,
    read_text,
)
from pocketvision.errors import DataError

SUFFIX = ".xml"
IMAGES, ANNOTATIONS = "jpegimages|images", "annotations"
LISTS = "ImageSets/Main"
MAX_XML_BYTES = 8_000_000  # some 20,000 objects
MAX_LIST_BYTES = 200_000_000

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_FLAGS = {"": False, "0": False, "false": False, "1": True, "true": True}


def read_voc(root: Path) -> ObjectListing:
    """The images of a folder and what their XML files state; "difficult" objects are ignored.

    JPEGImages/ and Annotations/ (or images/ and annotations/), split by ImageSets/Main/train.txt,
    val.txt and test.txt, or lying in train/, val/ and test/. Where lists exist, images in none of
    them are left out; trainval.txt is read where there is neither train.txt nor val.txt.

    Raises: DataError: images without annotation or the reverse, lists that contradict each other,
        or an XML file that is damaged, has a DTD, or states no size, name or box.
    """
    places = places_of(root, IMAGES, ANNOTATIONS, SUFFIX)
    pairs = {split: _pairs_in(place) for split, place in places.items()}
    lists = _read_lists(root)
    if lists and set(places) != {"train"}:
        raise DataError(
            f"{str(root)!r} is split by folders and by lists in {LISTS}/ too; keep one."
        )
    if lists:
        pairs = {split: _listed(root, pairs["train"], split, ids) for split, ids in lists.items()}
    _refuse_lonely(root, pairs)
    images = [
        _annotated(root, split, image, xml)
        for split, found in pairs.items()
        for image, xml in found.values()
        if image and xml
    ]
    return listing_of(root, "voc", names_in(images), images)


# An image and its XML file, by the name they share; None where one is missing.
_Pairs = dict[str, tuple[Path | None, Path | None]]


def _pairs_in(place: Place) -> _Pairs:
    images = by_key(image_files(place.images), place.images)
    files = by_key(files_below(place.annotations, SUFFIX), place.annotations)
    return {key: (images.get(key), files.get(key)) for key in sorted(images | files)}


def _refuse_lonely(root: Path, pairs: dict[str, _Pairs]) -> None:
    """Raises: DataError: an image without its XML file, or the reverse: usually a mistake."""
    both = [pair for found in pairs.values() for pair in found.values()]
    images = [image for image, xml in both if image and not xml]
    files = [xml for image, xml in both if xml and not image]
    if images:
        lines = first_of(path.relative_to(root).as_posix() for path in images)
        raise DataError(
            "\n".join(
                [
                    f"{len(images)} images in {str(root)!r} have no annotation:",
                    *lines,
                    "Add their .xml files (for images that show nothing, without <object>), or "
                    "move the images elsewhere.",
                ]
            )
        )
    if files:
        lines = first_of(path.relative_to(root).as_posix() for path in files)
        raise DataError(
            "\n".join(
                [
                    f"{len(files)} annotations in {str(root)!r} have no image:",
                    *lines,
                    "Add the images under the same names, or remove the .xml files.",
                ]
            )
        )


def _read_lists(root: Path) -> dict[str, list[str]]:
    """Names of the images of each split; empty where there are no lists.

    Raises: DataError: no list of train, or a name in two of them.
    """
    paths = {name: root / LISTS / f"{name}.txt" for name in ("train", "val", "test", "trainval")}
    paths = {name: path for name, path in paths.items() if path.is_file()}
    both = paths.pop("trainval", None)
    if both and not paths.keys() & {"train", "val"}:
        paths = {"train": both} | paths
    if paths and "train" not in paths:
        found = ", ".join(path.name for path in paths.values())
        raise DataError(f"{str(root / LISTS)!r} has {found} but no train.txt; add it.")
    lists = {
        split: [line.strip() for line in read_text(path, MAX_LIST_BYTES).splitlines()]
        for split, path in paths.items()
    }
    list_of: dict[str, str] = {}
    for split, names in lists.items():
        for name in filter(None, names):
            if list_of.setdefault(name, split) != split:
                raise DataError(
                    f"{name!r} is in {paths[list_of[name]].name} and in {paths[split].name} of "
                    f"{str(root / LISTS)!r}; an image belongs to one split: remove it from the "
                    f"other."
                )
    return {split: list(dict.fromkeys(filter(None, names))) for split, names in lists.items()}


def _listed(root: Path, pairs: _Pairs, split: str, names: list[str]) -> _Pairs:
    """The pairs that a list names. Raises: DataError: there is neither image nor XML file."""
    unknown = [name for name in names if name not in pairs]
    if unknown:
        raise DataError(
            "\n".join(
                [
                    f"{len(unknown)} of {len(names)} names in the list of {split} in "
                    f"{str(root / LISTS)!r} have neither image nor annotation:",
                    *first_of(map(repr, unknown)),
                    "Expected one name of an image a line, without its suffix; correct the list.",
                ]
            )
        )
    return {name: pairs[name] for name in names}


def _annotated(root: Path, split: str, image: Path, xml: Path) -> Annotated:
    tree = parse_xml(read_bytes(xml, MAX_XML_BYTES), str(xml))
    size = _size(tree, str(xml))
    return Annotated(
        path=image.relative_to(root).as_posix(),
        split=split,
        annotation=xml.relative_to(root).as_posix(),
        objects=list(_objects(tree, size, str(xml))),
        size=size,
    )


def parse_xml(data: bytes, source: str) -> Element:
    """The <annotation> of a file; no document type is read, so no entity can grow or be fetched.

    Raises: DataError: it is no XML, is called otherwise, or declares a document type.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _doctype_refused(source)
    try:
        parser.Parse(data, True)
        tree: Element = builder.close()
    except DataError:
        raise
    # An unknown encoding is a LookupError, one of several bytes a letter a ValueError.
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise DataError(
            f"{source!r} is no XML that can be read ({error}); write it anew, in UTF-8."
        ) from error
    if tree.tag != "annotation":
        raise DataError(
            f"{source!r} begins with <{tree.tag}>; expected <annotation>, as Pascal VOC has it. "
            f"Replace or remove it."
        )
    return tree


def _doctype_refused(source: str) -> Callable[..., None]:
    def refuse(*_declared: object) -> NoReturn:
        raise DataError(
            f"{source!r} declares a document type (<!DOCTYPE ...>), which annotations do not need "
            f"and which is never read; remove the declaration."
        )

    return refuse


def _size(tree: Element, source: str) -> tuple[int, int]:
    """Width and height. Raises: DataError: they are missing, 0 or no whole numbers."""
    sides = []
    for name in ("width", "height"):
        text = _text(tree, f"size/{name}")
        side = _number(text)
        if side is None or not (side.is_integer() and 1 <= side <= MAX_SIDE):
            found = f"<size> with {name} {text!r}" if text else f"no <{name}> in its <size>"
            raise DataError(
                f"{source!r} has {found}; expected the image's {name} in pixels, a whole number "
                f"from 1 to {MAX_SIDE:,}. Correct it: boxes are read as fractions of it."
            )
        sides.append(int(side))
    return sides[0], sides[1]


def _objects(tree: Element, size: tuple[int, int], source: str) -> Iterator[Stated]:
    for number, element in enumerate(tree.findall("object"), start=1):
        where = f"object {number}"
        name = _text(element, "name")
        if not name:
            raise DataError(f"{source!r}, {where} has no <name>; add that of its class.")
        box = element.find("bndbox")
        if box is None:
            raise DataError(
                f"{source!r}, {where} ({name!r}) has no <bndbox>; add its box, or remove it."
            )
        written = _four(box, f"{source!r}, {where} ({name!r})")
        flag = _text(element, "difficult")
        if flag.lower() not in _FLAGS:
            raise DataError(
                f"{source!r}, {where} ({name!r}) has <difficult> {flag!r}; expected 0 or 1."
            )
        yield Stated(number, where, name, written, _corners(written, size), _FLAGS[flag.lower()])


def _four(box: Element, where: str) -> Four:
    sides = []
    for side in _SIDES:
        text = _text(box, side)
        number = _number(text)
        if number is None:
            found = f"{side} = {text!r}" if text else f"no <{side}>"
            raise DataError(f"{where} has {found} in its <bndbox>; expected a number of pixels.")
        sides.append(number)
    return sides[0], sides[1], sides[2], sides[3]


def _corners(written: Four, size: tuple[int, int]) -> Four:
    """In fractions of the image.

    VOC counts pixels from 1 and its boxes include both ends: xmin = xmax = 1 is the first pixel, or
    0 to 1 in a picture measured from its edge. So 1 is taken from xmin and ymin alone, as
    detectron2 does. Programs that count from 0 are one pixel off by that, which is clipped.
    But a box that ends where it begins is a click without a drag, and no object of one pixel.
    """
    xmin, ymin, xmax, ymax = written
    width, height = size
    x0 = xmin - 1 if xmin < xmax else xmax
    y0 = ymin - 1 if ymin < ymax else ymax
    return x0 / width, y0 / height, xmax / width, ymax / height


def _text(element: Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
