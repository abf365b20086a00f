"""A folder of small photos with every fault that the doctor knows, each told by its name."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

SIDE = 64
SPLITS = {"train": 24, "val": 6, "test": 6}  # images of each sound class
CLASSES = ("cat", "dog", "été <b>&amp;")


def photo(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A picture of its own: blurred noise in colour, with a texture that follows from the seed."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    fine = generator.integers(-40, 41, (size[1] // 2, size[0] // 2, 1))
    picture = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    texture = fine.repeat(2, axis=0).repeat(2, axis=1)
    return Image.fromarray((picture.astype(np.int64) + texture).clip(0, 255).astype(np.uint8))


def save(path: Path, seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Path:
    """Write a photo; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    photo(seed, size).save(path, quality=92)
    return path


def sound_photos(root: Path) -> Path:
    """Three classes in three splits, without a fault."""
    for number, name in enumerate(CLASSES):
        for split, count in SPLITS.items():
            for image in range(count):
                seed = 1000 * number + 100 * list(SPLITS).index(split) + image
                save(root / split / name / f"{image:02d}.jpg", seed)
    return root


def bomb(path: Path) -> Path:
    """A PNG header that claims 50,000 x 50,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
    return path


def truncated(path: Path) -> Path:
    """A JPEG whose end is missing."""
    save(path, 9001)
    path.write_bytes(path.read_bytes()[:-400])
    return path


def _unreadable(root: Path) -> None:
    (root / "train/cat/notes.jpg").write_text("I am no image")


def _truncated(root: Path) -> None:
    truncated(root / "train/cat/cut.jpg")


def _empty(root: Path) -> None:
    (root / "train/cat/empty.jpg").write_bytes(b"")


def _bomb(root: Path) -> None:
    bomb(root / "train/dog/bomb.png")


def _extension(root: Path) -> None:
    photo(9002).save(root / "train/cat/really_png.jpg", format="PNG")


def _copy_within(root: Path) -> None:
    shutil.copy(root / "train/cat/00.jpg", root / "train/cat/00 (copy).jpg")


def _copy_across(root: Path) -> None:
    shutil.copy(root / "test/dog/01.jpg", root / "train/dog/seen.jpg")


def _two_labels(root: Path) -> None:
    shutil.copy(root / "train/cat/02.jpg", root / "train/dog/cat or dog.jpg")


def _near_within(root: Path) -> None:
    photo(3).resize((96, 96), Image.Resampling.BICUBIC).save(root / "train/cat/larger.jpg")


def _near_across(root: Path) -> None:
    picture = ImageEnhance.Brightness(photo(1200)).enhance(0.8)  # test/dog/00.jpg
    picture.save(root / "train/dog/darker.jpg", quality=60)


def _near_two_labels(root: Path) -> None:
    photo(4).save(root / "train/dog/cat again.jpg", quality=50)  # train/cat/04.jpg


def _tiny_class(root: Path) -> None:
    for split in SPLITS:
        save(root / split / "rare" / "1.jpg", 9100 + list(SPLITS).index(split))


def _one_image(root: Path) -> None:
    save(root / "train/lonely/1.jpg", 9200)


def _imbalance(root: Path) -> None:
    for image in range(240):
        save(root / "train/cat" / f"more{image}.jpg", 10_000 + image, (36, 36))


def _grey_class(root: Path) -> None:
    for split, count in SPLITS.items():
        for image in range(count):
            path = root / split / "grey" / f"{image}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            photo(20_000 + 100 * list(SPLITS).index(split) + image).convert("L").save(path)


def _png_class(root: Path) -> None:
    for split, count in SPLITS.items():
        for image in range(count):
            save(
                root / split / "drawn" / f"{image}.png",
                30_000 + 100 * list(SPLITS).index(split) + image,
            )


def _small(root: Path) -> None:
    save(root / "train/cat/stamp.png", 9300, (20, 16))


def _names(root: Path) -> None:
    """Spaces, a line break, markup and a leading # are names like others."""
    for number, name in enumerate(("a\nb", "[red]x[/red]", "# no comment", "c\\d", "ü ñ 猫")):
        save(root / "train/cat" / f"{name}.jpg", 9400 + number)
    shutil.copy(root / "train/cat/a\nb.jpg", root / "train/cat/a\nb again.jpg")


def _links(root: Path) -> None:
    """Loops end, and a link to a folder is followed."""
    os.symlink(root / "train" / "cat", root / "train" / "cat" / "loop")
    os.symlink(root / "nowhere.jpg", root / "train" / "cat" / "dangling.jpg")


FAULTS: dict[str, Callable[[Path], None]] = {  # code of the finding: how it comes about
    "unreadable": _unreadable,
    "truncated": _truncated,
    "empty": _empty,
    "decompression-bomb": _bomb,
    "contradictory-labels": _two_labels,
    "copies-across-splits": _copy_across,
    "near-contradictory-labels": _near_two_labels,
    "near-across-splits": _near_across,
    "near-within-split": _near_within,
    "copies-within-split": _copy_within,
    "class-missing": _one_image,
    "one-image": _one_image,
    "tiny-classes": _tiny_class,
    "imbalance": _imbalance,
    "mode-shortcut": _grey_class,
    "format-shortcut": _png_class,
    "mixed-modes": _grey_class,
    "extension": _extension,
    "small-images": _small,
}
PECULIAR = (_names, _links)


def faulty_photos(root: Path) -> Path:
    """Sound photos with every fault at once, and peculiar names and links."""
    sound_photos(root)
    for add in dict.fromkeys((*FAULTS.values(), *PECULIAR)):
        add(root)
    return root
