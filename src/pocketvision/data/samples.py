"""Small real data sets that come with installed packages, written as `fit` takes them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pocketvision.data.folders import SPLITS
from pocketvision.data.images import SHARE_SET_ASIDE
from pocketvision.data.scene.facts import FACTS_FILE, SceneFacts
from pocketvision.data.splits import split_by_content
from pocketvision.errors import DataError, choice, require
from pocketvision.storage import sha256_bytes, to_json, write_atomic

INDIAN_PINES_CLASSES = (
    "Alfalfa",
    "Corn-notill",
    "Corn-mintill",
    "Corn",
    "Grass-pasture",
    "Grass-trees",
    "Grass-pasture-mowed",
    "Hay-windrowed",
    "Oats",
    "Soybean-notill",
    "Soybean-mintill",
    "Soybean-clean",
    "Wheat",
    "Woods",
    "Buildings-Grass-Trees-Drives",
    "Stone-Steel-Towers",
)


def write_sample(name: str, folder: str | Path) -> Path:
    """Write a sample data set, class folders of images or a scene; returns the folder.

    name: "digits": train/ val/ test/ with a folder per class. "indian-pines": a hyperspectral
        scene, cube.npy, labels.npy and scene.json.
    Raises: ConfigError: an unknown name. DataError: the folder exists, or cannot be written.
        MissingExtraError: without scikit-learn, or tensorly for the scene.
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
    hashes = [bytearray.fromhex(sha256_bytes(image.tobytes())) for image in images]
    shares = {"test": SHARE_SET_ASIDE, "val": SHARE_SET_ASIDE}
    splits = split_by_content(np.array(hashes, dtype=np.uint8), digits.target, shares, seed=0)
    for number, (image, label, split) in enumerate(
        zip(images, digits.target, splits, strict=True), 1
    ):
        class_folder = folder / SPLITS[split] / str(label)
        class_folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(class_folder / f"digit-{number:04d}.png")


def _write_indian_pines(folder: Path) -> None:
    """145x145 pixels, 200 bands as uint16, 16 classes on 10,249 pixels.

    Source: Baumgardner, Biehl and Landgrebe, "220 Band AVIRIS Hyperspectral Image Data Set: June
        12, 1992 Indian Pine Test Site 3", doi:10.4231/R7RX991C, CC BY 3.0, in tensorly: without
        the bands 104-108, 150-163 and 220 (water absorption), wavelengths as given there.
    """
    pines = require("tensorly.datasets", "hyperspectral").load_indian_pines()
    labels, wavelengths = pines.ticks
    # tensorly turns the sensor's whole numbers into floats
    np.save(folder / "cube.npy", np.ascontiguousarray(pines.tensor, dtype=np.uint16))
    np.save(folder / "labels.npy", np.ascontiguousarray(labels, dtype=np.uint8))
    facts = SceneFacts(
        name="Indian Pines",
        classes=INDIAN_PINES_CLASSES,
        wavelengths_nm=tuple(wavelengths),
        source=pines.reference,
        licence=pines.LICENCE,
    )
    write_atomic(folder / FACTS_FILE, to_json(facts))


SAMPLES: dict[str, Callable[[Path], None]] = {
    "digits": _write_digits,
    "indian-pines": _write_indian_pines,
}
