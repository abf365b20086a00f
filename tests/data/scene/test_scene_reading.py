from __future__ import annotations

import json
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray
from PIL import Image

from pocketvision.data.scene import facts as facts_module
from pocketvision.data.scene import scene as scene_module
from pocketvision.data.scene.facts import SceneFacts, read_facts
from pocketvision.data.scene.reading import check_values, open_scene, read_mask
from pocketvision.data.scene.scene import ArrayCube, missing
from pocketvision.errors import DataError
from pocketvision.storage import to_json

Array = NDArray[Any]

CUBE = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
LABELS = np.array([[0, 2, 7, 7], [0, 0, 2, 2], [7, 7, 7, 7]], dtype=np.uint8)


def write(folder: Path, facts: Any = None, cube: Array = CUBE, labels: Array = LABELS) -> Path:
    np.save(folder / "cube.npy", cube)
    np.save(folder / "labels.npy", labels)
    if facts is not None:
        (folder / "scene.json").write_text(json.dumps(facts))
    return folder


def test_folder_with_all_its_facts(tmp_path: Path) -> None:
    facts = {
        "name": "Farm",
        "classes": {"2": "corn", "7": "woods"},
        "colours": {"2": [255, 0, 0], "7": [0, 100, 0]},
        "wavelengths_nm": [400, 500, 600, 700, 800.5],
        "no_data": 0,
        "source": "a survey",
        "licence": "CC0",
    }
    scene = open_scene(write(tmp_path, facts))
    assert (scene.name, scene.classes, scene.class_ids) == ("Farm", ("corn", "woods"), (2, 7))
    assert scene.colours == ((255, 0, 0), (0, 100, 0))
    assert scene.wavelengths_nm == (400.0, 500.0, 600.0, 700.0, 800.5)
    assert scene.no_data == 0
    assert scene.labels is not None
    assert scene.labels.tolist() == [[0, 1, 2, 2], [0, 0, 1, 1], [2, 2, 2, 2]]
    assert isinstance(scene.cube, ArrayCube)
    assert isinstance(scene.cube.array, np.memmap)


def test_folder_without_facts(tmp_path: Path) -> None:
    scene = open_scene(write(tmp_path))
    assert (scene.name, scene.classes) == (tmp_path.name, ("class 2", "class 7"))
    assert len(set(scene.colours)) == 2
    assert (scene.wavelengths_nm, scene.no_data, scene.georeference) == ((), None, None)


def test_folder_by_what_its_files_hold(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "Indian_pines_corrected.mat", {"indian_pines_corrected": CUBE})
    scipy.io.savemat(tmp_path / "Indian_pines_gt.mat", {"indian_pines_gt": LABELS})
    (tmp_path / "README.md").write_text("x")
    (tmp_path / ".hidden.npy").write_text("x")
    scene = open_scene(tmp_path)
    np.testing.assert_array_equal(scene.cube.rows(0, 3), CUBE)
    assert scene.class_ids == (2, 7)


def test_folder_is_named_from_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(tmp_path))
    assert open_scene(".").name == tmp_path.name


def test_cube_file_without_labels(tmp_path: Path) -> None:
    scene = open_scene(write(tmp_path) / "cube.npy")
    assert (scene.name, scene.labels, scene.classes, scene.colours) == ("cube", None, (), ())


def test_cube_file_and_labels_file(tmp_path: Path) -> None:
    write(tmp_path)
    scene = open_scene(
        tmp_path / "cube.npy", labels=tmp_path / "labels.npy", classes=list("abcdefg"), no_data=-1
    )
    assert (scene.classes, scene.no_data) == (("b", "g"), -1)


def test_options_come_before_facts(tmp_path: Path) -> None:
    write(tmp_path, {"classes": {"2": "corn"}, "no_data": 0})
    np.save(tmp_path / "other.npy", LABELS + 1)
    scene = open_scene(tmp_path, labels=tmp_path / "other.npy", classes=list("abcdefgh"), no_data=9)
    assert (scene.class_ids, scene.classes) == ((1, 3, 8), ("a", "c", "h"))
    assert scene.no_data == 9


