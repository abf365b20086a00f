from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketvision.data.folders import SPLITS
from pocketvision.data.objects.listing import refuse_faults
from pocketvision.data.objects.read import list_objects
from pocketvision.data.objects.voc import MAX_XML_BYTES, parse_xml, read_voc
from pocketvision.errors import DataError

if TYPE_CHECKING:
    from tests.data.objects.conftest import Folder

CAT = "<object><name>cat</name>{}<bndbox>{}</bndbox></object>"
BOX = "<xmin>11</xmin><ymin>6</ymin><xmax>50</xmax><ymax>25</ymax>"

BOMB = (
    '<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a0 "ha">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 20))
    + "]><annotation>&a19;</annotation>"
)
FETCH = (
    '<!DOCTYPE annotation [<!ENTITY f SYSTEM "file:///etc/passwd">]><annotation>&f;</annotation>'
)


def one(folder: Folder, objects: str) -> Path:
    """A folder with one image; its annotation has those objects."""
    folder.image("JPEGImages/a.png")
    folder.xml("Annotations/a.xml", objects)
    return folder.root


def test_boxes_are_counted_from_1_and_include_both_ends(folder: Folder) -> None:
    listing = list_objects(one(folder, CAT.format("", BOX)))
    assert listing.format == "voc"
    assert listing.classes == ("cat",)
    assert listing.paths == ("JPEGImages/a.png",)
    assert listing.annotations == ("Annotations/a.xml",)
    assert listing.sizes.tolist() == [[100, 50]]
    assert listing.objects.boxes.tolist() == [pytest.approx([0.1, 0.1, 0.5, 0.5])]
    assert listing.faults == ()


def test_whole_image_is_1_to_width(folder: Folder) -> None:
    box = "<xmin>1</xmin><ymin>1</ymin><xmax>100</xmax><ymax>50</ymax>"
    listing = list_objects(one(folder, CAT.format("", box)))
    assert listing.objects.boxes.tolist() == [[0, 0, 1, 1]]


def test_programs_that_count_from_0_are_clipped_silently(folder: Folder) -> None:
    box = "<xmin>0</xmin><ymin>0</ymin><xmax>100.0</xmax><ymax>51</ymax>"
    listing = list_objects(one(folder, CAT.format("", box)))
    assert listing.objects.boxes.tolist() == [[0, 0, 1, 1]]
    assert listing.faults == ()


def test_difficult_objects_are_ignored(folder: Folder) -> None:
    objects = CAT.format("<difficult>1</difficult>", BOX) + CAT.format("<difficult/>", BOX)
    assert list_objects(one(folder, objects)).objects.ignored.tolist() == [True, False]


def test_parts_of_an_object_are_not_its_name_or_box(folder: Folder) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    assert list_objects(one(folder, CAT.format(part, BOX))).classes == ("cat",)


def test_image_that_shows_nothing(folder: Folder) -> None:
    folder.voc({"a": [], "b": [("cat", (0, 0, 9, 9))], "c": []})
    listing = list_objects(folder.root)
    assert listing.objects.starts.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "layout",
    [
        ("train/{}", "train/{}"),
        ("train/images/{}", "train/annotations/{}"),
        ("images/train/{}", "annotations/train/{}"),
        ("images/{}", "annotations/{}"),
        ("{}", "{}"),
    ],
)
def test_layouts(folder: Folder, layout: tuple[str, str]) -> None:
    images, annotations = layout
    folder.image(images.format("a.PNG"))
    folder.xml(annotations.format("a.XML"), CAT.format("", BOX))
    if "train" in images:
        folder.image(images.format("b.png").replace("train", "valid"))
        folder.xml(annotations.format("b.xml").replace("train", "valid"), CAT.format("", BOX))
    listing = list_objects(folder.root)
    assert [SPLITS[code] for code in listing.splits] == ["train", "val"][: len(listing)]
    assert len(listing) == 1 + ("train" in images)
    assert all((folder.root / path).is_file() for path in listing.paths + listing.annotations)


def lists(folder: Folder, **names: Sequence[str]) -> None:
    folder.voc({name: [("cat", (0, 0, 9, 9))] for name in "abcd"})
    for split, ids in names.items():
        folder.put(f"ImageSets/Main/{split}.txt", "\n".join(ids) + "\n\n")


def test_lists_tell_the_splits(folder: Folder) -> None:
    lists(folder, train="cc", val="a", test="b", trainval="abcd")
    listing = list_objects(folder.root)
    assert listing.paths == tuple(f"JPEGImages/{name}.png" for name in "abc")  # d is in no list
    assert [SPLITS[code] for code in listing.splits] == ["val", "test", "train"]


