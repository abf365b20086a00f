"""Small real data sets that come with installed packages, written as class folders."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pocketvision.data.images import SHARE_SET_ASIDE
from pocketvision.data.splits import split_by_content
from pocketvision.errors import DataError, choice, require
from pocketvision.storage import sha256_bytes


def write_sample(name: str, folder: str | Path) -> Path:
    """Write a sample data set as train/ val/ test/ with class folders; returns the folder.

    Raises: ConfigError: an unknown name. DataError: the folder exists, or cannot be written.
        MissingExtraError: without scikit-learn.
    """
    choice("sample", name, SAMPLES)
    target = Path(folder)
    if target.exists():
        raise DataError(f"{str(target)!r} exists; give a folder that does not, or remove it.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise DataError(f"{str(target)!r} cannot be written: {error.strerror}.") from error
    try:
        SAMPLES[name](temporary)
        temporary.chmod(0o755)
        os.rename(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def _write_digits(folder: Path) -> None:
    """1,797 handwritten digits, 8x8 grey, 0..16 stretched to 0..255; 70/15/15 % by content.

    Source: UCI "Optical Recognition of Handwritten Digits" (test part), in scikit-learn.
    """
    digits = require("sklearn.datasets", "samples").load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.tolist()
    splits = split_by_content(
        [sha256_bytes(image.tobytes()) for image in images],
        labels,
        {"test": SHARE_SET_ASIDE, "val": SHARE_SET_ASIDE},
        seed=0,
    )
    for number, (image, label, split) in enumerate(zip(images, labels, splits, strict=True), 1):
        class_folder = folder / split / str(label)
        class_folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(class_folder / f"digit-{number:04d}.png")


SAMPLES: dict[str, Callable[[Path], None]] = {"digits": _write_digits}
