from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketvision.data.folders import SPLITS
from pocketvision.data.objects.listing import refuse_faults
from pocketvision.data.objects.read import list_objects
from pocketvision.data.objects.yolo import parse_labels
from pocketvision.data.objects.yolo_names import parse_yaml
from pocketvision.errors import DataError

if TYPE_CHECKING:
    from tests.data.objects.conftest import Drawn, Folder

CAT: Drawn = ("cat", (10, 5, 50, 25))
NAMES = ("dog", "cat")
LINE = "1 0.3 0.3 0.4 0.4\n"


def test_fractions_of_the_image(folder: Folder) -> None:
    folder.yolo({"a": [CAT], "b": []}, NAMES)
    folder.image("images/sub/c.png")  # without a label file
    listing = list_objects(folder.root)
    assert listing.format == "yolo"
    assert listing.classes == NAMES
    assert listing.paths == ("images/a.png", "images/b.png", "images/sub/c.png")
    assert listing.annotations == ("labels/a.txt", "labels/b.txt", "labels/sub/c.txt")
    assert listing.sizes.tolist() == [[0, 0]] * 3
    assert listing.objects.starts.tolist() == [0, 1, 1, 1]
    assert listing.objects.labels.tolist() == [1]
    assert listing.objects.boxes.tolist() == [pytest.approx([0.1, 0.1, 0.5, 0.5])]
    assert not listing.objects.ignored.any()


@pytest.mark.parametrize(
    "layout",
    [
        ("images/{}/", "labels/{}/"),
        ("images/{}2017/", "labels/{}2017/"),
        ("{}/images/", "{}/labels/"),
        ("{}/", "{}/"),
    ],
)
def test_layouts(folder: Folder, layout: tuple[str, str]) -> None:
    images, labels = layout
    for split in ("train", "valid", "test"):
        folder.image(f"{images.format(split)}{split}.png")
        folder.put(f"{labels.format(split)}{split}.txt", LINE)
    folder.put("data.yaml", "names: [dog, cat]\ntrain: ../train/images\n")
    folder.put("README.roboflow.txt", "about these data")
    listing = list_objects(folder.root)
    found = {
        path.rpartition("/")[2]: SPLITS[code]
        for path, code in zip(listing.paths, listing.splits, strict=True)
    }
    assert found == {"train.png": "train", "valid.png": "val", "test.png": "test"}
    assert len(listing.objects.labels) == 3


def test_everything_in_one_folder(folder: Folder) -> None:
    folder.image("a.png", "b.JPG")
    folder.put("b.txt", LINE)
    folder.put("classes.txt", "dog\ncat\n")
    listing = list_objects(folder.root)
    assert listing.paths == ("a.png", "b.JPG")
    assert listing.objects.starts.tolist() == [0, 0, 1]


def test_names_in_classes_txt(folder: Folder) -> None:
    folder.image("images/a.png")
    folder.put("labels/a.txt", LINE)
    folder.put("labels/classes.txt", "dog\n cat \n\n")
    assert list_objects(folder.root).classes == NAMES
    folder.put("classes.txt", "cat\ndog\n")
    with pytest.raises(DataError, match=r"labels/classes.txt' name different classes; keep one"):
        list_objects(folder.root)


def test_no_names(folder: Folder) -> None:
    folder.yolo({"a": [CAT]}, NAMES)
    (folder.root / "data.yaml").unlink()
    with pytest.raises(DataError, match=r"has neither data.yaml nor classes.txt, and YOLO's lab"):
        list_objects(folder.root)


def test_two_yaml_files(folder: Folder) -> None:
    folder.yolo({"a": [CAT]}, NAMES)
    (folder.root / "data.yaml").rename(folder.root / "cells.yaml")
    assert list_objects(folder.root).classes == NAMES
    folder.put("other.yml", "")
    with pytest.raises(DataError, match=r"has both 'cells.yaml' and 'other.yml'; call the one"):
        list_objects(folder.root)


