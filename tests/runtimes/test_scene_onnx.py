"""Scenes in ONNX Runtime: integers from the reduction on, and sessions that check what they get."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from scene_files import BANDS, WINDOW, exported, quantized, small_card, small_spectra

from pocketvision.data.scene.scene import ArrayCube, Scene
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.nn.attention import SqueezeExciteSpec
from pocketvision.runtimes.onnxfile import metadata, read_model
from pocketvision.runtimes.scene_export import SceneCard
from pocketvision.runtimes.scene_onnx import (
    SceneCalibration,
    SceneSession,
    check_sensor,
    open_scene_session,
    quantize_scene,
)
from pocketvision.scene_record import Form


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """(form, precision) -> file."""
    folder = tmp_path_factory.mktemp("scene")
    found: dict[tuple[str, str], Path] = {}
    forms: tuple[Form, ...] = ("dense", "patch")
    for form in forms:
        found[form, "f32"] = exported(folder, form)
        found[form, "int8"] = quantized(folder, form)
    return found


@pytest.fixture(scope="module")
def dense(files: dict[tuple[str, str], Path]) -> SceneSession:
    return open_scene_session(files["dense", "f32"], "f32", 1)


def test_attention_stays_near_float_in_integers(tmp_path: Path) -> None:
    gated = SqueezeExciteSpec(squeezed=2)
    spectra = small_spectra(2, 24, 19)
    expected = open_scene_session(exported(tmp_path, "dense", gated), "f32", 1).run(spectra)
    found = open_scene_session(quantized(tmp_path, "dense", gated), "int8", 1).run(spectra)
    assert found.shape == expected.shape == (2, 18, 13, 3)
    assert np.abs(found - expected).mean() < 0.05 * expected.std()


@pytest.mark.parametrize(("form", "side"), [("dense", 24), ("patch", WINDOW)])
def test_int8_stays_near_float(files: dict[tuple[str, str], Path], form: str, side: int) -> None:
    spectra = small_spectra(40, side, side)
    expected = open_scene_session(files[form, "f32"], "f32", 1).run(spectra)
    found = open_scene_session(files[form, "int8"], "int8", 1).run(spectra)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 0.05 * expected.std()


@pytest.mark.parametrize("form", ["dense", "patch"])
def test_all_but_the_reduction_runs_in_integers(
    files: dict[tuple[str, str], Path], form: str, tmp_path: Path
) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(files[form, "int8"]), options)
    graph = onnx.load(tmp_path / "optimised.onnx").graph
    found = Counter(node.op_type for node in graph.node)
    assert found["QLinearConv"] + found["QGemm"] == 5
    assert not {"Conv", "FusedConv", "Gemm", "FusedGemm"} & set(found)
    last = 1 if form == "dense" else 0  # the sums of a matrix product come out as they are
    assert (found["Sub"], found["MatMul"], found["DequantizeLinear"]) == (1, 1, last)
    # Raw spectra would lose everything in 8 bits: nothing is quantized before the product.
    raw = {"input"}
    for node in graph.node:
        if node.op_type in {"Sub", "MatMul"}:
            assert raw & set(node.input)
            raw |= set(node.output)


def test_int8_keeps_its_card(files: dict[tuple[str, str], Path]) -> None:
    pairs = metadata(read_model(files["dense", "int8"]))
    how = json.loads(pairs.pop("quantization"))
    assert (how["ranges"], how["percentile"], how["images"]) == ("chosen", 99.99, 40)
    assert pairs == metadata(read_model(files["dense", "f32"]))
    assert SceneCard.from_metadata(pairs, source="file").form == "dense"


def test_session_says_how_it_runs(dense: SceneSession) -> None:
    assert dense.card.form == "dense"
    assert dense.describe() == {
        "runtime": "onnxruntime",
        "version": onnxruntime.__version__,
        "precision": "f32",
        "threads": "1",
        "execution": "sequential",
        "form": "dense",
    }


@pytest.mark.parametrize(
    ("spectra", "message"),
    [
        (np.zeros((1, 9, 9, 103), np.float32), r"the cube has 103 bands, this network takes 12;"),
        (np.zeros((1, 9, 9, 12), np.float64), r"spectra are float64; expected float32"),
        (np.zeros((9, 9, 12), np.float32), r"spectra is 9x9x12; expected anyxanyxanyxany"),
        (np.zeros((0, 9, 9, 12), np.float32), r"spectra hold no window; expected at least one"),
        (np.zeros((1, 9, 5, 12), np.float32), r"spectra of 9x5 pixels; expected at least 7x7"),
    ],
)
def test_session_refuses_other_spectra(
    dense: SceneSession, spectra: np.ndarray[Any, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        dense.run(spectra)


def test_patch_session_takes_windows_only(files: dict[tuple[str, str], Path]) -> None:
    session = open_scene_session(files["patch", "f32"], "f32", 1)
    with pytest.raises(ConfigError, match=r"spectra is 2x9x9x12; expected anyx7x7x12"):
        session.run(small_spectra(2, 9, 9))


def test_session_refuses_other_files(files: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"is a file in int8; it cannot be run as f32"):
        open_scene_session(files["dense", "int8"], "f32", 1)
    with pytest.raises(ConfigError, match=r"precision='bf16' is unknown"):
        open_scene_session(files["dense", "f32"], "bf16", 1)
    with pytest.raises(ConfigError, match=r"threads=0 is out of range"):
        open_scene_session(files["dense", "f32"], "f32", 0)
    with pytest.raises(ArtefactError, match=r"does not exist"):
        open_scene_session(tmp_path / "none.onnx", "f32", 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spectra": np.zeros((1, 7, 7, 12))}, r"calibration spectra are float64; expected float3"),
        ({"spectra": np.zeros((0, 7, 7, 12), np.float32)}, r"at least one window; got none"),
        ({"spectra": np.zeros((7, 7, 12), np.float32)}, r"calibration spectra is 7x7x12"),
    ],
)
def test_impossible_calibrations_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SceneCalibration(**{"spectra": small_spectra(1, WINDOW, WINDOW), **options})


def test_calibration_must_fit_the_file(files: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    calibration = SceneCalibration(spectra=small_spectra(2, 9, 9))
    with pytest.raises(ConfigError, match=r"spectra is 2x9x9x12; expected anyx7x7x12"):
        quantize_scene(files["patch", "f32"], tmp_path / "int8.onnx", calibration)
    assert not list(tmp_path.iterdir())


def cube_at(*wavelengths_nm: float, bands: int = BANDS) -> Scene:
    """A scene of which only bands and their wavelengths matter."""
    cube = ArrayCube(array=np.zeros((1, 1, bands)))
    return Scene(
        name="other",
        cube=cube,
        labels=None,
        classes=(),
        class_ids=(),
        colours=(),
        wavelengths_nm=wavelengths_nm,
    )


def test_another_sensor_is_refused() -> None:
    card = small_card("dense")
    shifted = [nm + 2 for nm in card.wavelengths_nm]
    check_sensor(cube_at(*shifted), card)
    shifted[3] += 40
    message = r"band 4 lies at 472 nm in the cube and at 430 nm for this network; give a cube of"
    with pytest.raises(ConfigError, match=message):
        check_sensor(cube_at(*shifted), card)
    with pytest.raises(ConfigError, match=r"the cube has 9 bands, this network takes 12"):
        check_sensor(cube_at(bands=9), card)
    with pytest.raises(ConfigError, match=r"the cube's wavelengths is 2; expected 12"):
        check_sensor(cube_at(400.0, 410.0), card)


def test_unknown_wavelengths_are_not_compared() -> None:
    check_sensor(cube_at(), small_card("dense"))
    check_sensor(cube_at(*range(1, 13)), replace(small_card("dense"), wavelengths_nm=()))
