"""Images with boxes, split and read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shapes import HEIGHT, WIDTH, shape_of, write_boxes

from pocketvision.data.objects.samples import scan_objects
from pocketvision.errors import DataError


def test_objects_stay_with_their_images(tmp_path: Path) -> None:
    samples = scan_objects(write_boxes(tmp_path / "boxes"))
    assert samples.classes == ("red", "blue")
    assert samples.split_origins == {
        "train": "given", "val": "set aside", "test": "set aside"
    }  # fmt: skip
    for row in range(len(samples)):
        seed = int(Path(samples.paths[row]).stem)
        one = samples.objects.of(row)
        if seed == 39:
            assert len(one.labels) == 0
            continue
        _, _, boxes = shape_of(seed)
        assert one.labels.tolist() == [number - 1 for number, *_ in boxes]
        corners = one.boxes * [WIDTH, HEIGHT, WIDTH, HEIGHT]
        np.testing.assert_allclose(corners, [box for _, *box in boxes], atol=1e-3)
    counts = np.array([samples.counts(split) for split in ("train", "val", "test")])
    assert counts.sum(axis=0).tolist() == [39, 39]
    assert sum(split.total for split in samples.summary().splits) == 40


def test_fingerprint_follows_boxes(tmp_path: Path) -> None:
    folder = write_boxes(tmp_path / "boxes")
    first = scan_objects(folder).fingerprint
    assert scan_objects(folder).fingerprint == first
    (folder / "labels" / "0.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    assert scan_objects(folder).fingerprint != first


def test_unreadable_images_and_clean_lists(tmp_path: Path) -> None:
    folder = write_boxes(tmp_path / "boxes")
    (folder / "images" / "3.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1 of 40 images cannot be used:\n.*images/3\.png"):
        scan_objects(folder)
    samples = scan_objects(folder, skip_bad=True)
    assert len(samples) == 39
    clean = tmp_path / "clean.txt"
    clean.write_text("".join(f"images/{number}.png\n" for number in range(4, 20)))
    assert len(scan_objects(folder, only=clean)) == 16
    clean.write_text("images/77.png\n")
    with pytest.raises(DataError, match="names 1 files that are not in"):
        scan_objects(folder, only=clean)


def voc(folder: Path, width: int, height: int) -> Path:
    """Four photos of 64 x 48 with one box each, whose annotations state that size."""
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    for seed in range(4):
        pixels, _, _ = shape_of(seed)
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{seed}.jpg")
        (folder / "Annotations" / f"{seed}.xml").write_text(
            f"<annotation><size><width>{width}</width><height>{height}</height></size>"
            "<object><name>red</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>20</xmax>"
            "<ymax>20</ymax></bndbox></object></annotation>"
        )
    return folder


def test_annotation_of_another_size(tmp_path: Path) -> None:
    assert len(scan_objects(voc(tmp_path / "right", WIDTH, HEIGHT))) == 4
    wrong = voc(tmp_path / "wrong", HEIGHT, WIDTH)
    with pytest.raises(
        DataError, match=r"0\.jpg: 64x48 as it is seen, but its annotation says 48x"
    ):
        scan_objects(wrong)
    with pytest.raises(DataError, match="4 of 4 images cannot be used"):
        scan_objects(wrong, skip_bad=True)


def test_nothing_is_learned_from_an_image_of_another_size_than_stated(tmp_path: Path) -> None:
    folder = voc(tmp_path / "voc", WIDTH, HEIGHT)
    path = folder / "Annotations" / "2.xml"
    path.write_text(path.read_text().replace("<width>64", "<width>640"))
    samples = scan_objects(folder, skip_bad=True)
    assert sorted(samples.paths) == [f"JPEGImages/{number}.jpg" for number in (0, 1, 3)]
    assert samples.skipped == (
        "JPEGImages/2.jpg: 64x48 as it is seen, but its annotation says 640x48",
    )
    assert len(samples.objects) == len(samples.sizes) == 3


def turn(path: Path, orientation: int) -> None:
    """A photo with the same pixels in the file, and an orientation that EXIF gives it."""
    with Image.open(path) as image:
        exif = image.getexif()
        exif[0x0112] = orientation
        image.copy().save(path, exif=exif)


def test_photo_annotated_as_it_is_stored_and_not_as_it_is_seen(tmp_path: Path) -> None:
    folder = voc(tmp_path / "voc", WIDTH, HEIGHT)
    turn(folder / "JPEGImages" / "1.jpg", 6)
    with pytest.raises(
        DataError,
        match=r"1 of 4 .*\n.*1\.jpg: 48x64 as it is seen, but its annotation says 64x48, as it is "
        "stored before its EXIF orientation turns it; annotate it as it is seen, or remove the "
        "orientation from the file",
    ):
        scan_objects(folder)
    assert len(scan_objects(folder, skip_bad=True)) == 3


@pytest.mark.parametrize(("orientation", "size"), [(6, (48, 64)), (3, (64, 48))])
def test_sizes_are_those_of_the_images_as_they_are_seen(
    tmp_path: Path, orientation: int, size: tuple[int, int]
) -> None:
    """Stated by the annotation, or not stated at all."""
    stated = voc(tmp_path / "voc", *size)
    for path in (stated / "JPEGImages").iterdir():
        turn(path, orientation)
    unstated = write_boxes(tmp_path / "boxes", 12)
    for path in (unstated / "images").iterdir():
        turn(path, orientation)
    for folder in (stated, unstated):
        samples = scan_objects(folder)
        assert samples.sizes.tolist() == [list(size)] * len(samples)


def test_faulty_boxes(tmp_path: Path) -> None:
    folder = voc(tmp_path / "voc", WIDTH, HEIGHT)
    path = folder / "Annotations" / "2.xml"
    path.write_text(path.read_text().replace("<xmax>20</xmax>", "<xmax>2</xmax>"))
    with pytest.raises(DataError, match="go on without with --skip-bad"):
        scan_objects(folder)
    samples = scan_objects(folder, skip_bad=True)
    assert sum(sum(samples.counts(split)) for split in ("train", "val", "test")) == 3
    assert len(samples.skipped) == 1


def test_too_few_images_for_a_validation_split(tmp_path: Path) -> None:
    folder = write_boxes(tmp_path / "boxes", 2)
    (folder / "images" / "1.png").unlink()
    (folder / "labels" / "1.txt").unlink()
    with pytest.raises(DataError, match="has too few images to set any aside for validation"):
        scan_objects(folder)


def in_splits(folder: Path, empty: str) -> Path:
    """Ten pictures for train and ten for val, one of which has no objects at all."""
    write_boxes(folder, 21)
    for kind, ending in (("images", "png"), ("labels", "txt")):
        for number in range(20):
            split = "train" if number < 10 else "val"
            target = folder / kind / split / f"{number}.{ending}"
            target.parent.mkdir(exist_ok=True)
            (folder / kind / f"{number}.{ending}").rename(target)
            if kind == "labels" and split == empty:
                target.write_text("")
        (folder / kind / f"20.{ending}").unlink()
    return folder


def test_val_without_any_object(tmp_path: Path) -> None:
    folder = in_splits(tmp_path / "boxes", "val")
    message = "The 10 images of val have no object of any class, so that nothing can be scored"
    with pytest.raises(DataError, match=message):
        scan_objects(folder)


def test_train_without_any_object(tmp_path: Path) -> None:
    folder = in_splits(tmp_path / "boxes", "train")
    message = "has no object in train that could be learned, in 10 images"
    with pytest.raises(DataError, match=message):
        scan_objects(folder)


@pytest.mark.parametrize("seed", range(6))
def test_every_split_has_objects_and_train_has_every_class(tmp_path: Path, seed: int) -> None:
    """Three of four images show nothing, and one class is in one image alone."""
    folder = write_boxes(tmp_path / "boxes")
    for number in range(40):
        labels = folder / "labels" / f"{number}.txt"
        if number % 4:
            labels.write_text("")
        elif number:
            labels.write_text("0 0.5 0.5 0.2 0.2\n")
    samples = scan_objects(folder, seed=seed)
    red, blue = zip(*(samples.counts(split) for split in ("train", "val", "test")), strict=True)
    assert min(red) >= 1
    assert blue == (1, 0, 0)
    assert {len(samples.indices(split)) for split in ("val", "test")} <= {5, 6, 7}


def test_train_of_which_nothing_can_be_used(tmp_path: Path) -> None:
    folder = in_splits(tmp_path / "boxes", "")
    for path in (folder / "images" / "train").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="Train has no object of 'red', 'blue', which val has"):
        scan_objects(folder, skip_bad=True)


def test_images_that_tell(tmp_path: Path) -> None:
    samples = scan_objects(write_boxes(tmp_path / "boxes"))
    rows = np.arange(len(samples))
    telling = samples.telling(rows)
    assert len(telling) == len(rows) - 1
    assert all(len(samples.objects.of(row).labels) for row in telling.tolist())
