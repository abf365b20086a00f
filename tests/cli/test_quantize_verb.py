"""`pocketvision quantize` as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from PIL import Image

from pocketvision.measure.latency import LatencyProtocol
from pocketvision.measure.untrained import stand_in, untrained_card
from pocketvision.models.registry import spec
from pocketvision.runtimes.export import export_onnx


@pytest.fixture(autouse=True)
def _briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    brief = LatencyProtocol(rounds=2, min_runs=2, seconds=0.01)
    monkeypatch.setattr("pocketvision.fitting.quantize_files.FINAL", brief)


@pytest.fixture(scope="module")
def float_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = spec("mobilenet_v1", width=0.25, resolution=32, num_classes=3)
    path = tmp_path_factory.mktemp("float") / "float.onnx"
    export_onnx(stand_in(network), path, untrained_card(network))
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loose")
    for k in range(10):
        noise = np.random.default_rng(k).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{k}.png")
    return folder


def test_table_sentence_and_page_are_printed(
    run: Run, float_file: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("quantize", float_file, "--images", images, "--out", out, "--max-drop", 100)
    answer = run(*words, "--runtime", "onnxruntime")
    assert answer.code == 0
    assert "onnxruntime int8" in answer.out
    assert "What costs most in integers:" in answer.out
    assert "report.html" in answer.out
    assert (out / "model" / "run.py").is_file()
    again = run(*words)
    assert again.code == 2
    assert "exists already; give another --out, or remove it" in again.err


def test_json_is_the_record(run: Run, float_file: Path, images: Path, tmp_path: Path) -> None:
    answer = run(
        "quantize", float_file, "--images", images, "--out", tmp_path / "out", "--max-drop", 100,
        "--runtime", "onnxruntime", "--no-explain", "--json",
    )  # fmt: skip
    assert answer.code == 0
    found = json.loads(answer.out[answer.out.index("{") :])
    assert found["quantization"]["judged_by"] == "agreement"
    assert [one["precision"] for one in found["variants"]] == ["f32", "int8", "w8"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nothing.pth",), "nothing.pth"),
        (("FLOAT", "--runtime", "tensorrt"), "runtime='tensorrt' is unknown"),
        (("FLOAT", "--max-drop", "101"), "max-drop=101"),
        (("FLOAT", "--threads", "0"), "threads=0 is out of range"),
        (("FLOAT", "--epochs", "-1"), "epochs=-1 is out of range"),
    ],
)
def test_bad_words_are_answered_with_exit_code_2(
    run: Run,
    float_file: Path,
    images: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    message: str,
) -> None:
    source, *rest = (str(float_file) if word == "FLOAT" else word for word in words)
    answer = run("quantize", source, *rest, "--images", images, "--out", tmp_path / "out")
    assert answer.code == 2
    assert message in answer.err
    assert not list(tmp_path.iterdir())


def test_images_that_are_not_there_are_named(run: Run, float_file: Path, tmp_path: Path) -> None:
    answer = run("quantize", float_file, "--images", tmp_path / "none", "--out", tmp_path / "out")
    assert answer.code == 2
    assert "does not exist; give a folder of images" in answer.err
