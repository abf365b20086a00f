"""Cubes and label maps in NumPy files, and label maps in PNG images."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from pocketvision.data.scene.facts import Raster, Shape, check_numbers, sizes
from pocketvision.data.scene.scene import ArrayCube, Colour
from pocketvision.errors import DataError

PNG_MODES = ("1", "L", "P", "I", "I;16", "I;16B")  # one number for each pixel


def npy_shapes(path: Path) -> dict[str, Shape]:
    """The one array of a .npy file."""
    return {"": _map_npy(path).shape}


def read_npy(path: Path, variable: str) -> Raster:
    """A .npy file, memory-mapped.

    Raises: DataError: objects instead of numbers, a damaged file, neither 2-D nor 3-D, or empty.
    """
    return Raster(cube=_map_npy(path))


def _map_npy(path: Path) -> ArrayCube:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # numpy refuses objects; a hostile header may make it raise anything
        raise DataError(
            f"{str(path)!r} is no array of numbers in NumPy's format ({error}); "
            f"write it again with numpy.save."
        ) from error
    check_numbers(path, array.dtype)
    if array.ndim not in (2, 3):
        raise DataError(
            f"{str(path)!r} is {array.ndim}-D ({sizes(array.shape)}); "
            f"expected height x width x bands, or height x width for labels."
        )
    if array.size == 0:
        raise DataError(
            f"{str(path)!r} is empty ({sizes(array.shape)}); expected at least one pixel and band."
        )
    return ArrayCube(array=array if array.ndim == 3 else array[..., None])


def png_shapes(path: Path) -> dict[str, Shape]:
    """The one raster of a PNG image; one of colours has several bands."""
    with _open_png(path) as image:
        bands = 1 if image.mode in PNG_MODES else len(image.getbands())
        return {"": (image.height, image.width, bands)}


def read_png(path: Path, variable: str) -> Raster:
    """A label map: the numbers of a grey image, or the indices of one with a palette.

    Raises: DataError: too many pixels, or a damaged file.
    """
    with _open_png(path) as image:
        colours = _palette(image)
        try:
            numbers = np.asarray(image)
        except Exception as error:  # a damaged file may make Pillow raise anything
            raise DataError(
                f"{str(path)!r} is a damaged PNG image ({error}); save it again."
            ) from error
        return Raster(cube=ArrayCube(array=numbers[..., None]), colours=colours)


def _open_png(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return Image.open(path, formats=("PNG",))
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise DataError(
                f"{str(path)!r} has more than {Image.MAX_IMAGE_PIXELS:,} pixels; "
                f"store the labels as .npy or GeoTIFF."
            ) from error


def _palette(image: Image.Image) -> dict[int, Colour]:
    """Colour of each index; empty for a grey image."""
    if image.mode != "P":
        return {}
    values = image.getpalette("RGB") or []
    return {
        number: (values[at], values[at + 1], values[at + 2])
        for number, at in enumerate(range(0, len(values), 3))
    }
