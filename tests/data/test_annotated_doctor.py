"""What is said of masks and boxes before anything is trained on them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shapes import shape_of, write_boxes, write_masks

from pocketvision.data.annotated_doctor import examine_annotated
from pocketvision.data.doctor import PhotoFindings
from pocketvision.data.masks.samples import scan_masks
from pocketvision.data.objects.samples import scan_objects


def of_masks(folder: Path) -> PhotoFindings:
    return examine_annotated(scan_masks(folder, skip_bad=True))


def of_boxes(folder: Path) -> PhotoFindings:
    return examine_annotated(scan_objects(folder, skip_bad=True))


def sentence(found: PhotoFindings, code: str) -> str:
    (one,) = (one for one in found.findings if one.finding.code == code)
    return f"{one.finding.severity}: {one.finding.sentence}"


def test_sound_folders(tmp_path: Path) -> None:
    masks = of_masks(write_masks(tmp_path / "masks"))
    assert masks.exit_code == 0
    assert {one.finding.code for one in masks.findings} == {"set-aside"}
    assert masks.totals == {"train": 28, "val": 6, "test": 6}
    assert masks.counts["train"] == (28, 28, 28)
    boxes = of_boxes(write_boxes(tmp_path / "boxes"))
    assert boxes.exit_code == 0
    assert sentence(boxes, "no-objects").startswith("note: 1 image without an object")
    assert boxes.counted == "objects"


def test_faulty_masks_are_listed(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "masks")
    Image.fromarray(np.full((48, 64), 7, np.uint8)).save(folder / "masks" / "1.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "masks" / "2.png")
    found = of_masks(folder)
    told = sentence(found, "unusable")
    assert told.startswith("error: 2 faults: masks/1.png: value 7, but there are 3 classes")
    assert "masks/2.png: 4x4, but its image is 64x48" in told
    assert found.exit_code == 1


def test_copies_across_splits(tmp_path: Path) -> None:
    folder = tmp_path / "streets"
    for split, count in (("train", 30), ("val", 4), ("test", 4)):
        write_masks(folder / split, count + 10)
        (folder / split / "classes.txt").unlink()
        for number in range(count, count + 10):
            for name in ("images", "masks"):
                (folder / split / name / f"{number}.png").unlink()
    found = of_masks(folder)
    assert "are in another split too" in sentence(found, "copies-across-splits")


def test_rare_and_absent_classes(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "masks")
    (folder / "classes.txt").write_text("ground\nred\nblue\nnever\nseldom\n")
    for number in range(12):
        mask = shape_of(number)[1]
        mask[0, 0] = 4
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    found = of_masks(folder)
    assert "train has no image of never" in sentence(found, "class-absent")
    assert "seldom (" in sentence(found, "tiny-classes")
    assert "pixels of ground, but" in sentence(found, "imbalance")


def test_boxes_that_are_doubled_or_empty(tmp_path: Path) -> None:
    folder = write_boxes(tmp_path / "boxes")
    path = folder / "labels" / "5.txt"
    path.write_text(path.read_text() + "\n" + path.read_text())
    (folder / "labels" / "6.txt").write_text("0 0.5 0.5 0 0.1\n1 0.5 0.5 0.2 0.2\n")
    found = of_boxes(folder)
    assert "1 image with two boxes of a class on one object" in sentence(found, "doubled-boxes")
    assert "images/5.png" in sentence(found, "doubled-boxes")
    assert "images/6.png" in sentence(found, "unusable")


def test_reencoded_copies_across_splits(tmp_path: Path) -> None:
    """One of val that train has as JPEG: other bytes, the same picture; the mask is its own."""
    folder = tmp_path / "streets"
    write_masks(folder / "train", 40)
    write_masks(folder / "val", 60)
    for number in range(40):
        for name in ("images", "masks"):
            (folder / "val" / name / f"{number}.png").unlink()
    with Image.open(folder / "val" / "images" / "50.png") as image:
        image.save(folder / "train" / "images" / "copy.jpg", quality=75)
    shutil.copy(folder / "val" / "masks" / "50.png", folder / "train" / "masks" / "copy.png")
    found = of_masks(folder)
    told = sentence(found, "near-across-splits")
    assert told.startswith("warning: 1 pair of images that look like copies")
    assert "train/images/copy.jpg" in told
    assert "val/images/50.png" in told
    assert [len(rule.rows) for rule in found.left_out] == [1]


@pytest.mark.parametrize("writer", [write_masks, write_boxes])
def test_near_copies_are_told(tmp_path: Path, writer: Callable[[Path], Path]) -> None:
    folder = writer(tmp_path / "data")
    image = folder / "images" / "3.png"
    Image.open(image).resize((128, 96)).save(folder / "images" / "copy.png")
    if (folder / "masks").exists():
        Image.open(folder / "masks" / "3.png").resize((128, 96), 0).save(
            folder / "masks" / "copy.png"
        )
        found = of_masks(folder)
    else:
        shutil.copy(folder / "labels" / "3.txt", folder / "labels" / "copy.txt")
        found = of_boxes(folder)
    codes = {one.finding.code for one in found.findings}
    assert "near-within-split" in codes