def test_png_labels(tmp_path: Path) -> None:
    image = Image.fromarray(LABELS).convert("P")
    image.putdata(LABELS.ravel().tolist())
    image.putpalette([0, 0, 0, 1, 1, 1, 200, 0, 0, *([9] * 12), 0, 0, 200])
    np.save(tmp_path / "cube.npy", CUBE)
    for labels in (image, Image.fromarray(LABELS), Image.fromarray(LABELS.astype(np.uint16))):
        labels.save(tmp_path / "labels.png")
        assert open_scene(tmp_path).class_ids == (2, 7)
    image.save(tmp_path / "labels.png")
    assert open_scene(tmp_path).colours == ((200, 0, 0), (0, 0, 200))


def test_colour_image_is_no_label_map(tmp_path: Path) -> None:
    write(tmp_path)
    Image.new("RGB", (4, 3)).save(tmp_path / "view.png")
    assert open_scene(tmp_path).class_ids == (2, 7)
    with pytest.raises(
        DataError,
        match=r"view\.png' holds no label map, height x width with one number for each pixel; "
        r"it has 3x4x3\.",
    ):
        open_scene(tmp_path, labels=tmp_path / "view.png")
    with pytest.raises(DataError, match=r"view\.png' holds no cube"):
        open_scene(tmp_path / "view.png")


def test_huge_or_damaged_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "cube.npy", CUBE)
    Image.fromarray(LABELS).save(tmp_path / "labels.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 11)
    with pytest.raises(DataError, match=r"labels\.png' has more than 11 pixels; store the labels"):
        open_scene(tmp_path)
    monkeypatch.undo()
    data = (tmp_path / "labels.png").read_bytes()
    (tmp_path / "labels.png").write_bytes(b"no image")
    with pytest.raises(
        DataError, match=r"labels\.png' cannot be read \(cannot identify image file"
    ):
        open_scene(tmp_path)
    with pytest.raises(
        DataError, match=r"labels\.png' cannot be read \(cannot identify image file"
    ):
        open_scene(tmp_path / "cube.npy", labels=tmp_path / "labels.png")
    (tmp_path / "labels.png").write_bytes(data[:45])
    with pytest.raises(DataError, match=r"labels\.png' is a damaged PNG image \(.*; save it again"):
        open_scene(tmp_path)


@pytest.mark.parametrize(
    ("cube", "labels", "message"),
    [
        (
            (3, 4, 5),
            (4, 3),
            r"cube is 3x4x5, but the labels in '.*labels\.npy' are 4x3; trans",
        ),
        ((5, 3, 4), (3, 4), "cube is 5x3x4, .* 3x4; they would fit if the cube's first axis, its"),
        ((3, 4, 5), (3, 5), "cube is 3x4x5, .* are 3x5; give the labels of this cube"),
    ],
)
def test_labels_of_another_shape(
    tmp_path: Path, cube: tuple[int, ...], labels: tuple[int, ...], message: str
) -> None:
    write(tmp_path, cube=np.ones(cube), labels=np.ones(labels, np.uint8))
    with pytest.raises(DataError, match=message):
        open_scene(tmp_path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((3, 4)), r"cube\.npy' holds no cube, height x width x bands; it has 3x4\."),
        (np.ones((3, 4, 1)), r"holds no cube, height x width x bands; it has 3x4\."),
        (np.ones((0, 60, 20)), r"cube\.npy' is empty \(0x60x20\); expected at least one pixel and"),
        (np.ones((3, 4, 0)), r"is empty \(3x4x0\); expected at least one pixel and band\."),
        (np.ones(3), r"is 1-D \(3\); expected height x width x bands, or height x width for"),
        (np.ones((1, 3, 4, 5)), r"is 4-D \(1x3x4x5\); expected height x width x bands"),
        (CUBE * 1j, "holds values of type complex128; expected whole or real numbers"),
        (CUBE.astype("U3"), "holds values of type <U3; expected whole or real numbers"),
    ],
)
def test_array_that_is_no_cube(tmp_path: Path, array: Array, message: str) -> None:
    np.save(tmp_path / "cube.npy", array)
    with pytest.raises(DataError, match=message):
        open_scene(tmp_path)


class Trap:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("sprung",)


