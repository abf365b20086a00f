"""The images of `quantize`: some set ranges, others judge what was lost, test is touched last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from pocketvision.data.images import Samples, scan
from pocketvision.data.layout import SUFFIXES
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.errors import ConfigError, DataError
from pocketvision.fitting.artefact import read_pixels
from pocketvision.fitting.from_files import pixels_of_row
from pocketvision.fitting.reporter import Reporter

T = TypeVar("T")

CALIBRATION_IMAGES = 256
CALIBRATION_SHARE = 5  # one in so many, where there are no splits
JUDGED_BYTES = 1_500_000_000  # of pixels that are held; more images than that hold are thinned out
LEAST = 2  # images: one to calibrate on, one to judge


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Images:
    """Pixels (N, H, W, C) uint8 as the network sees them.

    labels: (N,) of the judged ones; None: there are none. test: read when it is asked for. samples:
    all of them, where they have labels. note: how they were chosen, for people.
    """

    calibration: np.ndarray
    judged: np.ndarray
    labels: np.ndarray | None
    split: str
    note: str
    samples: Samples | None = None
    test: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None


def read_images(
    folder: Path,
    preprocessing: Preprocessing,
    classes: tuple[str, ...],
    channels: int,
    seed: int,
    reporter: Reporter,
    *,
    skip_bad: bool = False,
) -> Images:
    """Images of class folders, with their labels, or the images that lie in a folder, without.

    classes: those of the network; labelled images must have the same. skip_bad: leave unreadable
    files out.
    Raises: DataError: too few images, or none that can be read. ConfigError: other classes.
    """
    loose = _loose(folder)
    if loose:
        return _unlabelled(loose, preprocessing, channels, skip_bad, reporter)
    samples = scan(folder, skip_bad=skip_bad)
    if samples.classes != classes:
        raise ConfigError(
            f"{folder} has the classes {_named(samples.classes)}, the network names "
            f"{_named(classes)}; give images of the same classes, or a folder of images without "
            "class folders: then agreement with the float network is judged."
        )
    return _labelled(samples, preprocessing, channels, seed, reporter)


def _named(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:5])
    return f"{shown} and {len(classes) - 5} more" if len(classes) > 5 else shown


def _loose(folder: Path) -> list[Path]:
    """Image files that lie in the folder itself."""
    if not folder.is_dir():
        raise DataError(f"The folder {str(folder)!r} does not exist; give a folder of images.")
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def _unlabelled(
    files: list[Path], pre: Preprocessing, channels: int, skip_bad: bool, reporter: Reporter
) -> Images:
    if len(files) < LEAST:
        raise DataError(f"{files[0].parent} holds {len(files)} image; quantizing needs {LEAST}.")
    chosen = _thinned(files, pre, channels)
    with reporter.progress("Decoding images") as advance:
        pixels = []
        for number, file in enumerate(chosen):
            try:
                pixels.append(_grey(read_pixels(file, pre), channels))
            except DataError as error:
                if not skip_bad:
                    raise DataError(f"{error} Repair or remove it, or pass --skip-bad.") from error
            advance(number + 1, len(chosen), "")
    if len(pixels) < LEAST:
        raise DataError(
            f"{len(pixels)} of {len(chosen)} images can be read; quantizing needs {LEAST}."
        )
    stack = np.stack(pixels)
    calibrates = np.zeros(len(stack), bool)
    calibrates[::CALIBRATION_SHARE] = True
    calibration, judged = stack[calibrates][:CALIBRATION_IMAGES], stack[~calibrates]
    note = (
        f"{len(calibration):,} images set the ranges and {len(judged):,} others judge; they have "
        "no labels, so agreement with the float network is judged."
    )
    return Images(
        calibration=calibration, judged=judged, labels=None, split="the other images", note=note
    )


def _labelled(
    samples: Samples, pre: Preprocessing, channels: int, seed: int, reporter: Reporter
) -> Images:
    train, val = samples.indices("train"), samples.indices("val")
    chosen = np.sort(np.random.default_rng(seed).permutation(train)[:CALIBRATION_IMAGES])
    judged = np.asarray(_thinned(list(val), pre, channels))
    test = samples.indices("test") if samples.headline_split == "test" else None
    note = f"{len(chosen):,} images of train set the ranges, {len(judged):,} of val judge."

    def read(rows: np.ndarray, title: str) -> np.ndarray:
        with reporter.progress(title) as advance:
            pixels = []
            for number, row in enumerate(rows.tolist()):
                pixels.append(_grey(pixels_of_row(samples, row, pre), channels))
                advance(number + 1, len(rows), "")
        return np.stack(pixels)

    def read_test() -> tuple[np.ndarray, np.ndarray]:
        rows = np.asarray(_thinned(list(test if test is not None else []), pre, channels))
        return read(rows, "Decoding test"), samples.labels[rows]

    return Images(
        calibration=read(chosen, "Decoding images"),
        judged=read(judged, "Decoding val"),
        labels=samples.labels[judged],
        split="val",
        note=note,
        samples=samples,
        test=None if test is None else read_test,
    )


def _thinned(items: list[T], pre: Preprocessing, channels: int) -> list[T]:
    """All, or as many as fit JUDGED_BYTES, at even distances."""
    most = max(LEAST, JUDGED_BYTES // (pre.resolution**2 * channels))
    if len(items) <= most:
        return items
    return [items[k] for k in np.linspace(0, len(items) - 1, most).astype(int)]


def _grey(pixels: np.ndarray, channels: int) -> np.ndarray:
    """(H, W, 3) as it is, or (H, W, 1), its mean over the colours, for a network of grey images."""
    if channels == pixels.shape[2]:
        return pixels
    return np.asarray(np.rint(pixels.mean(axis=2, keepdims=True)), np.uint8)
