from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketvision.data.folders import SPLITS
from pocketvision.data.objects.coco import parse_coco, read_coco
from pocketvision.data.objects.coco_files import ROBOFLOW
from pocketvision.data.objects.listing import Annotated, listing_of, names_in, refuse_faults
from pocketvision.data.objects.read import list_objects
from pocketvision.errors import DataError

if TYPE_CHECKING:
    from tests.data.objects.conftest import Drawn, Folder

CAT: Drawn = ("cat", (10, 5, 50, 25))
DOG: Drawn = ("dog", (0, 0, 100, 50))

Document = dict[str, Any]


def document() -> Document:
    """One image, two categories, one annotation."""
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 50}],
        "categories": [{"id": 10, "name": "cat"}, {"id": 11, "name": "dog"}],
        "annotations": [
            {"id": 100, "image_id": 1, "category_id": 10, "bbox": [10, 5, 40, 20], "area": "x"}
        ],
    }


def splits_of(folder: Folder) -> dict[str, str]:
    listing = list_objects(folder.root)
    assert listing.format == "coco"
    return {path: SPLITS[code] for path, code in zip(listing.paths, listing.splits, strict=True)}


def test_boxes_are_measured_from_the_edge(folder: Folder) -> None:
    folder.coco("all.json", {"b": [DOG], "a": [DOG, CAT], "c": []}, images="")
    listing = list_objects(folder.root)
    assert listing.classes == ("cat", "dog")
    assert listing.paths == ("a.png", "b.png", "c.png")
    assert listing.annotations == ("all.json",) * 3
    assert listing.sizes.tolist() == [[100, 50]] * 3
    assert listing.objects.starts.tolist() == [0, 2, 3, 3]
    assert listing.objects.labels.tolist() == [1, 0, 1]
    assert listing.objects.boxes[1].tolist() == pytest.approx([0.1, 0.1, 0.5, 0.5])
    assert set(listing.splits.tolist()) == {0}


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("annotations/instances_{}2017.json", "{}2017/"),
        ("annotations/instances_{}.json", "{}/"),
        ("annotations/instances_{}.json", "images/{}/"),
        ("Annotations/{}.json", "images/{}/"),
        ("annotations/instances_{}.json", "images/"),
        ("annotations/instances_{}.json", "annotations/"),
        ("annotations/instances_{}.json", ""),
        ("{}-cells.json", "{}/images/"),
        ("{}/" + ROBOFLOW, "{}/"),
    ],
)
def test_layouts(folder: Folder, file: str, images: str) -> None:
    folder.coco(file.format("train"), {"a": [CAT]}, images.format("train"))
    folder.coco(file.format("valid"), {"b": [CAT]}, images.format("valid"))
    folder.coco(file.format("test"), {"c": [CAT]}, images.format("test"))
    assert splits_of(folder) == {
        f"{images.format('train')}a.png": "train",
        f"{images.format('valid')}b.png": "val",
        f"{images.format('test')}c.png": "test",
    }


@pytest.mark.parametrize(
    "name", ["labels.json", "train.json", "annotations/instances_default.json"]
)
def test_one_file_alone_is_train(folder: Folder, name: str) -> None:
    folder.coco(name, {"sub/a": [CAT]}, "images/")
    folder.put("package.json", '{"name": "not of COCO"}')
    folder.put("empty.json", "")
    assert splits_of(folder) == {"images/sub/a.png": "train"}


def test_trainval_counts_where_nothing_else_does(folder: Folder) -> None:
    folder.coco("annotations/instances_trainval.json", {"a": [CAT]}, "images/")
    folder.coco("annotations/instances_test.json", {"b": [CAT]}, "images/")
    assert splits_of(folder) == {"images/a.png": "train", "images/b.png": "test"}
    folder.coco("annotations/instances_train.json", {"c": [CAT]}, "images/")
    assert splits_of(folder) == {"images/b.png": "test", "images/c.png": "train"}


