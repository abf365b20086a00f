from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pocketvision.data.objects.listing import ObjectListing, check_classes, refuse_faults
from pocketvision.data.objects.read import list_objects
from pocketvision.errors import DataError

if TYPE_CHECKING:
    from tests.data.objects.conftest import Drawn, Folder

CAT: Drawn = ("cat", (10, 5, 50, 25))
DOG: Drawn = ("dog", (0, 0, 99, 50))
SCENES: dict[str, list[Drawn]] = {
    "a": [CAT, DOG, ("cat", (3, 7, 5, 9))],
    "b": [],
    "c": [("emu", (33, 0, 67, 49))],
}


def in_all_formats(folder: Folder) -> dict[str, ObjectListing]:
    """The same images in folders of their own."""
    kind = type(folder)
    voc, coco, yolo = (kind(folder.root / name) for name in ("voc", "coco", "yolo"))
    voc.voc(SCENES)
    coco.coco("annotations/all.json", SCENES, "images/")
    yolo.yolo(SCENES, ("cat", "dog", "emu"))
    return {one.root.name: list_objects(one.root) for one in (voc, coco, yolo)}


def test_same_boxes_in_all_formats(folder: Folder) -> None:
    listings = in_all_formats(folder)
    assert {name: listing.format for name, listing in listings.items()} == {
        name: name for name in listings
    }
    for listing in listings.values():
        assert listing.classes == ("cat", "dog", "emu")
        assert [Path(path).name for path in listing.paths] == ["a.png", "b.png", "c.png"]
        assert listing.objects.labels.tolist() == [0, 1, 0, 2]
        assert listing.objects.starts.tolist() == [0, 3, 3, 4]
        np.testing.assert_allclose(
            listing.objects.boxes, listings["voc"].objects.boxes, rtol=0, atol=1e-6
        )
        refuse_faults(listing)


def test_columns_have_their_types(folder: Folder) -> None:
    for listing in in_all_formats(folder).values():
        assert len(listing) == len(listing.objects) == len(listing.annotations) == 3
        assert listing.objects.boxes.dtype == np.float32
        assert listing.objects.labels.dtype == np.int32
        assert listing.splits.dtype == np.int8
        assert listing.sizes.dtype == np.int32
        assert listing.sizes.shape == (3, 2)
        assert not any(Path(path).is_absolute() for path in listing.paths + listing.annotations)


def test_class_that_train_lacks(folder: Folder) -> None:
    folder.coco("instances_train.json", {"a": [CAT]}, "train/")
    folder.coco("instances_val.json", {"b": [CAT, DOG]}, "val/")
    folder.coco("instances_test.json", {"c": [DOG, ("emu", (0, 0, 9, 9))]}, "test/")
    with pytest.raises(
        DataError,
        match=r"differ: val has 'dog'; test has 'dog', 'emu', but train has objects of 'cat' alone",
    ):
        list_objects(folder.root)


def test_class_that_train_has_ignored_alone(folder: Folder) -> None:
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "iscrowd": 1}
        ],
    }
    folder.image("a.png")
    folder.put("all.json", json.dumps(document))
    with pytest.raises(DataError, match=r"has no object in train that could be learned, in 1 im"):
        list_objects(folder.root)


def test_nothing_to_learn(folder: Folder) -> None:
    folder.voc({"a": [], "b": []})
    with pytest.raises(DataError, match=r"has no object in train .*, in 2 images; .*Annotate some"):
        list_objects(folder.root)


def test_one_class_is_enough(folder: Folder) -> None:
    folder.voc({"a": [CAT]})
    check_classes(list_objects(folder.root))


def test_first_ten_faults_are_named(folder: Folder) -> None:
    folder.voc({"a": [CAT, *[("dog", (5, 5, 5, 5))] * 12]})
    with pytest.raises(
        DataError,
        match=r"^12 of 13 boxes in .* are faulty:\n  .*: object 2 (.*\n  ){10}and 2 others.\nMend "
        r"them, or go on without with --skip-bad.$",
    ):
        refuse_faults(list_objects(folder.root))


def test_folder_that_is_none(folder: Folder) -> None:
    with pytest.raises(DataError, match=r"The folder .*/x' does not exist; give a folder of image"):
        list_objects(folder.root / "x")
    folder.put("x", "")
    with pytest.raises(DataError, match=r"/x' is a file; give the folder that holds it"):
        list_objects(folder.root / "x")