def test_trainval_alone_is_train(folder: Folder) -> None:
    lists(folder, trainval="ab", test="c")
    listing = list_objects(folder.root)
    assert [SPLITS[code] for code in listing.splits] == ["train", "train", "test"]


def test_image_in_two_lists(folder: Folder) -> None:
    lists(folder, train="ab", val="cb")
    with pytest.raises(DataError, match=r"'b' is in train.txt and in val.txt of .*remove it from"):
        list_objects(folder.root)


def test_lists_without_train(folder: Folder) -> None:
    lists(folder, val="ab", trainval="abc")
    with pytest.raises(DataError, match=r"has val.txt but no train.txt; add it"):
        list_objects(folder.root)


def test_list_that_names_nothing_there(folder: Folder) -> None:
    lists(folder, train=["a", "x.png"])
    with pytest.raises(
        DataError, match=r"1 of 2 names in the list of train .*\n  'x.png'\nExpected one name"
    ):
        list_objects(folder.root)


def test_lists_beside_folders_of_splits(folder: Folder) -> None:
    folder.voc({"a": []}, under="train/")
    folder.voc({"b": []}, under="val/")
    folder.put("ImageSets/Main/train.txt", "a\n")
    with pytest.raises(DataError, match=r"split by folders and by lists in ImageSets/Main/ too"):
        list_objects(folder.root)


def test_images_without_annotation(folder: Folder) -> None:
    folder.voc({"a": []})
    folder.image(*(f"JPEGImages/x{number:02}.png" for number in range(12)))
    with pytest.raises(
        DataError,
        match=r"^12 images in .* have no annotation:\n  JPEGImages/x00.png\n(.*\n){9}"
        r"  and 2 others.\nAdd their .xml files",
    ):
        list_objects(folder.root)


def test_annotation_without_image(folder: Folder) -> None:
    folder.voc({"a": []})
    folder.xml("Annotations/b.xml")
    with pytest.raises(
        DataError, match=r"1 annotations in .* have no image:\n  Annotations/b.xml\nAdd the images"
    ):
        list_objects(folder.root)


def test_two_images_of_one_name(folder: Folder) -> None:
    folder.voc({"a": []})
    folder.image("JPEGImages/a.bmp")
    with pytest.raises(DataError, match=r"has both 'a.bmp' and 'a.png', and one annotation"):
        list_objects(folder.root)


@pytest.mark.parametrize("text", [BOMB, FETCH, "<!DOCTYPE annotation><annotation/>"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_document_types_are_refused_unread(folder: Folder, text: str, encoding: str) -> None:
    folder.image("JPEGImages/a.png")
    folder.put("Annotations/a.xml", text.encode(encoding))
    with pytest.raises(DataError, match=r"a.xml' declares a document type .* remove the declar"):
        list_objects(folder.root)


def test_deep_nesting_harms_nobody() -> None:
    deep = b"<annotation>" * 300_000 + b"</annotation>" * 300_000
    assert parse_xml(deep, "a.xml").tag == "annotation"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is no XML that can be read \(no element found.*write it anew, in UTF-8"),
        (b"<annotation><size>", r"is no XML that can be read \(no element found: line 1"),
        (b"<annotation>&nbsp;</annotation>", r"is no XML .*undefined entity"),
        (b'<?xml version="1.0" encoding="klingon"?><annotation/>', r"is no XML .*klingon"),
        (b'<?xml version="1.0" encoding="gbk"?><annotation/>', r"is no XML .*multi-byte"),
        (b"<svg/>", r"begins with <svg>; expected <annotation>"),
        (b"<annotation/>", r"has no <width> in its <size>; expected the image's width"),
        (b"<annotation>" + b" " * MAX_XML_BYTES, r"has 8 MB; an annotation file has 8 MB at most"),
    ],
)
def test_files_that_are_no_annotation(folder: Folder, content: bytes, message: str) -> None:
    folder.image("JPEGImages/a.png")
    folder.put("Annotations/a.xml", content)
    with pytest.raises(DataError, match=f"a.xml' {message}"):
        list_objects(folder.root)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_does_not_wait_for_ever(folder: Folder) -> None:
    folder.voc({"a": []})
    folder.image("JPEGImages/b.png")
    os.mkfifo(folder.root / "Annotations/b.xml")
    with pytest.raises(DataError, match=r"b.xml' is not a regular file; replace or remove it"):
        list_objects(folder.root)


@pytest.mark.parametrize("size", [(0, 50), (100, -1), (100, 2_000_000)])
def test_size_that_is_none(folder: Folder, size: tuple[int, int]) -> None:
    folder.image("JPEGImages/a.png")
    folder.xml("Annotations/a.xml", "", size)
    with pytest.raises(
        DataError, match=r"a.xml' has <size> with (width|height) '-?\d+'; expected .* 1 to 1,000,00"
    ):
        list_objects(folder.root)


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (f"<object><bndbox>{BOX}</bndbox></object>", r"object 2 has no <name>; add that of"),
        ("<object><name>cat</name></object>", r"object 2 \('cat'\) has no <bndbox>; add its"),
        (
            CAT.format("", BOX.replace("50", "fifty")),
            r"object 2 \('cat'\) has xmax = 'fifty' in its <bndbox>; expected a number of pixels",
        ),
        (CAT.format("", "<xmin>1</xmin>"), r"object 2 \('cat'\) has no <ymin> in its <bndbox>"),
        (
            CAT.format("<difficult>perhaps</difficult>", BOX),
            r"object 2 \('cat'\) has <difficult> 'perhaps'; expected 0 or 1",
        ),
    ],
)
def test_objects_that_are_none(folder: Folder, objects: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"a.xml', {message}"):
        list_objects(one(folder, CAT.format("", BOX) + objects))


