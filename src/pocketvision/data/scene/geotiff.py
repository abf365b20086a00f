"""Cubes and label maps in GeoTIFF files, read in rows with rasterio."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.scene.facts import Raster, Shape, check_numbers
from pocketvision.data.scene.scene import Colour, Georeference
from pocketvision.errors import DataError, require


@dataclass(frozen=True, kw_only=True, slots=True)
class GeoTiffCube:
    """A cube in a GeoTIFF file, opened anew for every part, so that it can go to other threads."""

    path: Path
    shape: Shape
    dtype: np.dtype[Any]

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """(stop - start, W, B), read from the file.

        Raises: DataError: a damaged file.
        """
        window = ((start, stop), (0, self.shape[1]))
        try:
            with open_raster(self.path, "GTiff") as dataset:
                planes: NDArray[Any] = dataset.read(window=window)
        except OSError as error:  # rasterio's errors of reading are ones
            raise DataError(
                f"{str(self.path)!r} is damaged in the rows {start} to {stop - 1} ({error})."
            ) from error
        return np.ascontiguousarray(np.moveaxis(planes, 0, -1))


def open_raster(path: Path, driver: str) -> Any:
    """A rasterio dataset; the driver is fixed, as others follow paths and addresses in a file.

    Raises: MissingExtraError: without rasterio. OSError: a file that the driver cannot read.
    """
    rasterio = require("rasterio", "hyperspectral")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(path, driver=driver)


def georeference_of(dataset: Any) -> Georeference | None:
    """Where a rasterio dataset lies; None where it does not say."""
    if dataset.crs is None:
        return None
    a, b, c, d, e, f = dataset.transform[:6]
    return Georeference(crs=dataset.crs.to_wkt(), transform=(a, b, c, d, e, f))


def geotiff_shapes(path: Path) -> dict[str, Shape]:
    """The one raster of a GeoTIFF file."""
    with open_raster(path, "GTiff") as dataset:
        return {"": (dataset.height, dataset.width, dataset.count)}


def read_geotiff(path: Path, variable: str) -> Raster:
    """A GeoTIFF file: its header now, its pixels when asked for.

    Raises: DataError: complex numbers. MissingExtraError: without rasterio.
    """
    with open_raster(path, "GTiff") as dataset:
        if any(kind.startswith("complex") for kind in dataset.dtypes):
            raise DataError(f"{str(path)!r} holds complex numbers; expected whole or real ones.")
        dtype = np.dtype(dataset.dtypes[0])
        check_numbers(path, dtype)
        shape = (dataset.height, dataset.width, dataset.count)
        return Raster(
            cube=GeoTiffCube(path=path, shape=shape, dtype=dtype),
            no_data=dataset.nodata,
            georeference=georeference_of(dataset),
            colours=_colormap(dataset),
        )


def _colormap(dataset: Any) -> dict[int, Colour]:
    """Colour of each number; empty without a colour table."""
    try:
        table = dataset.colormap(1)
    except ValueError:
        return {}
    return {number: (red, green, blue) for number, (red, green, blue, _) in table.items()}
