"""Cubes and label maps in ENVI files: a text header (.hdr) beside a file of plain numbers."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.scene.envi_header import (
    EnviHeader,
    check_size,
    read_header,
)
from pocketvision.data.scene.facts import Raster, Shape
from pocketvision.data.scene.geotiff import georeference_of, open_raster
from pocketvision.data.scene.interleave import arrange, likely_interleave
from pocketvision.data.scene.scene import ArrayCube, Colour, Georeference
from pocketvision.data.scene.wavelengths import in_nm
from pocketvision.errors import DataError, MissingExtraError

PART_BYTES = 16_000_000  # of a compressed file, unpacked at once


def envi_shapes(path: Path) -> dict[str, Shape]:
    """The one raster that a header describes."""
    return {"": read_header(path).shape}


def read_envi(path: Path, variable: str) -> Raster:
    """An ENVI file by its header, memory-mapped; a compressed one is in memory whole, once.

    Raises: DataError: a header or a file of numbers that cannot be used.
    """
    header = read_header(path)
    flat = _map(header)
    no_data = next(iter(header.numbers("data ignore value")), None)
    return Raster(
        cube=ArrayCube(array=arrange(flat, header.shape, header.interleave)),
        wavelengths_nm=in_nm(
            _per_band(header, "wavelength"), header.fields.get("wavelength units", "")
        ),
        no_data=no_data,
        georeference=_georeference(header),
        classes={n: name for n, name in enumerate(header.texts("class names")) if name},
        colours=_colours(header),
        bad_bands=tuple(n for n, good in enumerate(_per_band(header, "bbl"), 1) if not good),
        suspicions=_suspicions(header, flat, no_data),
    )


def _suspicions(header: EnviHeader, flat: NDArray[Any], no_data: float | None) -> tuple[str, ...]:
    likely = likely_interleave(flat, header.shape, header.interleave, no_data)
    if likely == header.interleave:
        return ()
    return (
        f"{str(header.path)!r} says interleave = {header.interleave}, but pixels and bands side by "
        f"side are far more alike when the numbers are read as {likely}; change the line to: "
        f"interleave = {likely}",
    )


def _map(header: EnviHeader) -> NDArray[Any]:
    """All numbers, in the order of the file."""
    if header.compressed:
        return np.frombuffer(_unpack(header), header.dtype, offset=header.offset)
    return np.memmap(header.data, dtype=header.dtype, mode="r", offset=header.offset)


def _unpack(header: EnviHeader) -> bytearray:
    """The content of a compressed file, at most one byte more than its header promises."""
    content = bytearray()
    try:
        with gzip.open(header.data) as file:
            while part := file.read(min(PART_BYTES, header.data_bytes + 1 - len(content))):
                content += part
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{str(header.data)!r} is a damaged gzip file ({error}); its header says "
            f"file compression = 1."
        ) from error
    except MemoryError as error:
        raise DataError(
            f"{str(header.data)!r} does not fit into memory: unpacked it has "
            f"{header.data_bytes:,} bytes; unpack it with gunzip, and set file compression = 0."
        ) from error
    check_size(header, len(content))
    return content


def _per_band(header: EnviHeader, key: str) -> list[float]:
    """Numbers that belong to the bands; empty where the header has none."""
    values = header.numbers(key)
    if len(values) not in (0, header.shape[2]):
        raise DataError(
            f"{str(header.path)!r} has {len(values)} numbers in {key!r} for {header.shape[2]} "
            "bands; correct or remove them."
        )
    return values


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
