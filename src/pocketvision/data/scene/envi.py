"""Cubes and label maps in ENVI files: a text header (.hdr) beside a file of plain numbers."""

from __future__ import annotations

import gzip
import itertools
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.scene.envi_header import (
    INTERLEAVES,
    EnviHeader,
    Interleave,
    check_size,
    read_header,
)
from pocketvision.data.scene.facts import Raster, Shape
from pocketvision.data.scene.geotiff import georeference_of, open_raster
from pocketvision.data.scene.scene import ArrayCube, Colour, Georeference
from pocketvision.errors import DataError, MissingExtraError

AXES: dict[Interleave, tuple[str, tuple[int, int, int]]] = {
    # axes as stored: bands b, lines h, samples w; and how they become h, w, b
    "bsq": ("bhw", (1, 2, 0)),
    "bil": ("hbw", (0, 2, 1)),
    "bip": ("hwb", (0, 1, 2)),
}

NANOMETRES = {  # in one of each unit
    "nanometers": 1.0,
    "nanometres": 1.0,
    "nm": 1.0,
    "micrometers": 1000.0,
    "micrometres": 1000.0,
    "microns": 1000.0,
    "um": 1000.0,
    "µm": 1000.0,
    "μm": 1000.0,
}
UNKNOWN_UNITS = ("", "unknown")
SMALLEST_NM = 100.0  # no optical band lies below, so smaller numbers without a unit are µm

SAMPLE_SIDE = 16  # of the blocks that likely_interleave looks at
SAMPLE_PLACES = (0.1, 0.5, 0.9)  # of each axis
CLEARLY = 0.7  # how much less neighbours differ under a reading that is believed more


def envi_shapes(path: Path) -> dict[str, Shape]:
    """The one raster that a header describes."""
    return {"": read_header(path).shape}


def read_envi(path: Path, variable: str) -> Raster:
    """An ENVI file by its header, memory-mapped; a compressed one is in memory whole, once.

    Raises: DataError: a header or a file of numbers that cannot be used.
    """
    header = read_header(path)
    return Raster(
        cube=ArrayCube(array=_map(header)),
        wavelengths_nm=_wavelengths(header),
        no_data=next(iter(header.numbers("data ignore value")), None),
        georeference=_georeference(header),
        classes={n: name for n, name in enumerate(header.texts("class names")) if name},
        colours=_colours(header),
    )


def likely_interleave(path: Path) -> Interleave:
    """The interleave of an ENVI file as its numbers suggest it.

    A wrong one keeps the size of the file, but scatters the scene: neighbours along the three axes
    differ more. Returns the declared interleave unless another is clearly smoother. Readings that
    only exchange axes, of a scene with as many lines as bands, are equally smooth.
    """
    header = read_header(path)
    roughness = {
        interleave: _roughness(_map(replace(header, interleave=interleave)))
        for interleave in INTERLEAVES
    }
    best: Interleave = min(roughness, key=roughness.__getitem__)
    return best if roughness[best] < CLEARLY * roughness[header.interleave] else header.interleave


def _roughness(cube: NDArray[Any]) -> float:
    """Mean difference of neighbours, summed over the axes, in blocks spread over the cube."""
    totals, counts = np.zeros(3), np.zeros(3)
    starts = [
        sorted({int(place * max(0, side - SAMPLE_SIDE)) for place in SAMPLE_PLACES})
        for side in cube.shape
    ]
    for corner in itertools.product(*starts):
        block = cube[tuple(slice(start, start + SAMPLE_SIDE) for start in corner)]
        numbers = np.where(np.isfinite(block), block, np.nan).astype(np.float64)
        for axis in range(3):
            steps = np.abs(np.diff(numbers, axis=axis))
            totals[axis] += np.nansum(steps)
            counts[axis] += np.isfinite(steps).sum()
    return float((totals / np.maximum(counts, 1)).sum())


def _map(header: EnviHeader) -> NDArray[Any]:
    """(H, W, B), whatever the interleave."""
    letters, axes = AXES[header.interleave]
    stored = tuple(header.shape["hwb".index(letter)] for letter in letters)
    if header.compressed:
        flat: NDArray[Any] = np.frombuffer(_unpack(header), header.dtype, offset=header.offset)
        return flat.reshape(stored).transpose(axes)
    return np.memmap(
        header.data, dtype=header.dtype, mode="r", offset=header.offset, shape=stored
    ).transpose(axes)


def _unpack(header: EnviHeader) -> bytes:
    """The content of a compressed file, never more than its header promises."""
    try:
        with gzip.open(header.data) as file:
            content = file.read(header.data_bytes + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{str(header.data)!r} is a damaged gzip file ({error}); its header says "
            f"file compression = 1."
        ) from error
    check_size(header, len(content))
    return content


def _wavelengths(header: EnviHeader) -> tuple[float, ...]:
    """In nm; empty where the header has none, or in a unit that is no length."""
    values = header.numbers("wavelength")
    if not values:
        return ()
    if len(values) != header.shape[2]:
        raise DataError(
            f"{str(header.path)!r} has {len(values)} wavelengths for {header.shape[2]} bands; "
            f"correct or remove them."
        )
    unit = header.fields.get("wavelength units", "").lower()
    if unit in UNKNOWN_UNITS:
        factor = 1.0 if max(values) >= SMALLEST_NM else NANOMETRES["microns"]
    elif unit in NANOMETRES:
        factor = NANOMETRES[unit]
    else:
        return ()
    return tuple(round(value * factor, 6) for value in values)


def _colours(header: EnviHeader) -> dict[int, Colour]:
    values = [int(value) if 0 <= value <= 255 else 0 for value in header.numbers("class lookup")]
    return {
        number: (values[at], values[at + 1], values[at + 2])
        for number, at in enumerate(range(0, len(values) - 2, 3))
    }


def _georeference(header: EnviHeader) -> Georeference | None:
    """From map info; None without rasterio, which knows the projections, or where it fails."""
    if "map info" not in header.fields:
        return None
    try:
        with open_raster(header.data, "ENVI") as dataset:
            return georeference_of(dataset)
    except (MissingExtraError, OSError, ValueError):
        return None
