from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray

from pocketvision.data.scene.matlab import mat_shapes, read_mat
from pocketvision.data.scene.reading import open_scene
from pocketvision.errors import DataError, MissingExtraError

Array = NDArray[Any]

CUBE = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
LABELS = np.array([[0, 1, 2, 2], [0, 0, 1, 1], [2, 2, 2, 2]], dtype=np.uint8)


def write5(path: Path, **variables: Any) -> Path:
    scipy.io.savemat(path, variables)
    return path


def write73(path: Path, **variables: Array) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in variables.items():
            kind = "double" if array.dtype == np.float64 else array.dtype.name
            file.create_dataset(name, data=array.T).attrs["MATLAB_class"] = np.bytes_(kind)
    return path


@pytest.mark.parametrize("write", [write5, write73])
def test_cube_and_labels_in_one_file(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path / "scene.mat", cube=CUBE, labels=LABELS, scale=np.ones((1, 1)))
    assert mat_shapes(path) == {"cube": (3, 4, 5), "labels": (3, 4, 1)}
    scene = open_scene(path)
    np.testing.assert_array_equal(scene.cube.rows(0, 3), CUBE)
    np.testing.assert_array_equal(scene.labels, LABELS)
    assert scene.name == "scene"


@pytest.mark.parametrize("write", [write5, write73])
def test_one_of_several_variables(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path / "scene.mat", raw=CUBE, other=CUBE + 1, gt=LABELS, pca=CUBE[..., 0])
    with pytest.raises(
        DataError,
        match=r"scene\.mat' has more than one cube: (raw 3x4x5, other|other 3x4x5, raw) 3x4x5; "
        r"name one, such as scene\.mat:(raw|other)\.",
    ):
        open_scene(path)
    with pytest.raises(DataError, match=r"has more than one label map: .*gt 3x4.*; name one"):
        open_scene(f"{path}:other")
    scene = open_scene(f"{path}:other", labels=f"{path}:gt")
    np.testing.assert_array_equal(scene.cube.rows(0, 3), CUBE + 1)
    np.testing.assert_array_equal(scene.labels, LABELS)


def test_variable_that_is_not_there(tmp_path: Path) -> None:
    path = write5(tmp_path / "scene.mat", cube=CUBE, labels=LABELS)
    with pytest.raises(
        DataError,
        match=r"has no cube or labels called 'x'; it has cube 3x4x5, labels 3x4\.",
    ):
        open_scene(f"{path}:x")


def test_variable_that_is_no_cube(tmp_path: Path) -> None:
    path = write5(tmp_path / "scene.mat", cube=CUBE, labels=LABELS)
    with pytest.raises(DataError, match=r"mat:labels' holds no cube, .*; it has labels 3x4\."):
        open_scene(f"{path}:labels")


def test_what_is_no_array_of_numbers_is_left_out(tmp_path: Path) -> None:
    cells = np.empty((2, 2), dtype=object)
    cells[:] = "x"
    path = write5(tmp_path / "a.mat", text="words", cells=cells, record={"a": CUBE}, cube=CUBE)
    assert mat_shapes(path) == {"cube": (3, 4, 5)}


def test_file_without_any_cube(tmp_path: Path) -> None:
    path = write5(tmp_path / "a.mat", text="words")
    with pytest.raises(DataError, match=r"holds no cube.*; it has nothing of the kind\."):
        open_scene(path)


def test_labels_as_matlab_doubles_and_logicals(tmp_path: Path) -> None:
    for labels in (LABELS.astype(np.float64), LABELS > 0):
        scene = open_scene(write5(tmp_path / "scene.mat", cube=CUBE, labels=labels))
        np.testing.assert_array_equal(scene.labels, labels)


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    path = write5(tmp_path / "a.mat", cube=CUBE * 1j)
    with pytest.raises(DataError, match="holds values of type complex128; expected whole or real"):
        open_scene(path)


@pytest.mark.parametrize("content", [b"", b"nothing", bytes(128), b"\x89HDF\r\n\x1a\n" + bytes(99)])
def test_file_that_is_no_matlab_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as a MATLAB file \(|it has nothing of"):
        open_scene(tmp_path / "a.mat")


@pytest.mark.parametrize("cut", [140, 200, 300])
@pytest.mark.parametrize("write", [write5, write73])
def test_truncated_file(tmp_path: Path, write: Any, cut: int) -> None:
    path = write(tmp_path / "a.mat", cube=CUBE)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"cannot be read as a MATLAB file \(.*save it again, with"):
        open_scene(path)


def test_numbers_of_version_7_3_in_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(60))
    path = tmp_path / "a.mat"
    with h5py.File(path, "w") as file:
        file.create_dataset("cube", (5, 4, 3), "u1", external=[(str(tmp_path / "secret"), 0, 60)])
        file["link"] = h5py.ExternalLink(str(tmp_path / "b.mat"), "cube")
        file["soft"] = h5py.SoftLink("/cube")
    assert list(mat_shapes(path)) == ["cube"]
    with pytest.raises(DataError, match="keeps 'cube' in other files; store it in this one"):
        read_mat(path, "cube")


@pytest.mark.parametrize(("module", "write"), [("scipy.io", write5), ("h5py", write73)])
def test_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, write: Any
) -> None:
    path = write(tmp_path / "a.mat", cube=CUBE)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pocketvision\[hyperspectral\]'"):
        open_scene(path)