def test_objects_are_refused_and_never_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("cube.npy", np.array([[[Trap()] * 2]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"is no array of numbers in NumPy's format \(.*[Oo]bjects"):
        open_scene(tmp_path)
    assert not Path("sprung").exists()


def npy(header: str) -> bytes:
    """A file with any header, and 60 bytes of numbers."""
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(60)


HEADER = "{{'descr': '<i2', 'fortran_order': False, 'shape': {}}}"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing of NumPy's",
        b"PK\x03\x04",
        npy(HEADER.format("(-3, 4, 5)")),
        npy(HEADER.format("(3, -4, 5)")),
        npy(HEADER.format("(9223372036854775807, 4, 5)")),
        npy(HEADER.format("(True, 4, 5)")),
        npy("(" * 9_000),
        npy("{'descr': " + "[" * 200 + "]" * 200 + "}"),
        npy("{'a': 'b"),
    ],
)
def test_damaged_npy(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cube.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"is no array of numbers in NumPy's format \("):
        open_scene(tmp_path)


def test_truncated_npy(tmp_path: Path) -> None:
    path = write(tmp_path) / "cube.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"is no array of numbers in NumPy's format \("):
        open_scene(tmp_path)


def test_mask_keeps_its_numbers(tmp_path: Path) -> None:
    mask = write(tmp_path) / "labels.npy"
    np.testing.assert_array_equal(read_mask(mask, (3, 4, 5)), LABELS)
    scipy.io.savemat(tmp_path / "masks.mat", {"a": LABELS, "b": LABELS - 3.5, "cube": CUBE})
    np.testing.assert_array_equal(read_mask(f"{tmp_path}/masks.mat:b", (3, 4, 5)), LABELS - 3.5)


def test_mask_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(DataError, match=r"cube is 4x3x5, but .* are 3x4; transposed they would"):
        read_mask(tmp_path / "labels.npy", (4, 3, 5))
    with pytest.raises(DataError, match=r"holds no label map.*; it has 3x4x5\."):
        read_mask(tmp_path / "cube.npy", (3, 4, 5))
    (tmp_path / "mask.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"mask\.png' cannot be read \(cannot identify image"):
        read_mask(tmp_path / "mask.png", (3, 4, 5))


def test_empty_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"' is empty; put a cube in it, such as cube\.npy or .*$"):
        open_scene(tmp_path)


def test_folders_that_do_not_say_which_cube(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"has no file with a cube\.\nExpected a cube and labels"):
        open_scene(tmp_path)
    np.save(tmp_path / "a.npy", CUBE)
    np.save(tmp_path / "b.npy", CUBE)
    with pytest.raises(
        DataError, match=r"has more than one cube: a\.npy, b\.npy; name one of them"
    ):
        open_scene(tmp_path)
    (tmp_path / "b.npy").rename(tmp_path / "cube.npy")
    np.save(tmp_path / "c.npy", LABELS)
    np.save(tmp_path / "d.npy", LABELS)
    with pytest.raises(DataError, match=r"has more than one label map: c\.npy, d\.npy; name one"):
        open_scene(tmp_path)


def test_paths_that_cannot_be_used(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "cube.xyz").write_text("x")
    with pytest.raises(DataError, match=r"no' does not exist; give a cube or label file, or a"):
        open_scene(tmp_path / "no")
    with pytest.raises(DataError, match="is a folder; give a file"):
        open_scene(tmp_path, labels=tmp_path)
    with pytest.raises(
        DataError,
        match=r"cube\.xyz' has an unknown ending, and no ENVI header \(\.hdr\) beside it; "
        r"expected one of \.npy \.mat \.hdr \.tif \.tiff \.png\.",
    ):
        open_scene(tmp_path / "cube.xyz")


