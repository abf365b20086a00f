"""A hyperspectral scene: a cube of spectra, what is known of it, and labels where it has some."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int16]  # (H, W): 0 unlabelled, k the class k - 1 of the scene
Mask = NDArray[np.bool_]  # (H, W)
Colour = tuple[int, int, int]  # red, green, blue, 0..255

CHUNK_BYTES = 64_000_000  # of spectra in memory at once while a cube is gone through


class Cube(Protocol):
    """Spectra of a scene, read in rows so that a large one is never in memory whole."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, bands."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """(stop - start, W, B) of the rows start..stop - 1, in the file's own type."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ArrayCube:
    """A cube that lies in an array (H, W, B), in memory or memory-mapped."""

    array: NDArray[Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, bands."""
        height, width, bands = self.array.shape
        return height, width, bands

    @property
    def dtype(self) -> np.dtype[Any]:
        """The file's own type, in this machine's byte order."""
        return self.array.dtype.newbyteorder("=")

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """(stop - start, W, B), copied from the file."""
        return np.ascontiguousarray(self.array[start:stop], dtype=self.dtype)


@dataclass(frozen=True, kw_only=True, slots=True)
class Georeference:
    """Where a scene lies. crs: its reference system as WKT; transform: a, b, c, d, e, f of
    x = a column + b row + c, y = d column + e row + f, at the corner of a pixel."""

    crs: str
    transform: tuple[float, float, float, float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scene:
    """A cube and its ground truth.

    labels: (H, W), 0 for pixels without a label and k for `classes[k - 1]`; None: not given.
    class_ids: the number each class has in the label file, where numbers may have gaps.
    colours: one for each class. wavelengths_nm: of the bands; empty where unknown.
    no_data: the value that marks pixels without a measurement; None: there is none; NaN is one.
    fingerprint: changes with the cube, its labels and the class names.
    """

    name: str
    cube: Cube
    labels: Labels | None
    classes: tuple[str, ...]
    class_ids: tuple[int, ...]
    colours: tuple[Colour, ...]
    wavelengths_nm: tuple[float, ...] = ()
    no_data: float | None = None
    georeference: Georeference | None = None
    fingerprint: str = ""

    def chunks(self, halo: int = 0) -> Iterator[tuple[int, int]]:
        """Ranges of rows (start, stop) that go through the cube in pieces of bounded size.

        halo: rows that are read beside each piece; they count.
        """
        height, width, bands = self.cube.shape
        row_bytes = width * bands * max(self.cube.dtype.itemsize, 4)
        step = max(1, CHUNK_BYTES // row_bytes - 2 * halo)
        for start in range(0, height, step):
            yield start, min(height, start + step)


def missing(spectra: NDArray[Any], no_data: float | None) -> Mask:
    """(...,) of spectra (..., B): true where no measurement lies.

    That is where any band is NaN or infinite, or every band has the value `no_data`.
    """
    gone: Mask = ~np.isfinite(spectra).all(axis=-1)
    if no_data is not None and np.isfinite(no_data):
        gone |= (spectra == no_data).all(axis=-1)
    return gone
