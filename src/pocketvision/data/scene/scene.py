"""A hyperspectral scene: a cube of spectra, what is known of it, and labels where it has some."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketvision.errors import ConfigError

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
    bad_bands: from 1 up, those that the file declares bad. suspicions: sentences on a file that
    seems to be read wrongly.
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
    bad_bands: tuple[int, ...] = ()
    suspicions: tuple[str, ...] = ()
    _known_fingerprint: list[str] = field(default_factory=list, init=False, repr=False)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of spectra, labels and class names; the same whatever the format of the files.

        The first look goes through the whole cube.
        """
        if not self._known_fingerprint:
            self._known_fingerprint.append(_sha256(self))
        return self._known_fingerprint[0]

    def chunks(self, halo: int = 0) -> Iterator[tuple[int, int]]:
        """Ranges of rows (start, stop) that go through the cube in pieces of bounded size.

        halo: rows that are read beside each piece; they count.
        """
        height, width, bands = self.cube.shape
        row_bytes = width * bands * max(self.cube.dtype.itemsize, 4)
        step = max(1, CHUNK_BYTES // row_bytes - 2 * halo)
        for start in range(0, height, step):
            yield start, min(height, start + step)


def _sha256(scene: Scene) -> str:
    little = scene.cube.dtype.newbyteorder("<")
    digest = hashlib.sha256(f"{scene.cube.shape} {little.str}".encode())
    for start, stop in scene.chunks():
        digest.update(scene.cube.rows(start, stop).astype(little, copy=False).data)
    if scene.labels is not None:
        digest.update(json.dumps(scene.classes).encode())
        digest.update(scene.labels.astype("<i2", copy=False).tobytes())
    return digest.hexdigest()


def missing(spectra: NDArray[Any], no_data: float | None) -> Mask:
    """(...,) of spectra (..., B): true where no measurement lies.

    That is where any band is NaN or infinite, or every band has the value `no_data`. A pixel that
    has it in some bands only counts as measured there too: in whole numbers 0 may be both.
    """
    gone: Mask = ~np.isfinite(spectra).all(axis=-1)
    return gone | equals(spectra, no_data).all(axis=-1)


def equals(values: NDArray[Any], no_data: float | None) -> Mask:
    """Where values (...) are `no_data`, as their own type holds it: the float32 nearest to -9999.9
    is -9999.9 in a cube of float32, and no whole number is."""
    if no_data is None:
        return np.zeros(values.shape, np.bool_)
    same: Mask
    if np.isnan(no_data):
        same = np.isnan(values)
    elif values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            same = values == values.dtype.type(no_data)
    elif values.dtype.kind in "iu" and float(no_data).is_integer():
        same = values == int(no_data)  # float64 cannot tell large whole numbers apart
    else:
        same = values == no_data
    return same


def check_bands(bands: int, expected: int) -> None:
    """Raises: ConfigError: a cube of another number of bands than a network was fitted to."""
    if bands != expected:
        raise ConfigError(
            f"the cube has {bands} bands, this network takes {expected}; give a cube of the same "
            "sensor with the same bands removed."
        )