@pytest.mark.parametrize(
    "text",
    [
        "names: [dog, cat]",
        "nc: 2\nnames: ['dog', \"cat\"]  # two",
        "names: ['dog',\n        'cat',\n]\nnc: 2",
        "names: {0: dog, 1: cat}",
        "names:\n  - dog\n  - cat\nnc: 2",
        "names: # two\n- 'dog' # one\n\n- \"cat\"\nroboflow:\n  workspace: x\n",
        "path: x\nnames:\n  0: dog\n  # more\n  1: cat  # another\ndownload: |\n  names: no",
        "names:\n  1: cat\n  0: dog",
    ],
)
def test_names_in_yaml(text: str) -> None:
    assert parse_yaml(text, "data.yaml") == NAMES


def test_names_with_signs_in_yaml() -> None:
    text = """names: ['it''s', "a \\"b\\" \\\\", C#, driver's seat]"""
    assert parse_yaml(text, "data.yaml") == ("it's", 'a "b" \\', "C#", "driver's seat")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nc: 2", "has 0 keys 'names'; expected one"),
        ("names: [a]\nnames: [b]", "has 2 keys 'names'; expected one"),
        ("names: cat", r"has names that are not read, at 'cat'. names may be written in one of"),
        ("names: &list [cat]", "has names that are not read, at '&list"),
        ("names: [cat", "has names that are not read, at 'cat'"),
        ("names: [cat, [dog]]", r"has names that are not read, at '\[dog\]\]'"),
        ("names: [cat, }", r"has names that are not read, at '}'"),
        ("names: [cat,, dog]", "has names that are not read, at ', dog]'"),
        ("names: [0: cat]", "has names that are not read, at '0: cat'"),
        ("names: {cat, dog}", "has names that are not read, at 'cat'"),
        ("names:\n  - cat: 3", "has names that are not read, at 'cat: 3'"),
        ("names:\n  - *cat", r"has names that are not read, at '\*cat'"),
        ("names:\n  - cat\n  1: dog", "has names that are not read, at '1: dog'"),
        ("names:\n  cat\n", "has names that are not read, at 'cat'"),
        ('names: ["\\u00e9"]', r"has \\u in the name .*, which is not read; write the name out"),
        ("names: []", "has no names of classes; expected one for each number"),
        ("names:\nnc: 3", "has no names of classes"),
        ("names: ['', cat]", "has no name for class 0"),
        ("names: [cat, dog, cat]", "calls both class 0 and class 2 'cat'; rename one"),
        ("names: {1: cat, 2: dog}", "numbers its names 1, 2; expected each number from 0 to 1"),
        ("names: [cat]\nnc: 3", "says nc: 3, but has 1 names; correct one of both"),
        ("names: [cat]\nval: ./val.txt", r"gives the images of val in a list, './val.txt'; lists"),
    ],
)
def test_names_that_are_not_read(text: str, message: str) -> None:
    with pytest.raises(DataError, match=f"'data.yaml' {message}"):
        parse_yaml(text, "data.yaml")


def test_names_that_are_no_text(folder: Folder) -> None:
    folder.yolo({"a": [CAT]}, NAMES)
    folder.put("data.yaml", b"names: [\xff]")
    with pytest.raises(DataError, match=r"data.yaml' is no UTF-8 text .*; write it anew"):
        list_objects(folder.root)
    folder.put("data.yaml", b"names: [dog, 'c\0at']")
    with pytest.raises(DataError, match=r"The class name 'c\\x00at' is not printable text; rename"):
        list_objects(folder.root)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 0.5 0.5 0.1", r"is '1 0.5 0.5 0.1', 4 words; expected 5 numbers: class, centre x, cen"),
        ("1 .5 .5 .1 .1 .9", r".* 6 words; .* A sixth number is how sure a network was"),
        ("1 .1 .1 .1 .2 .2 .2", r".* 7 words; .* the outline of a segmentation; export boxes"),
        ("cat .5 .5 .1 .1", r"has the class = 'cat'; expected a number"),
        ("2 .5 .5 .1 .1", r"has the class '2', but there are 2 names; expected .* from 0 to 1"),
        ("-1 .5 .5 .1 .1", r"has the class '-1', but there are 2 names"),
        ("0.5 .5 .5 .1 .1", r"has the class '0.5', but there are 2 names"),
        ("nan .5 .5 .1 .1", r"has the class 'nan', but there are 2 names"),
        ("1 312 .5 .1 .1", r"has centre x = 312; YOLO values are fractions of the image, from 0 "),
        ("1 .5 -0.01 .1 .1", r"has centre y = -0.01; YOLO values are fractions"),
        ("1 .5 .5 1.01 .1", r"has width = 1.01; YOLO values .*Divide pixels by"),
        ("1 .5 .5 .1 tall", r"has height = 'tall'; expected a number"),
    ],
)
def test_lines_that_are_no_object(line: str, message: str) -> None:
    with pytest.raises(DataError, match=f"^'a.txt', line 3 {message}"):
        parse_labels(f"{LINE}\n{line}\n", NAMES, "a.txt")


