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
from pocketvision.data.scene.wavelengths import from_tags
from pocketvision.errors import DataError, require


@dataclass(frozen=True, kw_only=True, slots=True)
class GeoTiffCube:
    """A cube in a GeoTIFF file, opened anew for every part, so that it can go to other threads.

    dtype: of the file; of real numbers where it is masked: then masked values are NaN.
    """

    path: Path
    shape: Shape
    dtype: np.dtype[Any]
    masked: bool = False

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """(stop - start, W, B), read from the file.

        Raises: DataError: a damaged file.
        """
        window = ((start, stop), (0, self.shape[1]))
        try:
            with open_raster(self.path, "GTiff") as dataset:
                planes: NDArray[Any] = dataset.read(window=window)
                if self.masked:
                    hidden = dataset.read_masks(window=window) == 0
                    planes = planes.astype(self.dtype)
                    planes[hidden] = np.nan
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

    A file with a mask becomes one of real numbers, NaN where it hides a pixel.
    Raises: DataError: complex numbers, or a band declared as transparency. MissingExtraError:
        without rasterio.
    """
    with open_raster(path, "GTiff") as dataset:
        if any(kind.startswith("complex") for kind in dataset.dtypes):
            raise DataError(f"{str(path)!r} holds complex numbers; expected whole or real ones.")
        dtype = np.dtype(dataset.dtypes[0])
        check_numbers(path, dtype)
        _check_alpha(path, dataset)
        masked = _is_masked(dataset)
        if masked:
            dtype = np.result_type(dtype, np.float32)
        shape = (dataset.height, dataset.width, dataset.count)
        return Raster(
            cube=GeoTiffCube(path=path, shape=shape, dtype=dtype, masked=masked),
            wavelengths_nm=from_tags([_band_tags(dataset, band) for band in dataset.indexes]),
            no_data=np.nan if masked and dataset.nodata is None else dataset.nodata,
            georeference=georeference_of(dataset),
            colours=_colormap(dataset),
        )


def _check_alpha(path: Path, dataset: Any) -> None:
    for band, kind in zip(dataset.indexes, dataset.colorinterp, strict=True):
        if kind.name == "alpha":
            raise DataError(
                f"{str(path)!r} declares its band {band} as alpha, transparency; if it holds "
                "measurements, write the file again with photometric=MINISBLACK; if it marks "
                "pixels without one, give those a no-data value and remove the band."
            )


def _is_masked(dataset: Any) -> bool:
    """True where a mask of the file, and no value, hides pixels."""
    return any(
        not {"all_valid", "nodata"} & {flag.name for flag in flags}
        for flags in dataset.mask_flag_enums
    )


def _band_tags(dataset: Any, band: int) -> dict[str, str]:
    """What is said of a band, from 1 up; its description too."""
    tags: dict[str, str] = dataset.tags(band, ns="IMAGERY") | dataset.tags(band)
    return tags | {"description": dataset.descriptions[band - 1] or ""}


def _colormap(dataset: Any) -> dict[int, Colour]:
    """Colour of each number; empty without a colour table."""
    try:
        table = dataset.colormap(1)
    except ValueError:
        return {}
    return {number: (red, green, blue) for number, (red, green, blue, _) in table.items()}
