"""Pictures of what was seen: boxes and colours lie where they should."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pocketvision.boxes import Detections
from pocketvision.data.masks.mask import VOID
from pocketvision.errors import DataError
from pocketvision.fitting import detected, segmented
from pocketvision.fitting.pictures import as_jpeg, small_image, voc_colours

GREY = 90
RED, GREEN = (128, 0, 0), (0, 128, 0)  # of Pascal VOC's classes 1 and 2


def grey_image(path: Path, width: int = 40, height: int = 30) -> Path:
    Image.new("RGB", (width, height), (GREY,) * 3).save(path)
    return path


def test_colours_are_those_of_pascal_voc() -> None:
    colours = voc_colours(22)
    assert [tuple(row) for row in colours[:4].tolist()] == [(0, 0, 0), RED, GREEN, (128, 128, 0)]
    assert tuple(colours[21].tolist()) == (128, 64, 128)


def test_boxes_are_drawn_in_the_colours_of_their_classes(tmp_path: Path) -> None:
    found = Detections(
        boxes=np.array([[0.25, 0.2, 0.75, 0.8], [0, 0, 1, 1]], np.float32),
        scores=np.array([0.9, 0.4], np.float32),
        classes=np.array([1, 2]),
    )
    out = tmp_path / "seen.png"
    detected.picture_of(grey_image(tmp_path / "photo.png"), found, ("cat", "dog"), out)
    drawn = np.asarray(Image.open(out))
    assert drawn.shape == (30, 40, 3)
    assert (drawn[[0, -1]] == GREEN).all()
    assert (drawn[:, [0, -1]] == GREEN).all()
    assert (drawn[23, 10:30] == RED).all()  # 0.8 of rows 0 to 29
    assert (drawn[14:23, 29] == RED).all()  # below the words of the other box
    assert (drawn[24:29, 1:39] == GREY).all()  # between the boxes
    inside = (drawn[7:22, 12:28] == GREY).all(axis=-1)
    assert inside.any()
    assert not inside.all()  # the words


def test_colours_of_classes_lie_over_the_image_and_void_stays(tmp_path: Path) -> None:
    classes = np.full((30, 40), 1, np.uint8)
    classes[:, 20:], classes[0] = 0, VOID
    out = tmp_path / "seen.png"
    segmented.picture_of(grey_image(tmp_path / "photo.png"), classes, out)
    drawn = np.asarray(Image.open(out))
    assert (drawn[0] == GREY).all()
    mixed = [round(0.45 * GREY + 0.55 * colour) for colour in RED]
    assert (drawn[1:, :20] == mixed).all()
    assert (drawn[1:, 20:] == round(0.45 * GREY)).all()


def test_shares_of_classes_are_the_largest_first() -> None:
    classes = np.array([[0, 2], [2, 2]], np.uint8)
    assert list(segmented.class_shares(classes, ("a", "b", "c")).items()) == [
        ("c", 0.75),
        ("a", 0.25),
    ]


def test_small_images_keep_their_form(tmp_path: Path) -> None:
    image = small_image(grey_image(tmp_path / "photo.png", 400, 100).read_bytes(), 80)
    assert image.size == (80, 20)
    again = Image.open(io.BytesIO(base64.b64decode(as_jpeg(image))))
    assert again.format == "JPEG"
    assert again.size == (80, 20)


def test_what_is_no_image_is_not_drawn_on(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_text("words")
    with pytest.raises(DataError, match=r"photo.png"):
        segmented.picture_of(tmp_path / "photo.png", np.zeros((4, 4), np.uint8), tmp_path / "o.png")
    assert not (tmp_path / "o.png").exists()