def test_class_written_as_a_fraction() -> None:
    (stated,) = parse_labels("1.000e+00 .5 .5 .1 .1", NAMES, "a.txt")
    assert stated.name == "cat"


def test_label_without_image(folder: Folder) -> None:
    folder.yolo({"a": [CAT]}, NAMES)
    folder.put("labels/b.txt", "")
    with pytest.raises(
        DataError, match=r"1 label files in .* have no image:\n  labels/b.txt\nAdd the images"
    ):
        list_objects(folder.root)


def test_split_without_any_label(folder: Folder) -> None:
    folder.yolo({"a": [CAT]}, NAMES, split="train/")
    folder.image("images/val/b.png")
    (folder.root / "labels/val").mkdir()
    with pytest.raises(
        DataError, match=r"None of the 1 images in .*images/val' has a label file in .*labels/val'"
    ):
        list_objects(folder.root)


@pytest.mark.parametrize(
    ("line", "kind", "sentence"),
    [
        ("1 .5 .5 0 .1", "empty", "has no area: centre x, centre y, width, height = 0.5, 0.5, 0"),
        ("1 .5 .5 .1 1e-30", "empty", "has no area"),
        ("1 .9 .5 .3 .1", "outside", "reaches outside the image by 0.05 of its side"),
        ("1 .9 nan .3 .1", "not a number", "has a coordinate that is no finite number"),
        ("1 .9 .5 inf .1", "not a number", "has a coordinate that is no finite number"),
    ],
)
def test_faulty_boxes(folder: Folder, line: str, kind: str, sentence: str) -> None:
    folder.yolo({"a": [CAT]}, NAMES)
    folder.put("labels/a.txt", f"{LINE}\n{line}")
    listing = list_objects(folder.root)
    assert [(fault.object, fault.kind) for fault in listing.faults] == [(2, kind)]
    with pytest.raises(
        DataError, match=rf"1 of 2 .*\n  images/a.png: line 3 \('cat'\) in labels/a.txt {sentence}"
    ):
        refuse_faults(listing)


def test_rounding_is_no_fault(folder: Folder) -> None:
    folder.yolo({"a": [CAT]}, NAMES)
    folder.put("labels/a.txt", "0 0.5001 0.5 1.0005 0.98\n0 0.5 -0.0005 0.5 0.019\n")
    listing = list_objects(folder.root)
    assert listing.faults == ()
    assert np.isin([0, 1], listing.objects.boxes[0]).all()


WORD = st.sampled_from(["0", "1", "2", "0.5", "nan", "-inf", "1e999", "x", "0_1", "٣", "9" * 5000])
LINES = st.lists(st.lists(WORD | st.floats(-0.1, 1.1).map(str), max_size=7).map(" ".join))


@given(st.text() | LINES.map("\n".join))
def test_open_input_gives_objects_or_an_error(text: str) -> None:
    try:
        objects = parse_labels(text, NAMES, "a.txt")
    except DataError:
        return
    assert all(stated.name in NAMES for stated in objects)
    assert [stated.number for stated in objects] == list(range(1, len(objects) + 1))


YAML = st.text(alphabet="ab0 1:-,[]{}'\"\\#\n", max_size=40)


@given(st.text() | YAML.map("names: {}".format) | YAML.map("names:\n{}".format))
def test_open_yaml_gives_names_or_an_error(text: str) -> None:
    try:
        names = parse_yaml(text, "data.yaml")
    except DataError:
        return
    assert names
    assert len(set(names)) == len(names)
    assert "" not in names