def test_no_images(folder: Folder) -> None:
    with pytest.raises(DataError, match=r"has no image \(.jpg .*\nExpected images with annotation"):
        list_objects(folder.root)
    folder.coco("all.json", {})
    with pytest.raises(DataError, match=r"has annotations, but no image \(.jpg .jpeg"):
        list_objects(folder.root)


def test_no_annotations(folder: Folder) -> None:
    folder.image("cat/a.png")
    folder.put("cat/notes.txt", "nothing of YOLO")
    with pytest.raises(
        DataError, match=r"has images, but no annotations of objects.\nExpected .*\n  Pascal VOC"
    ):
        list_objects(folder.root)


def test_only_names_of_classes(folder: Folder) -> None:
    folder.image("images/a.png")
    folder.put("data.yaml", "names: [cat]")
    with pytest.raises(DataError, match=r"has images/, but no folder labels/ beside it.\nExpected"):
        list_objects(folder.root)


def test_two_formats(folder: Folder) -> None:
    folder.voc({"a": [CAT]})
    folder.put("labels/a.txt", "0 .5 .5 .1 .1")
    with pytest.raises(
        DataError,
        match=r"in 2 formats: Pascal VOC \(Annotations/a.xml\), YOLO \(labels/a.txt\); keep one",
    ):
        list_objects(folder.root)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (
            ["images/train/a", "images/x/b", "labels/a"],
            r"images' has train/, but images in x/ that belong to no split; move them",
        ),
        (["images/val/a", "labels/a"], r"images' has val/ but no train/ with images"),
        (
            ["images/train/a", "images/val/b", "images/valid/c", "labels/a"],
            "has both val/ and valid/; keep",
        ),
        (
            ["images/a", "train/b"],
            "has train/, but images in images/ that belong to no split; move",
        ),
        (["train/a", "labels/a"], "has images in train/ beside labels/; keep one way of splitting"),
        (["images/a", "Images/b"], "has both Images/ and images/; keep one"),
        (["train/images/a"], "train' has images/, but no folder labels/ beside it"),
        (["sub/images/a", "sub/labels/x"], "is not the folder that holds images .*/sub' is; give"),
        (
            ["images/train/a", "labels/b"],
            "images/train' has images, but there is no .*labels/train",
        ),
        (
            ["images/train/a", "labels/train/a", "labels/val/b"],
            r"labels/val/b.txt' annotates no image: .*images/val' holds none; add the images, or",
        ),
    ],
)
def test_layouts_that_cannot_be_told(folder: Folder, paths: list[str], message: str) -> None:
    for path in paths:
        if "labels" in path:
            folder.put(f"{path}.txt", "0 .5 .5 .1 .1")
        else:
            folder.image(f"{path}.png")
    if paths == ["images/a", "Images/b"] and len(list(folder.root.iterdir())) == 1:
        pytest.skip("this file system does not tell Images/ from images/")
    folder.put("data.yaml", "names: [cat]")
    with pytest.raises(DataError, match=message):
        list_objects(folder.root)


def test_images_behind_a_link_inside(folder: Folder) -> None:
    folder.voc({"a": [CAT]})
    (folder.root / "JPEGImages").rename(folder.root / "stored")
    try:
        (folder.root / "JPEGImages").symlink_to("stored", target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    assert list_objects(folder.root).paths == ("JPEGImages/a.png",)


def test_files_that_are_closed(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.voc({"a": [CAT]})

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"a.xml' cannot be read \(Permission denied\); change its"):
        list_objects(folder.root)


def test_folders_that_are_closed(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.voc({"a": [CAT]})
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("Annotations"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"Annotations' cannot be read \(Permission denied\)"):
        list_objects(folder.root)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_names_that_are_no_text_can_be_printed(folder: Folder) -> None:
    folder.voc({"a": [CAT, ("dog", (5, 5, 5, 5))]})
    name = os.fsdecode(b"bad\xff")
    (folder.root / "JPEGImages/a.png").rename(folder.root / f"JPEGImages/{name}.png")
    (folder.root / "Annotations/a.xml").rename(folder.root / f"Annotations/{name}.xml")
    (fault,) = list_objects(folder.root).faults
    assert str(fault).startswith("JPEGImages/bad\\udcff.png: object 2 ('dog') in Annotations/bad\\")
    str(fault).encode()