def test_captions_and_key_points_are_left_alone(folder: Folder) -> None:
    folder.coco("annotations/instances_train2017.json", {"a": [CAT]}, "train2017/")
    folder.coco("annotations/captions_train2017.json", {"x": [CAT]})
    folder.coco("annotations/person_keypoints_train2017.json", {"x": [CAT]})
    assert splits_of(folder) == {"train2017/a.png": "train"}


def test_categories_are_matched_by_name(folder: Folder) -> None:
    folder.coco("instances_train.json", {"a": [CAT, DOG]}, "train/")
    folder.coco("instances_val.json", {"b": [DOG]}, "val/")  # here its number is that of cat
    assert list_objects(folder.root).objects.labels.tolist() == [0, 1, 1]


def test_categories_without_objects_are_no_classes(folder: Folder) -> None:
    """Roboflow's category 0 is the name of the project."""
    folder.image("a.png")
    folder.put("all.json", json.dumps(document()))
    assert list_objects(folder.root).classes == ("cat",)


def test_crowds_are_ignored(folder: Folder) -> None:
    stated = document()
    box = stated["annotations"][0]
    stated["annotations"] += [box | {"id": 101, "iscrowd": 1}, box | {"id": 102, "iscrowd": 0}]
    folder.image("a.png")
    folder.put("all.json", json.dumps(stated))
    assert list_objects(folder.root).objects.ignored.tolist() == [False, True, False]


def test_images_that_are_missing(folder: Folder) -> None:
    folder.coco("annotations/instances_train.json", {name: [CAT] for name in "abc"})
    folder.image("images/a.png")
    with pytest.raises(
        DataError,
        match=r"2 of 3 images of images/ that .*instances_train.json' names are missing:\n"
        r"  'b.png'\n  'c.png'\nLooked in images/, annotations/, ./; images may lie in train/, ",
    ):
        list_objects(folder.root)


def test_no_image_found_anywhere(folder: Folder) -> None:
    folder.coco("all.json", {"a": [CAT]})
    folder.image("elsewhere/a.png")
    with pytest.raises(
        DataError, match=r"1 of 1 images that .*all.json' names are missing:\n  'a.png'\nLooked in "
    ):
        list_objects(folder.root)


def test_image_of_two_splits(folder: Folder) -> None:
    folder.coco("instances_train.json", {"a": [CAT]}, "images/")
    folder.coco("instances_val.json", {"a": [CAT]})
    with pytest.raises(
        DataError,
        match=r"a.png' is annotated twice: for train in 'instances_train.json' and for val in "
        r"'instances_val.json'; keep one",
    ):
        list_objects(folder.root)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.json", "b.json"], "has 2 COCO files, such as 'a.json' and 'b.json'; keep one, or"),
        (["train.json", "b.json"], r"b.json' is a COCO file whose name tells no split; expected"),
        (
            ["instances_train2014.json", "instances_train2017.json"],
            "has both 'instances_train2014.json' and 'instances_train2017.json' for train; keep",
        ),
        (["val.json"], "has 'val.json' but no COCO file of train; add it"),
        (["valid/" + ROBOFLOW], "has 'valid/_annotations.coco.json' but no COCO file of train"),
        (
            ["train/" + ROBOFLOW, "val/" + ROBOFLOW, "valid/" + ROBOFLOW],
            "has both val/ and valid/; keep one",
        ),
    ],
)
def test_files_that_cannot_be_told_apart(folder: Folder, files: list[str], message: str) -> None:
    for file in files:
        folder.coco(file, {"a": [CAT]})
    with pytest.raises(DataError, match=message):
        list_objects(folder.root)


def test_split_without_file(folder: Folder) -> None:
    folder.coco("train/" + ROBOFLOW, {"a": [CAT]}, "train/")
    folder.image("valid/b.png")
    with pytest.raises(
        DataError, match=r"has images of val without a _annotations.coco.json, which train/ has"
    ):
        list_objects(folder.root)


