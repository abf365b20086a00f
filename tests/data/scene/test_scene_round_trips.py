"""Every format gives back the cube that was written, in rows, and the same fingerprint."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
import scipy.io
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pocketvision.data.scene.envi_header import DATA_TYPES
from pocketvision.data.scene.reading import open_scene
from pocketvision.data.scene.scene import Scene

Array = NDArray[Any]

STORED = {"bsq": (2, 0, 1), "bil": (0, 2, 1), "bip": (0, 1, 2)}  # axes h, w, b as they are written
shapes = st.tuples(st.integers(2, 6), st.integers(2, 6), st.integers(2, 6))
seeds = st.integers(0, 2**32 - 1)


def numbers(shape: tuple[int, ...], dtype: str, seed: int) -> Array:
    """Any values of the type, the largest and the smallest included."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return (rng.standard_normal(shape) * 1e4).astype(dtype)
    info = np.iinfo(dtype)
    array = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    array.flat[:2] = info.min, info.max
    return array


def write_npy(folder: Path, cube: Array) -> Path:
    np.save(folder / "cube.npy", cube)
    return folder / "cube.npy"


def write_mat5(folder: Path, cube: Array) -> Path:
    scipy.io.savemat(folder / "cube.mat", {"cube": cube}, do_compression=True)
    return folder / "cube.mat"


def write_mat73(folder: Path, cube: Array) -> Path:
    """As MATLAB does: the axes turned round, a block of its own before the HDF5 signature."""
    path = folder / "cube.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("cube", data=cube.T).attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file")
    return path


def write_geotiff(folder: Path, cube: Array) -> Path:
    height, width, bands = cube.shape
    path = folder / "cube.tif"
    crs, transform = "EPSG:32611", rasterio.Affine(20, 0, 6e5, 0, -20, 4e6)
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=bands,
        dtype=cube.dtype, crs=crs, transform=transform, photometric="MINISBLACK",
    ) as file:  # fmt: skip
        file.write(np.moveaxis(cube, -1, 0))
    return path


def write_envi(folder: Path, cube: Array, interleave: str, order: int, offset: int) -> Path:
    height, width, bands = cube.shape
    code = next(n for n, kind in DATA_TYPES.items() if np.dtype(kind) == cube.dtype)
    stored = cube.transpose(STORED[interleave]).astype(
        cube.dtype.newbyteorder(">" if order else "<")
    )
    (folder / "cube.img").write_bytes(b"x" * offset + stored.tobytes())
    (folder / "cube.hdr").write_text(
        f"ENVI\nsamples = {width}\nlines = {height}\nbands = {bands}\nheader offset = {offset}\n"
        f"data type = {code}\ninterleave = {interleave}\nbyte order = {order}\n"
    )
    return folder / "cube.img"


def check(scene: Scene, cube: Array) -> None:
    assert scene.cube.shape == cube.shape
    assert scene.cube.dtype.newbyteorder("=") == cube.dtype
    assert scene.labels is None
    whole = scene.cube.rows(0, cube.shape[0])
    np.testing.assert_array_equal(whole, cube)
    assert whole.flags.c_contiguous
    for start in range(cube.shape[0]):
        np.testing.assert_array_equal(scene.cube.rows(start, start + 1), cube[start : start + 1])


@settings(max_examples=25)
@given(
    shape=shapes,
    code=st.sampled_from(sorted(DATA_TYPES)),
    interleave=st.sampled_from(sorted(STORED)),
    order=st.integers(0, 1),
    offset=st.sampled_from([0, 1, 512]),
    seed=seeds,
)
@example(shape=(2, 3, 4), code=2, interleave="bsq", order=1, offset=3, seed=0)
def test_envi(
    shape: tuple[int, int, int], code: int, interleave: str, order: int, offset: int, seed: int
) -> None:
    cube = numbers(shape, DATA_TYPES[code], seed)
    with tempfile.TemporaryDirectory() as folder:
        check(open_scene(write_envi(Path(folder), cube, interleave, order, offset)), cube)


@pytest.mark.parametrize("code", sorted(DATA_TYPES))
@pytest.mark.parametrize("interleave", sorted(STORED))
@pytest.mark.parametrize("order", [0, 1])
def test_envi_every_type(tmp_path: Path, code: int, interleave: str, order: int) -> None:
    cube = numbers((3, 4, 5), DATA_TYPES[code], seed=code)
    check(open_scene(write_envi(tmp_path, cube, interleave, order, 0)), cube)


@pytest.mark.parametrize("write", [write_npy, write_mat5, write_mat73, write_geotiff])
@settings(max_examples=6)
@given(
    shape=shapes,
    dtype=st.sampled_from(["u1", "i2", "u2", "i4", "u4", "f4", "f8"]),
    seed=seeds,
)
def test_other_formats(
    write: Callable[[Path, Array], Path], shape: tuple[int, int, int], dtype: str, seed: int
) -> None:
    cube = numbers(shape, dtype, seed)
    with tempfile.TemporaryDirectory() as folder:
        check(open_scene(write(Path(folder), cube)), cube)


def test_npy_in_the_order_of_fortran(tmp_path: Path) -> None:
    cube = numbers((3, 4, 5), "u2", seed=0)
    check(open_scene(write_npy(tmp_path, np.asfortranarray(cube))), cube)


def test_fingerprint_is_the_same_in_every_format(tmp_path: Path) -> None:
    cube = numbers((4, 5, 6), "i2", seed=1)
    fingerprints = set()
    for write in (write_npy, write_mat5, write_mat73, write_geotiff):
        folder = tmp_path / write.__name__
        folder.mkdir()
        fingerprints.add(open_scene(write(folder, cube)).fingerprint)
    fingerprints.add(open_scene(write_envi(tmp_path, cube, "bil", 1, 7)).fingerprint)
    assert len(fingerprints) == 1
