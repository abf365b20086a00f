"""Segmentation and detection from the command line: fit, predict, doctor."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import Run, called
from PIL import Image
from shapes import HEIGHT, WIDTH, write_boxes, write_masks

from pocketvision.boxes import Selection

QUICK = ("--models", "mobilenet_v3_small", "--width", "0.35", "--resolution", "96")
BRIEF = ("--runtime", "onnxruntime", "--precision", "f32", "--epochs", "1", "--batch-size", "8")


@pytest.fixture(scope="module", params=["segment", "detect"])
def fitted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Path]:
    """The task, the folder of the fit, and the data."""
    folder = tmp_path_factory.mktemp(request.param)
    writer = {"segment": write_masks, "detect": write_boxes}[request.param]
    data = writer(folder / "data")
    words = ("fit", data, "--task", request.param, "--out", folder / "out", *QUICK, *BRIEF)
    assert called(*words) == 0
    return request.param, folder / "out", data


def test_predict_says_and_draws_what_it_sees(
    fitted: tuple[str, Path, Path], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, out, data = fitted
    monkeypatch.setattr("pocketvision.boxes.TOLD", Selection(least=0.0, most=5))  # hardly trained
    image, seen = data / "images" / "0.png", tmp_path / "map[a] [" / "x].png"  # tags, to rich
    seen.parent.mkdir()
    said = run("predict", out, image, "--out", seen)
    assert said.code == 0
    assert said.out.endswith(f"Wrote {seen}\n")
    with Image.open(seen) as drawn, Image.open(image) as photo:
        assert drawn.size == (WIDTH, HEIGHT)
        changed = (np.asarray(drawn) != np.asarray(photo.convert("RGB"))).any()
    again = run("predict", out, image, "--out", seen)
    assert again.code == 2
    assert "exists; give another name, or remove it." in again.err
    told = json.loads(run("predict", out, image, "--json").out)
    (found,) = told.values()
    assert changed
    if task == "segment":
        assert sum(found.values()) == pytest.approx(1)
        return
    assert [sorted(one) for one in found] == [["box", "class", "score"]] * 5
    assert {one["class"] for one in found} <= {"red", "blue"}
    assert found[0]["score"] == max(one["score"] for one in found)
    for left, top, right, bottom in (one["box"] for one in found):
        assert 0 <= left <= right <= WIDTH
        assert 0 <= top <= bottom <= HEIGHT


def test_a_picture_is_a_png(fitted: tuple[str, Path, Path], run: Run) -> None:
    _, out, data = fitted
    said = run("predict", out, data / "images" / "0.png", "--out", "seen.jpg")
    assert said.code == 2
    assert "--out writes a PNG, and seen.jpg is named otherwise; end it in .png." in said.err


def test_one_image_is_drawn_at_a_time(fitted: tuple[str, Path, Path], run: Run) -> None:
    _, out, data = fitted
    images = (data / "images" / "0.png", data / "images" / "1.png")
    said = run("predict", out, *images, "--out", "seen.png")
    assert said.code == 2
    assert "--out takes one image, 2 were given; draw them in turn." in said.err
    assert run("predict", out, *images).code == 0


def test_doctor_looks_at_masks_and_boxes(fitted: tuple[str, Path, Path], run: Run) -> None:
    task, _, data = fitted
    said = run("doctor", data, "--task", task)
    assert said.code == 0
    assert "train 28, val 6, test 6" in said.out
    assert "red" in said.out
    wrong = run("doctor", data, "--task", "detect", "--void", 3)
    assert wrong.code == 2
    assert "--void is of masks; leave it away, or say --task segment." in wrong.err


def test_folders_of_another_task_are_refused(tmp_path: Path, run: Run) -> None:
    data = write_masks(tmp_path / "masks")
    said = run("fit", data, "--task", "detect", "--out", tmp_path / "out")
    assert said.code == 2
    assert not (tmp_path / "out").exists()
    mixed = run("fit", data, "--task", "segment", "--mixup", 0.2, "--out", tmp_path / "out")
    assert mixed.code == 2
    assert "Images of task='segment' cannot be mixed" in mixed.err
