"""Folders of images and masks: layouts, values, splits, and everything that can be wrong."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pocketvision.data.folders import SPLITS
from pocketvision.data.masks.layout import list_pairs
from pocketvision.data.masks.mask import VOID, read_mask, resized_mask
from pocketvision.data.masks.samples import MaskedSamples, StretchedMasks, scan_masks
from pocketvision.data.stream import StoredPixels, opened
from pocketvision.errors import ConfigError, DataError

PLACES = {
    "unsplit": ("images", "masks"),
    "inside": ("train/images", "train/masks", "val/images", "val/masks"),
    "below": ("images/train", "masks/train", "images/val", "masks/val"),
    "beside": ("train", "trainannot", "val", "valannot"),
    "labels": ("train", "train_labels", "validation", "validation_labels"),
}


def write_pair(
    folder: Path, images: str, masks: str, name: str, seed: int, ending: str = ""
) -> None:
    """A noise image, and a mask with the classes 0, 1 and 2 in it."""
    rng = np.random.default_rng(seed)
    for place in (images, masks):
        (folder / place).mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / images / f"{name}.png")
    save_mask(folder / masks / f"{name}{ending}.png", np.arange(108).reshape(9, 12) // 36)


def save_mask(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values.astype(np.uint8)).save(path)


def streets(folder: Path, layout: str = "unsplit", count: int = 40) -> Path:
    """A folder of that layout, with so many images in train and a tenth in val."""
    places = PLACES[layout]
    for part, start in zip(range(0, len(places), 2), (0, 1000), strict=False):
        for number in range(count if part == 0 else count // 10):
            write_pair(folder, places[part], places[part + 1], f"{number}", start + number)
    return folder


@pytest.mark.parametrize("layout", PLACES)
def test_layouts(tmp_path: Path, layout: str) -> None:
    samples = scan_masks(streets(tmp_path, layout))
    assert samples.classes == ("0", "1", "2")
    origin = "set aside" if layout == "unsplit" else "given"
    assert samples.split_origins["val"] == origin
    assert samples.split_origins["test"] == "set aside"
    assert samples.counts("train") == (len(samples.indices("train")),) * 3
    summary = samples.summary()
    assert sum(split.total for split in summary.splits) == len(samples)
    for row in range(len(samples)):
        assert Path(samples.paths[row]).stem == Path(samples.masks.paths[row]).stem
        assert samples.masks.read(row).shape == (9, 12)


@pytest.mark.parametrize("ending", ["_mask", "_L"])
def test_masks_may_be_called_masks(tmp_path: Path, ending: str) -> None:
    for number in range(4):
        write_pair(tmp_path, "images", "masks", str(number), number, ending)
    assert len(scan_masks(tmp_path)) == 4


def test_voc(tmp_path: Path) -> None:
    for number in range(6):
        write_pair(tmp_path, "JPEGImages", "SegmentationClass", str(number), number)
        image = tmp_path / "JPEGImages" / f"{number}.png"
        Image.open(image).save(image.with_suffix(".jpg"))
        image.unlink()
    sets = tmp_path / "ImageSets" / "Segmentation"
    sets.mkdir(parents=True)
    with pytest.raises(DataError, match=r"has no train\.txt that names images"):
        scan_masks(tmp_path)
    (sets / "train.txt").write_text("0\n1\n2\n")
    (sets / "val.txt").write_text("3\n4\n")
    samples = scan_masks(tmp_path)
    assert len(samples) == 5
    assert len(samples.indices("val")) == 2
    (sets / "val.txt").write_text("3\n0\n")
    with pytest.raises(DataError, match=r"'0' is in train\.txt and in val\.txt"):
        scan_masks(tmp_path)
    (sets / "val.txt").write_text("9\n")
    with pytest.raises(DataError, match=r"val\.txt names '9', but there is no JPEGImages/9\.jpg"):
        scan_masks(tmp_path)
    (sets / "val.txt").write_text("../9\n")
    with pytest.raises(DataError, match=r"names '\.\./9'; expected names without folders"):
        scan_masks(tmp_path)
    (sets / "val.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"is no UTF-8 text"):
        scan_masks(tmp_path)


def test_palette_grey_and_black_and_white_say_the_same(tmp_path: Path) -> None:
    values = np.array([[0, 1], [1, 0]], np.uint8)
    grey = Image.fromarray(values)
    palette = Image.fromarray(values).convert("P")
    palette.putdata(values.ravel().tolist())
    palette.putpalette([9, 9, 9, 200, 0, 0])
    white = Image.fromarray(values.astype(bool))
    colours = Image.fromarray(np.repeat(values[..., None], 3, axis=2))
    deep = Image.fromarray(values.astype(np.uint16))
    for number, image in enumerate((grey, palette, white, colours, deep)):
        path = tmp_path / f"{number}.png"
        image.save(path)
        np.testing.assert_array_equal(read_mask(path.read_bytes()), values)


def png(header: tuple[int, ...], rows: np.ndarray, palette: bytes = b"") -> bytes:
    """A PNG file written by hand. header: as the standard orders it. rows: (H, bytes of a row)."""
    chunks = {b"IHDR": struct.pack(">IIBBBBB", *header)}
    if palette:
        chunks[b"PLTE"] = palette
    filtered = np.pad(rows, ((0, 0), (1, 0)))  # each row begins with its filter: none
    chunks |= {b"IDAT": zlib.compress(filtered.tobytes()), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )


@pytest.mark.parametrize("palette", [False, True], ids=["grey", "palette"])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_masks_of_few_bits_have_the_values_in_the_file(bits: int, palette: bool) -> None:
    values = np.random.default_rng(0).integers(0, 2**bits, (5, 7))
    assert values.max() == 2**bits - 1
    digits = (values[..., None] >> np.arange(bits)[::-1]) & 1  # each value's, the highest first
    rows = np.packbits(digits.reshape(5, -1).astype(np.uint8), axis=1)
    header = (7, 5, bits, 3 if palette else 0, 0, 0, 0)
    read = read_mask(png(header, rows, bytes(range(3 * 2**bits)) if palette else b""))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, values)


def test_masks_of_16_bits_with_transparency_are_refused() -> None:
    """Pillow reads the upper eight bits alone, in which small numbers are 0."""
    rows = np.tile(np.array([0, 1, 255, 255], np.uint8), (2, 2))  # grey and opacity, two bytes each
    with pytest.raises(ValueError, match="a mask of 16 bits with colours or transparency; save it"):
        read_mask(png((2, 2, 16, 4, 0, 0, 0), rows))


def test_masks_that_cannot_be_read(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "colours.png")
    with pytest.raises(ValueError, match="a mask in colours; expected the number of a class"):
        read_mask((tmp_path / "colours.png").read_bytes())
    Image.fromarray(colours).save(tmp_path / "lossy.jpg")
    with pytest.raises(ValueError, match="a mask in JPEG, which changes values; save it as PNG"):
        read_mask((tmp_path / "lossy.jpg").read_bytes())
    Image.fromarray(np.full((2, 2), 300, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"values 300\.\.300; expected 0\.\.255"):
        read_mask((tmp_path / "deep.png").read_bytes())
    with pytest.raises(ValueError, match="truncated"):
        read_mask((tmp_path / "colours.png").read_bytes()[:60])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_mask_or_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_mask(content)


def broken(folder: Path, name: str, values: np.ndarray) -> Path:
    """A sound folder with one mask replaced."""
    streets(folder)
    save_mask(folder / "masks" / name, values)
    return folder


def test_mask_of_another_size(tmp_path: Path) -> None:
    broken(tmp_path, "3.png", np.eye(5))
    with pytest.raises(DataError, match=r"masks/3\.png: 5x5, but its image is 12x9"):
        scan_masks(tmp_path)
    samples = scan_masks(tmp_path, skip_bad=True)
    assert len(samples) == 39
    assert samples.skipped == ("masks/3.png: 5x5, but its image is 12x9",)


def test_upright_photos_have_upright_masks(tmp_path: Path) -> None:
    """A photo that was taken sideways is seen upright, and its mask is of that."""
    streets(tmp_path)
    photo = Image.new("RGB", (9, 12), "red")
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(tmp_path / "images" / "7.png", exif=exif)
    assert len(scan_masks(tmp_path)) == 40


def test_values_without_a_class(tmp_path: Path) -> None:
    broken(tmp_path, "0.png", np.arange(108).reshape(9, 12) // 27)
    (tmp_path / "classes.txt").write_text("road\ncar\nsky\n")
    told = r"0\.png: value 3, but there are 3 classes, 0 to 2; if it means no class, say --void 3"
    with pytest.raises(DataError, match=told):
        scan_masks(tmp_path)
    samples = scan_masks(tmp_path, void=(3,))
    assert samples.classes == ("road", "car", "sky")
    row = next(k for k in range(40) if samples.paths[k] == "images/0.png")
    assert (samples.masks.read(row) == VOID).sum() == 27
    assert samples.masks.pixels[row].tolist() == [27, 27, 27]


def test_void_may_be_one_of_the_lower_values(tmp_path: Path) -> None:
    samples = scan_masks(streets(tmp_path), void=(0,))
    assert samples.masks.pixels[:, 0].sum() == 0
    assert (samples.masks.read(0) == VOID).sum() == 36
    with pytest.raises(ConfigError, match=r"void=256 is out of range"):
        scan_masks(tmp_path, void=(256,))


def test_mask_without_any_class(tmp_path: Path) -> None:
    broken(tmp_path, "5.png", np.full((9, 12), 255))
    with pytest.raises(DataError, match=r"masks/5\.png: no pixel has a class, as 255 means none"):
        scan_masks(tmp_path)


def test_values_that_void_leaves_without_a_class_are_named(tmp_path: Path) -> None:
    for number in range(4):
        write_pair(tmp_path, "images", "masks", str(number), number)
        classes = np.zeros((9, 12), int)
        classes[:4] = 1
        save_mask(tmp_path / "masks" / f"{number}.png", classes)
    with pytest.raises(
        DataError, match=r"Their values are 0, 1, of which 1 mean no class \(--void"
    ):
        scan_masks(tmp_path, void=(1,))


def test_one_class_only(tmp_path: Path) -> None:
    for number in range(4):
        write_pair(tmp_path, "images", "masks", str(number), number)
        save_mask(tmp_path / "masks" / f"{number}.png", np.zeros((9, 12)))
    told = r"have one class only; expected at least 2\. Their values are 0\. Add masks"
    with pytest.raises(DataError, match=told):
        scan_masks(tmp_path)
    (tmp_path / "classes.txt").write_text("road\ncar\n")
    with pytest.raises(DataError, match=told):
        scan_masks(tmp_path)


def test_black_and_white_masks_have_one_class_and_void(tmp_path: Path) -> None:
    for number in range(4):
        write_pair(tmp_path, "images", "masks", str(number), number)
        save_mask(tmp_path / "masks" / f"{number}.png", np.eye(9, 12) * 255)
    told = (
        r"Their values are 0, 255\. 255 means no class: where it is meant as one, as in masks of "
        r"black and white, write 1 in its place\."
    )
    with pytest.raises(DataError, match=told):
        scan_masks(tmp_path)


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.random.default_rng(0).integers(0, 256, (9, 12, 3)), "a mask in colours"),
        (np.zeros((5, 5)), "5x5, but its image is 12x9"),
    ],
    ids=["colours", "another size"],
)
def test_masks_that_are_all_faulty_are_told_as_such(
    tmp_path: Path, values: np.ndarray, reason: str, skip_bad: bool
) -> None:
    """Not as masks of one class, which is what is left of them."""
    for number in range(4):
        write_pair(tmp_path, "images", "masks", str(number), number)
        save_mask(tmp_path / "masks" / f"{number}.png", values)
    with pytest.raises(DataError, match=rf"4 of 4 images cannot be used:\n.*0\.png: {reason}"):
        scan_masks(tmp_path, skip_bad=skip_bad)


def test_class_that_train_lacks(tmp_path: Path) -> None:
    streets(tmp_path, "inside")
    save_mask(tmp_path / "val/masks/0.png", np.full((9, 12), 3))
    with pytest.raises(DataError, match="Train has no pixel of '3', which val has"):
        scan_masks(tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_train_keeps_an_image_of_every_class(tmp_path: Path, seed: int) -> None:
    """Of a class in a single image, its copies too; of one in two images, one at least."""
    streets(tmp_path)
    for number, value in ((0, 3), (1, 4), (2, 4)):
        save_mask(tmp_path / "masks" / f"{number}.png", np.arange(108).reshape(9, 12) // 54 * value)
    for kind in ("images", "masks"):
        shutil.copy(tmp_path / kind / "0.png", tmp_path / kind / "copy.png")
    samples = scan_masks(tmp_path, seed=seed)
    assert all(samples.counts("train"))
    by_name = dict(zip(samples.paths, samples.splits, strict=True))
    assert by_name["images/0.png"] == by_name["images/copy.png"] == "train"
    assert [len(samples.indices(split)) for split in SPLITS] == [29, 6, 6]
    again = scan_masks(tmp_path, seed=seed)
    assert again.fingerprint == samples.fingerprint


def test_images_that_train_needs_all_leave_none_for_val(tmp_path: Path) -> None:
    for number in range(2):
        write_pair(tmp_path, "images", "masks", str(number), number)
        save_mask(tmp_path / "masks" / f"{number}.png", np.full((9, 12), number))
    told = "at least 2 different ones, and one more wherever one image alone shows a class"
    with pytest.raises(DataError, match=told):
        scan_masks(tmp_path)


def test_no_image_that_can_be_read(tmp_path: Path) -> None:
    streets(tmp_path, count=3)
    for number in range(3):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="3 of 3 images cannot be used"):
        scan_masks(tmp_path, skip_bad=True)


def test_image_without_mask_and_mask_without_image(tmp_path: Path) -> None:
    streets(tmp_path)
    (tmp_path / "masks" / "4.png").unlink()
    with pytest.raises(DataError, match=r"1 image has no mask in .*'images/4\.png'\. Add masks"):
        scan_masks(tmp_path)
    (tmp_path / "images" / "4.png").unlink()
    (tmp_path / "images" / "5.png").unlink()
    with pytest.raises(
        DataError, match=r"1 mask has no image in .*'masks/5\.png'\. Add the images"
    ):
        scan_masks(tmp_path)


def test_two_masks_for_one_image(tmp_path: Path) -> None:
    streets(tmp_path, count=4)
    save_mask(tmp_path / "masks" / "2.bmp", np.zeros((9, 12)))
    told = r"masks' has both '2\.bmp' and '2\.png', and an image has one mask; remove one\."
    with pytest.raises(DataError, match=told):
        scan_masks(tmp_path)


def test_names_of_classes_are_numbered_by_their_lines(tmp_path: Path) -> None:
    streets(tmp_path)
    (tmp_path / "classes.txt").write_text("road\n\ncar\nsky\n")
    with pytest.raises(DataError, match=r"has no name in line 2, and what follows is numbered by"):
        scan_masks(tmp_path)
    (tmp_path / "classes.txt").write_text("road\ncar\nsky\n\n\n")
    assert scan_masks(tmp_path).classes == ("road", "car", "sky")


def test_folders_of_another_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        scan_masks(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file; give the folder that holds images and masks"):
        scan_masks(tmp_path / "file")
    with pytest.raises(DataError, match="has no images beside masks"):
        scan_masks(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="has images/ but no masks/ beside it"):
        scan_masks(tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="holds no image with a mask"):
        scan_masks(tmp_path)
    (tmp_path / "images" / "train").mkdir()
    with pytest.raises(DataError, match=r"has images, but there is no .*masks/train"):
        scan_masks(tmp_path)


def test_splits_of_another_layout(tmp_path: Path) -> None:
    streets(tmp_path, "beside")
    (tmp_path / "valannot").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"val' has no masks, inside or beside it"):
        scan_masks(tmp_path)
    (tmp_path / "elsewhere").rename(tmp_path / "valannot")
    (tmp_path / "validation").mkdir()
    with pytest.raises(DataError, match=r"has both val/ and validation/; keep one"):
        scan_masks(tmp_path)
    (tmp_path / "validation").rmdir()
    (tmp_path / "train").rename(tmp_path / "other")
    with pytest.raises(DataError, match="has splits, but none that is train"):
        scan_masks(tmp_path)


def test_clean_list(tmp_path: Path) -> None:
    streets(tmp_path / "streets")
    clean = tmp_path / "clean.txt"
    clean.write_text("".join(f"images/{number}.png\n" for number in range(10)))
    assert len(scan_masks(tmp_path / "streets", only=clean)) == 10
    clean.write_text("images/99.png\n")
    with pytest.raises(DataError, match=r"names 1 files that are not in"):
        scan_masks(tmp_path / "streets", only=clean)


def test_fingerprint_follows_masks_and_void(tmp_path: Path) -> None:
    first = scan_masks(streets(tmp_path)).fingerprint
    assert scan_masks(tmp_path).fingerprint == first
    assert scan_masks(tmp_path, void=(2,)).fingerprint != first
    save_mask(tmp_path / "masks" / "0.png", np.arange(108).reshape(9, 12) % 3)
    assert scan_masks(tmp_path).fingerprint != first


def test_mask_that_changed_since(tmp_path: Path) -> None:
    samples = scan_masks(streets(tmp_path))
    path = tmp_path / samples.masks.paths[0]
    save_mask(path, np.zeros((9, 12)))
    with pytest.raises(DataError, match="was changed after it was scanned"):
        samples.masks.read(0)
    path.unlink()
    with pytest.raises(DataError, match="could be read when it was scanned, but not now"):
        samples.masks.read(0)


def test_stores_of_masks(tmp_path: Path) -> None:
    samples = scan_masks(streets(tmp_path))
    contents = StretchedMasks(masks=samples.masks, side=6)
    stored = opened(contents)
    assert isinstance(stored, StoredPixels)
    for row, values in enumerate(stored.take(np.arange(len(samples)))):
        np.testing.assert_array_equal(values, resized_mask(samples.masks.read(row), (6, 6)))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3))
def test_a_mask_enlarged_by_whole_numbers_repeats(height: int, width: int, times: int) -> None:
    values = np.arange(height * width).reshape(height, width).astype(np.uint8)
    larger = resized_mask(values, (times * height, times * width))
    np.testing.assert_array_equal(larger, values.repeat(times, 0).repeat(times, 1))
    np.testing.assert_array_equal(resized_mask(larger, (height, width)), values)


def camvid() -> Path | None:
    root = os.environ.get("POCKETVISION_TEST_DATA")
    folder = Path(root, "data", "camvid") if root else None
    return folder if folder and folder.is_dir() else None


def test_camvid() -> None:
    folder = camvid()
    if folder is None:
        pytest.skip("$POCKETVISION_TEST_DATA names no folder with data/camvid")
    pairs = list_pairs(folder)
    assert [sum(p.split == split for p in pairs) for split in SPLITS] == [367, 101, 233]
    samples: MaskedSamples = scan_masks(folder, void=(11,))
    assert samples.classes == tuple(map(str, range(11)))
    assert samples.counts("test")[0] == 232  # one street without sky