def test_reader_alone_wants_a_file(folder: Folder) -> None:
    with pytest.raises(DataError, match=r"has no COCO file.\nExpected images with annotations"):
        read_coco(folder.root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"is no JSON that can be read \(Expecting value: line 1 column 1.*write it anew"),
        ('{"images": [', r"is no JSON that can be read \(Expecting value"),
        ("[" * 200_000, r"is no JSON that can be read \(.*recursion"),
        (b'{"images\xff": []}', r"is no JSON that can be read \(.*utf-8"),
        ("9" * 5000, r"is no JSON that can be read \(.*digits"),
    ],
)
def test_damaged_files(folder: Folder, text: str | bytes, message: str) -> None:
    folder.image("train/a.png")
    folder.put("annotations/instances_train.json", text)
    with pytest.raises(DataError, match=f"instances_train.json' {message}"):
        list_objects(folder.root)


IMAGE, CATEGORY, BOX = ("images", 0), ("categories", 0), ("annotations", 0)


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        ((), [], r"'c.json' holds \[\]; expected an object with 'images', 'categories' and"),
        (("images",), None, r"has images = null; a COCO file needs the list 'images'"),
        (IMAGE, 5, r"images\[0\] is 5; expected an object with an 'id'"),
        ((*IMAGE, "id"), "1", r'images\[0\] has id = "1"; expected a whole number'),
        ((*IMAGE, "id"), True, r"images\[0\] has id = true; expected a whole number"),
        ((*IMAGE, "file_name"), 7, r"image 1 has file_name = 7; expected the file's name"),
        ((*IMAGE, "file_name"), "../a.png", r'image 1 has the file_name "../a.png", which leads'),
        ((*IMAGE, "file_name"), "x/../../a.png", r"which leads out of the folder; expected a rel"),
        ((*IMAGE, "file_name"), "/a.png", r"which leads out of the folder"),
        ((*IMAGE, "file_name"), "..\\a.png", r"which leads out of the folder"),
        ((*IMAGE, "file_name"), "C:a.png", r"which leads out of the folder"),
        ((*IMAGE, "file_name"), "a.txt", r'the file_name "a.txt", which is no image; expected one'),
        ((*IMAGE, "width"), 0, r"image 1 has width = 0; expected the image's width in pixels"),
        ((*IMAGE, "height"), 5.5, r"image 1 has height = 5.5; expected .* from 1 to 1,000,000"),
        ((*IMAGE, "height"), float("nan"), r"image 1 has height = NaN; expected"),
        ((*CATEGORY, "name"), "", r'category 10 has name = ""; expected text'),
        ((*CATEGORY, "name"), "dog", r"categories 10 and 11 are both called 'dog'; rename one"),
        ((*CATEGORY, "id"), 11, r"categories\[1\] has the id 11, which another of categories has"),
        ((*BOX, "image_id"), 2, r"annotation 100 has the image_id 2, but no image has this id; ad"),
        ((*BOX, "category_id"), 2, r"annotation 100 has the category_id 2, but no category has th"),
        ((*BOX, "category_id"), [], r"annotation 100 has category_id = \[\]; expected a whole"),
        ((*BOX, "bbox"), [1, 2, 3], r"annotation 100 has bbox = \[1, 2, 3\]; expected \[x, y, "),
        ((*BOX, "bbox"), [1, 2, 3, "4"], r"annotation 100 has bbox = .*in pixels"),
        ((*BOX, "bbox"), ["x" * 99], r'annotation 100 has bbox = \["x{78}\.\.\.; expected'),
        ((*BOX, "iscrowd"), 2, r"annotation 100 has iscrowd = 2; expected 0 or 1"),
    ],
)
def test_contradictions(where: tuple[str | int, ...], change: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_coco(changed(document(), where, change), "c.json")


def changed(stated: Any, where: tuple[str | int, ...], change: object) -> Any:
    """The document with another value in one place."""
    if not where:
        return change
    stated[where[0]] = changed(stated[where[0]] if len(where) > 1 else None, where[1:], change)
    return stated


@pytest.mark.parametrize(
    ("place", "key", "message"),
    [
        ("images", "file_name", "image 1 has no 'file_name'; expected"),
        ("images", "width", "image 1 has no 'width'; expected"),
        ("annotations", "id", r"annotations\[0\] has no 'id'; expected"),
        ("annotations", "bbox", "annotation 100 has no 'bbox'; expected"),
    ],
)
def test_what_is_missing(place: str, key: str, message: str) -> None:
    stated = document()
    del stated[place][0][key]
    with pytest.raises(DataError, match=message):
        parse_coco(stated, "c.json")


def test_file_named_twice() -> None:
    stated = document()
    stated["images"].append(stated["images"][0] | {"id": 2, "file_name": "./a.png"})
    with pytest.raises(DataError, match=r"images 1 and 2 are both the file 'a.png'; make them one"):
        parse_coco(stated, "c.json")


@pytest.mark.parametrize(
    ("box", "kind", "sentence"),
    [
        ([10, 5, 0, 9], "empty", "has no area: x, y, width, height = 10, 5, 0, 9"),
        ([10, 5, -4, 9], "empty", "has no area"),
        ([10, 50, 4, 9], "empty", "lies outside the image of 100x50 pixels"),
        ([98, 5, 4.5, 9], "outside", "reaches outside the image of 100x50 pixels by 2.5 pixels"),
        ([float("nan"), 5, 4, 9], "not a number", "has a coordinate that is no finite number"),
        ([1, 5, 10**400, 9], "not a number", "has a coordinate that is no finite number"),
    ],
)
def test_faulty_boxes(folder: Folder, box: list[float], kind: str, sentence: str) -> None:
    stated = document()
    stated["annotations"].append(stated["annotations"][0] | {"id": 7, "bbox": box})
    folder.image("a.png")
    folder.put("all.json", json.dumps(stated))
    listing = list_objects(folder.root)
    assert [(fault.path, fault.object, fault.kind) for fault in listing.faults] == [
        ("a.png", 2, kind)
    ]
    with pytest.raises(
        DataError, match=rf"1 of 2 .*\n  a.png: annotation 7 \('cat'\) in all.json {sentence}"
    ):
        refuse_faults(listing)


def test_one_pixel_outside_is_clipped_silently(folder: Folder) -> None:
    folder.coco("all.json", {"a": [("cat", (-1, -1, 101, 51))]}, "")
    listing = list_objects(folder.root)
    assert listing.objects.boxes.tolist() == [[0, 0, 1, 1]]
    assert listing.faults == ()


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
PLACES = [
    (),
    *((key,) for key in ("images", "categories", "annotations")),
    *((*entry, key) for entry in (IMAGE, CATEGORY, BOX) for key in ("id", "name", "file_name")),
    *((*IMAGE, key) for key in ("width", "height")),
    *((*BOX, key) for key in ("image_id", "category_id", "iscrowd", "bbox")),
    *((*BOX, "bbox", number) for number in range(4)),
]


@given(st.lists(st.tuples(st.sampled_from(PLACES), JUNK | st.integers(1, 100)), max_size=3))
def test_junk_gives_objects_or_an_error(
    changes: list[tuple[tuple[str | int, ...], object]],
) -> None:
    stated: Any = document()
    try:
        for where, change in changes:
            stated = changed(stated, where, change)
    except (TypeError, LookupError, AttributeError):
        return  # one change removed where the next would go
    try:
        images = [
            Annotated(image.name, "train", "c.json", image.objects, image.size)
            for image in parse_coco(json.loads(json.dumps(stated)), "c.json")
        ]
        listing = listing_of(Path(), "coco", names_in(images), images)
    except DataError:
        return
    assert len(listing.objects) == len(listing)
    assert ((listing.objects.boxes >= 0) & (listing.objects.boxes <= 1)).all()
