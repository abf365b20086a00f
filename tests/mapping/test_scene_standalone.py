"""run.py maps a cube without this package, with the same numbers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tile_scenes import FORMS, exported, make_scene, mapped, small_card

from pocketvision.mapping.standalone import scene_script
from pocketvision.runtimes.scene_onnx import open_scene_session
from pocketvision.scene_record import Form


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Form, Path]:
    """model.onnx and run.py in either form."""
    found = {}
    for form in FORMS:
        found[form] = tmp_path_factory.mktemp(form)
        exported(found[form], form).rename(found[form] / "model.onnx")
        (found[form] / "run.py").write_text(scene_script(small_card(form), threads=1))
    return found


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # -I and the finder below: nothing of ours can be imported.
    blocked = (
        "import runpy, sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'pocketvision', 'torch', 'onnx'}:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command = [sys.executable, "-I", "-W", "error", "-c", blocked, str(folder / "run.py")]
    return subprocess.run([*command, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("form", FORMS)
def test_script_gives_the_map_of_the_package(
    folders: dict[Form, Path], form: Form, tmp_path: Path
) -> None:
    scene = make_scene(15, 70 if form == "dense" else 12, gaps=6)
    cube, target = tmp_path / "cube.npy", tmp_path / "classes.npy"
    np.save(cube, scene.cube.rows(0, 15))
    done = run(folders[form], str(cube), str(target))
    assert done.returncode == 0, done.stderr
    session = open_scene_session(folders[form] / "model.onnx", "f32", 1)
    expected, _ = mapped(scene, session, session.card.tile)
    classes = np.load(target)
    assert classes.dtype == np.uint8
    np.testing.assert_array_equal(classes, expected)
    first, *lines = done.stdout.splitlines()
    assert first.startswith(f"{expected.size} pixels in ")
    names = ("no measurement", *scene.classes)
    assert lines == [
        f"{number}\t{name}\t{(expected == number).mean():.2%}" for number, name in enumerate(names)
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classes.npy", "cube.npy"]


def test_script_answers_bad_input_in_a_sentence(folders: dict[Form, Path], tmp_path: Path) -> None:
    target = str(tmp_path / "classes.npy")
    usage = run(folders["dense"], "only-one")
    assert (usage.returncode, usage.stderr) == (2, "usage: python run.py cube.npy classes.npy\n")
    bad: dict[str, tuple[NDArray[Any], str]] = {
        "bands": (np.zeros((4, 4, 3), np.int16), "the cube has 3 bands, this network takes 14"),
        "flat": (np.zeros((4, 4)), "it holds float64 (4, 4), not numbers (H, W, bands)"),
        "words": (np.full((4, 4, 14), "x"), "not numbers (H, W, bands)"),
    }
    for name, (cube, message) in bad.items():
        path = tmp_path / f"{name}.npy"
        np.save(path, cube)
        done = run(folders["dense"], str(path), target)
        assert done.returncode == 2
        assert f"{name}.npy cannot be mapped: " in done.stderr
        assert message in done.stderr
    missing = run(folders["dense"], str(tmp_path / "none.npy"), target)
    assert (missing.returncode, "none.npy cannot be mapped" in missing.stderr) == (2, True)
    assert not (tmp_path / "classes.npy").exists()


@pytest.mark.parametrize("name", ["cube.npy", "older.npy"])
def test_script_replaces_no_file(folders: dict[Form, Path], name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "cube.npy", make_scene(4, 4).cube.rows(0, 4))
    (tmp_path / "older.npy").write_bytes(b"older")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = run(folders["dense"], str(tmp_path / "cube.npy"), str(tmp_path / name))
    assert done.returncode == 2
    assert done.stderr == f"{tmp_path / name} exists; nothing was changed. Give another name.\n"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_script_leaves_nothing_where_it_cannot_write(
    folders: dict[Form, Path], tmp_path: Path
) -> None:
    cube = tmp_path / "cube.npy.part"  # a name that the script might use for itself
    np.save(tmp_path / "cube.npy", make_scene(4, 4).cube.rows(0, 4))
    (tmp_path / "cube.npy").rename(cube)
    before = cube.read_bytes()
    done = run(folders["dense"], str(cube), str(tmp_path / "none" / "classes.npy"))
    assert (done.returncode, "classes.npy cannot be written: " in done.stderr) == (2, True)
    done = run(folders["dense"], str(cube), str(tmp_path / "cube.npy"))
    assert done.returncode == 0, done.stderr
    assert cube.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cube.npy", "cube.npy.part"]


@pytest.mark.parametrize(
    ("no_data", "kept"), [(None, "null"), (float("nan"), "null"), (-1.0, "-1.0")]
)
def test_script_keeps_a_finite_mark(no_data: float | None, kept: str) -> None:
    # NaN is a missing measurement without a word, and JSON has no number for it.
    text = scene_script(replace(small_card("dense"), no_data=no_data), threads=1)
    assert f'"no_data": {kept}' in text


def test_script_speaks_the_card(folders: dict[Form, Path]) -> None:
    text = (folders["patch"] / "run.py").read_text()
    assert '"form": "patch"' in text
    assert "pocketvision" not in text.replace("Written by pocketvision.", "")
    compile(text, "run.py", "exec")