@pytest.mark.parametrize(
    ("box", "kind", "sentence"),
    [
        ((30, 6, 30, 25), "empty", "has no area: xmin, ymin, xmax, ymax = 30, 6, 30, 25"),
        ((50, 6, 30, 25), "empty", "has no area: xmin, ymin, xmax, ymax = 50, 6, 30, 25"),
        ((120, 6, 130, 25), "empty", "lies outside the image of 100x50 pixels: xmin"),
        ((90, 6, 130, 25), "outside", "reaches outside the image of 100x50 pixels by 30 pixels"),
        ((90, -6, 100, 25), "outside", "reaches outside the image of 100x50 pixels by 7 pixels"),
        (("nan", 6, 30, 25), "not a number", "has a coordinate that is no finite number: xmin"),
        ((1, 6, "inf", 25), "not a number", "has a coordinate that is no finite number: xmin"),
    ],
)
def test_faulty_boxes(folder: Folder, box: tuple[object, ...], kind: str, sentence: str) -> None:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    text = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    listing = list_objects(one(folder, CAT.format("", BOX) + CAT.format("", text)))
    (fault,) = listing.faults
    assert (fault.path, fault.object, fault.kind) == ("JPEGImages/a.png", 2, kind)
    assert len(listing.objects.labels) == 1 + (kind == "outside")
    assert listing.objects.boxes.min() >= 0
    assert listing.objects.boxes.max() <= 1
    with pytest.raises(
        DataError,
        match=r"^1 of 2 boxes in .* are faulty:\n  JPEGImages/a.png: object 2 \('cat'\) in "
        rf"Annotations/a.xml {re.escape(sentence)}.*\nMend them, or go on without with --skip-bad",
    ):
        refuse_faults(listing)


@given(
    st.binary() | st.text().map(str.encode) | st.text().map("<annotation>{}".format).map(str.encode)
)
def test_open_input_gives_a_tree_or_an_error(data: bytes) -> None:
    with contextlib.suppress(DataError):
        assert parse_xml(data, "a.xml").tag == "annotation"


@pytest.fixture(scope="module")
def blood_cells() -> Path:
    root = os.environ.get("POCKETVISION_TEST_DATA")
    if not root or not (Path(root) / "data/bccd").is_dir():
        pytest.skip("$POCKETVISION_TEST_DATA names no folder with data/bccd")
    return Path(root) / "data/bccd"


def test_real_annotations(blood_cells: Path) -> None:
    listing = list_objects(blood_cells)
    assert listing.classes == ("Platelets", "RBC", "WBC")
    assert Counter(SPLITS[code] for code in listing.splits) == {"train": 205, "val": 87, "test": 72}
    assert len(listing.objects) == 364
    assert len(listing.objects.labels) == 4886
    assert set(map(tuple, listing.sizes.tolist())) == {(640, 480)}
    assert [(fault.path, fault.kind) for fault in listing.faults] == [
        ("JPEGImages/BloodImage_00338.jpg", "empty"),
        ("JPEGImages/BloodImage_00343.jpg", "empty"),
    ]
    with pytest.raises(DataError, match=r"2 of 4888 boxes .*\n  JPEGImages/BloodImage_00338.jpg: "):
        refuse_faults(listing)


def test_reader_alone_wants_its_layout(folder: Folder) -> None:
    folder.voc({"a": []}, under="VOC2007/")
    with pytest.raises(DataError, match=r"is not the folder .*VOC2007' is; give that one"):
        read_voc(folder.root)
