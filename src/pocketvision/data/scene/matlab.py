"""Cubes and label maps in MATLAB files: version 5 with scipy, version 7.3 (HDF5) with h5py."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from pocketvision.data.scene.facts import Raster, Shape, check_numbers
from pocketvision.data.scene.scene import ArrayCube
from pocketvision.errors import DataError, PocketvisionError, require

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
HDF5_OFFSETS = (0, 512)  # MATLAB puts 512 bytes of its own before it
NUMBERS = (  # MATLAB's classes that hold numbers
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("single", "double", "logical"),
)


def mat_shapes(path: Path) -> dict[str, Shape]:
    """Name and shape of each cube or label map in a .mat file; nothing is loaded.

    A label map has one band. Scalars, vectors, text, cells and structures are left out.
    Raises: DataError: a damaged file. MissingExtraError: without scipy, or h5py for version 7.3.
    """
    found = _hdf5_shapes(path) if _is_hdf5(path) else _mat5_shapes(path)
    return {
        name: cast(Shape, (*shape, 1)[:3])
        for name, shape in found.items()
        if len(shape) in (2, 3) and min(shape[:2]) > 1
    }


def read_mat(path: Path, variable: str) -> Raster:
    """One variable, whole in memory; both versions give height x width x bands.

    Raises: DataError: complex numbers, or a damaged file.
    """
    array = _load_hdf5(path, variable) if _is_hdf5(path) else _load_mat5(path, variable)
    check_numbers(path, array.dtype)
    return Raster(cube=ArrayCube(array=array if array.ndim == 3 else array[..., None]))


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        for offset in HDF5_OFFSETS:
            file.seek(offset)
            if file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE:
                return True
    return False


def _mat5_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    scipy_io = require("scipy.io", "hyperspectral")
    try:
        variables = scipy_io.whosmat(str(path))
    except Exception as error:  # a damaged file may make scipy raise anything
        raise _damaged(path, error) from error
    return {name: shape for name, shape, kind in variables if kind in NUMBERS}


def _load_mat5(path: Path, variable: str) -> NDArray[Any]:
    scipy_io = require("scipy.io", "hyperspectral")
    try:
        array: NDArray[Any] = scipy_io.loadmat(str(path), variable_names=[variable])[variable]
    except Exception as error:
        raise _damaged(path, error) from error
    return array


def _hdf5_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    h5py = require("h5py", "hyperspectral")
    try:
        with h5py.File(path, "r") as file:
            links = {name: file.get(name, getlink=True) for name in file}
            return {
                name: tuple(reversed(file[name].shape))
                for name, link in links.items()
                # a link into another file may name any file there is
                if isinstance(link, h5py.HardLink) and _holds_numbers(h5py, file[name])
            }
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise _damaged(path, error) from error


def _holds_numbers(h5py: Any, item: Any) -> bool:
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        return False
    kind = item.attrs.get("MATLAB_class", b"double")
    return (kind.decode() if isinstance(kind, bytes) else kind) in NUMBERS


def _load_hdf5(path: Path, variable: str) -> NDArray[Any]:
    """MATLAB stores the last axis first in HDF5, so every axis is turned round."""
    h5py = require("h5py", "hyperspectral")
    try:
        with h5py.File(path, "r") as file:
            if file[variable].external or file[variable].is_virtual:
                raise DataError(
                    f"{str(path)!r} keeps {variable!r} in other files; store it in this one."
                )
            array: NDArray[Any] = file[variable][()].T
    except PocketvisionError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error
    return array


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{str(path)!r} cannot be read as a MATLAB file ({type(error).__name__}: {error}); "
        f"save it again, with -v7 or -v7.3."
    )