def test_file_that_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", "cube.npy")

    monkeypatch.setattr(np.lib.format, "open_memmap", refuse)
    with pytest.raises(DataError, match=r"'cube\.npy' cannot be read \(Permission denied\); check"):
        open_scene(write(tmp_path))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"clases": []}, r"scene\.json' is not a valid SceneFacts: clases: .* Correct it, or rem"),
        ({"classes": {"corn": "x"}}, r"is not a valid SceneFacts: classes"),
        ({"colours": [[1, 2]]}, r"is not a valid SceneFacts: colours"),
        ({"colours": [[0, 0, 256]]}, r"The colour \(0, 0, 256\) is out of range"),
        ({"name": "a\nb"}, r"The scene name 'a\\nb' is not printable text; change it\."),
        ({"name": "\x1b[31m"}, r"The scene name '\\x1b\[31m' is not printable text"),
        ({"name": "  "}, r"The scene name '  ' is not printable text"),
        ({"no_data": "none"}, r"is not a valid SceneFacts: no_data"),
        ({"classes": ["a"]}, r"1 class names are given, but '.*' has labels up to 7"),
        ({"wavelengths_nm": [1, 2]}, r"scene\.json has 2 wavelengths for 5 bands; correct or rem"),
        ({"wavelengths_nm": [1, 2, 3, 4, 0]}, r"The wavelength 0\.0 is no positive number of nm"),
    ],
)
def test_facts_that_cannot_be_used(tmp_path: Path, facts: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_scene(write(tmp_path, facts))


def test_facts_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_module, "MAX_FACTS_BYTES", 5)
    with pytest.raises(DataError, match=r"scene\.json' has 13 bytes; expected at most 5\."):
        open_scene(write(tmp_path, {"name": "x"}))


def test_facts_come_back_from_json(tmp_path: Path) -> None:
    facts = SceneFacts(name="x", classes={2: "corn"}, colours=((1, 2, 3),), wavelengths_nm=(1.5,))
    (tmp_path / "scene.json").write_text(to_json(facts))
    assert read_facts(tmp_path) == facts


def test_nan_as_no_data_value_in_facts(tmp_path: Path) -> None:
    scene = open_scene(write(tmp_path, {"no_data": float("nan")}))
    assert scene.no_data is not None
    assert np.isnan(scene.no_data)


def test_fingerprint_changes_with_cube_labels_and_names(tmp_path: Path) -> None:
    first = open_scene(write(tmp_path)).fingerprint
    assert len(first) == 64
    assert open_scene(tmp_path).fingerprint == first
    other_cube, other_labels = CUBE.copy(), LABELS.copy()
    other_cube[2, 3, 4] += 1
    other_labels[0, 0] = 2
    others = {
        open_scene(write(tmp_path, cube=other_cube)).fingerprint,
        open_scene(write(tmp_path, labels=other_labels)).fingerprint,
        open_scene(write(tmp_path, cube=CUBE.astype(np.int16))).fingerprint,
        open_scene(write(tmp_path), classes=list("abcdefg")).fingerprint,
        open_scene(tmp_path / "cube.npy").fingerprint,
    }
    assert len(others | {first}) == 6


def test_a_cube_is_gone_through_for_its_fingerprint_only_when_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, int]] = []
    rows = ArrayCube.rows

    def counted(cube: ArrayCube, start: int, stop: int) -> Array:
        read.append((start, stop))
        return rows(cube, start, stop)

    monkeypatch.setattr(ArrayCube, "rows", counted)
    scene = open_scene(write(tmp_path) / "cube.npy")
    assert read == []
    first = scene.fingerprint
    assert read == [(0, 3)]
    assert scene.fingerprint == first
    assert read == [(0, 3)]
    assert replace(scene, labels=LABELS.astype(np.int16)).fingerprint != first


def test_fingerprint_does_not_depend_on_the_size_of_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = open_scene(write(tmp_path)).fingerprint
    monkeypatch.setattr(scene_module, "CHUNK_BYTES", 1)
    assert open_scene(tmp_path).fingerprint == whole


def test_large_cube_is_never_in_memory_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene_module, "CHUNK_BYTES", 400_000)
    write(tmp_path, cube=np.ones((400, 100, 50), np.float32), labels=np.ones((400, 100), np.uint8))
    tracemalloc.start()
    try:
        check_values(open_scene(tmp_path))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4_000_000  # the cube has 8,000,000


def test_reading_does_not_fail_for_nan(tmp_path: Path) -> None:
    cube = CUBE.astype(np.float32)
    cube[1, 2, 3] = np.nan
    scene = open_scene(write(tmp_path, cube=cube))
    assert missing(scene.cube.rows(0, 3), scene.no_data).sum() == 1
