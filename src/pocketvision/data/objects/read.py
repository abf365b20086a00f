"""A folder of annotated images, whichever of the three formats it has."""

from __future__ import annotations

from pathlib import Path

from pocketvision.data.layout import SUFFIXES, image_files
from pocketvision.data.objects.coco import read_coco
from pocketvision.data.objects.coco_files import annotation_files
from pocketvision.data.objects.listing import Format, ObjectListing, check_classes
from pocketvision.data.objects.places import LAYOUT, files_below
from pocketvision.data.objects.voc import SUFFIX as XML
from pocketvision.data.objects.voc import read_voc
from pocketvision.data.objects.yolo import LABELS, read_yolo
from pocketvision.data.objects.yolo import SUFFIX as TEXT
from pocketvision.data.objects.yolo_names import yaml_file
from pocketvision.errors import DataError

NAMES: dict[Format, str] = {"voc": "Pascal VOC", "coco": "COCO", "yolo": "YOLO"}
READERS = {"voc": read_voc, "coco": read_coco, "yolo": read_yolo}


def list_objects(folder: Path) -> ObjectListing:
    """The images of a folder and the objects that its annotations state; no image is opened.

    Boxes that were mended or left out are in the listing's `faults`; see `refuse_faults`.
    Raises: DataError: no folder, none of the three layouts or several, annotations that cannot be
        used, no images, nothing to learn, or a class that train lacks.
    """
    if not folder.exists():
        raise DataError(f"The folder {str(folder)!r} does not exist; give a folder of images.")
    if not folder.is_dir():
        raise DataError(f"{str(folder)!r} is a file; give the folder that holds it.")
    try:
        listing = READERS[_format_of(folder)](folder)
    except OSError as error:
        raise DataError(
            f"{str(error.filename)!r} cannot be read ({error.strerror}); "
            f"change its permissions, or move it elsewhere."
        ) from error
    if not len(listing):
        raise DataError(f"{str(folder)!r} has annotations, but no image ({' '.join(SUFFIXES)}).")
    check_classes(listing)
    return listing


def _format_of(root: Path) -> Format:
    """The only format of which there are files. Raises: DataError: there is none, or several."""
    found = _traces(root)
    if len(found) > 1:
        names = ", ".join(
            f"{NAMES[format]} ({path.relative_to(root).as_posix()})"
            for format, path in found.items()
        )
        raise DataError(
            f"{str(root)!r} has annotations in {len(found)} formats: {names}; keep one of them.\n"
            f"{LAYOUT}"
        )
    if found:
        return next(iter(found))
    if yaml_file(root):  # with the names of the classes, but no labels
        return "yolo"
    if next(image_files(root), None) is None:
        raise DataError(f"{str(root)!r} has no image ({' '.join(SUFFIXES)}).\n{LAYOUT}")
    raise DataError(f"{str(root)!r} has images, but no annotations of objects.\n{LAYOUT}")


def _traces(root: Path) -> dict[Format, Path]:
    """A file of each format that is there."""
    coco = annotation_files(root)
    found: dict[Format, Path | None] = {
        "voc": next(files_below(root, XML), None),
        "coco": coco.get("train"),
        "yolo": next((path for path in files_below(root, TEXT) if _is_label(root, path)), None),
    }
    return {format: path for format, path in found.items() if path}


def _is_label(root: Path, path: Path) -> bool:
    """True for a text in labels/, or beside the image of its name."""
    if LABELS in path.relative_to(root).parent.as_posix().lower().split("/"):
        return True
    return any(
        path.with_suffix(suffix).is_file() for suffix in (*SUFFIXES, *map(str.upper, SUFFIXES))
    )
