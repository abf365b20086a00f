"""OpenVINO: the precision asked for is the one that runs, and files keep their card."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pocketvision.cpu import Cpu, cpu
from pocketvision.errors import ArtefactError, ConfigError, MissingExtraError
from pocketvision.runtimes import openvino as module
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.openvino import OpenVino, read_card
from pocketvision.runtimes.runtime import (
    PLAIN_INT8,
    Calibration,
    FileCard,
    Int8Config,
    Pixels,
)

RUNTIME = OpenVino()
HAS_EXTRA = all(importlib.util.find_spec(name) for name in ("openvino", "nncf"))
needs_extra = pytest.mark.skipif(not HAS_EXTRA, reason="openvino or nncf is not installed")


@pytest.fixture(scope="module")
def ir_file(float_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ir") / RUNTIME.file_name("model")
    RUNTIME.convert(float_file, path)
    return path


@needs_extra
def test_float_file_computes_the_same_at_any_batch(
    float_file: Path, ir_file: Path, pixels: Pixels, card: FileCard
) -> None:
    reference = OnnxRuntime().session(float_file, "f32", 1).run(pixels)
    session = RUNTIME.session(ir_file, "f32", 1)
    for some in (slice(0, 1), slice(0, 24), slice(3, 8), slice(0, 24, 2)):
        logits = session.run(pixels[some])
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, reference[some], atol=1e-3)
    assert session.describe()["inference_precision_hint"] == "f32"
    assert read_card(ir_file) == card
    assert sorted(RUNTIME.files(ir_file)) == sorted(ir_file.parent.iterdir())


@needs_extra
def test_results_are_not_overwritten_by_the_next_run(ir_file: Path, pixels: Pixels) -> None:
    session = RUNTIME.session(ir_file, "f32", 1)
    first = session.run(pixels[:1])
    kept = first.copy()
    session.run(pixels[1:2])
    np.testing.assert_array_equal(first, kept)


@needs_extra
def test_float_file_is_stored_in_float(float_file: Path, ir_file: Path) -> None:
    weights = ir_file.with_suffix(".bin").stat().st_size
    assert weights > 0.9 * (float_file.stat().st_size - 20_000)


@needs_extra
@pytest.mark.skipif(not cpu().has_bf16, reason="this processor has no bfloat16")
def test_bf16_is_another_precision(ir_file: Path, pixels: Pixels) -> None:
    assert RUNTIME.precisions == ("f32", "bf16", "int8", "w8")
    exact = RUNTIME.session(ir_file, "f32", 1).run(pixels)
    session = RUNTIME.session(ir_file, "bf16", 1)
    difference = np.abs(session.run(pixels) - exact).max()
    assert 0 < difference < 0.1 * np.abs(exact).max()
    assert session.describe()["inference_precision_hint"] == "bf16"


def test_bf16_is_offered_only_where_native(monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere = ("f32", "int8", "w8")
    offered = {(): everywhere, ("amx_bf16",): ("f32", "bf16", *everywhere[1:])}
    for features, expected in offered.items():
        processor = Cpu(name="test", architecture="x86_64", features=features)
        monkeypatch.setattr(module, "cpu", lambda processor=processor: processor)
        assert RUNTIME.precisions == expected


@needs_extra
@pytest.mark.parametrize("features", [("avx2",), ("avx2", "avx512_vnni")])
def test_weights_take_seven_bits_without_vnni(
    features: tuple[str, ...],
    float_file: Path,
    pixels: Pixels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processor = Cpu(name="test", architecture="x86_64", features=features)
    monkeypatch.setattr(module, "cpu", lambda: processor)
    path = tmp_path / "int8.xml"
    RUNTIME.quantize(float_file, path, Calibration(pixels=pixels[:2], config=PLAIN_INT8))
    openvino = importlib.import_module("openvino")
    model = openvino.Core().read_model(path)
    weights = [
        np.abs(node.get_data().astype(int)).max()
        for node in model.get_ops()
        if node.get_type_name() == "Constant" and node.get_element_type() == openvino.Type.i8
    ]
    assert len(weights) > 5
    limit = 64 if features == ("avx2",) else 127
    assert sorted(weights)[len(weights) // 2] in (limit, limit - 1, limit + 1)
    assert max(weights) <= limit + 1


@needs_extra
@pytest.mark.parametrize(("config", "least"), [(PLAIN_INT8, 0.97), (Int8Config(), 0.7)])
def test_int8_stays_near_the_float_network(
    config: Int8Config,
    least: float,
    float_file: Path,
    ir_file: Path,
    pixels: Pixels,
    card: FileCard,
    tmp_path: Path,
) -> None:
    path = tmp_path / "int8.xml"
    RUNTIME.quantize(float_file, path, Calibration(pixels=pixels, config=config))
    reference = RUNTIME.session(ir_file, "f32", 1).run(pixels)
    logits = RUNTIME.session(path, "int8", 1).run(pixels)
    a, b = logits - logits.mean(0), reference - reference.mean(0)
    assert (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b) > least
    assert read_card(path) == card
    weights = path.with_suffix(".bin").stat().st_size
    assert weights < 0.5 * ir_file.with_suffix(".bin").stat().st_size
    with pytest.raises(ArtefactError, match="is a file in int8; it cannot be run as f32"):
        RUNTIME.session(path, "f32", 1)


@needs_extra
def test_quantizing_is_silent_and_leaves_the_process_alone(
    float_file: Path, pixels: Pixels, tmp_path: Path
) -> None:
    np.save(tmp_path / "pixels.npy", pixels[:4])
    program = (
        "import logging, os, sys, pathlib, numpy as np\n"
        "from pocketvision.runtimes.openvino import OpenVino\n"
        "from pocketvision.runtimes.runtime import Calibration\n"
        "source, pixels, target = map(pathlib.Path, sys.argv[1:])\n"
        "assert not {'openvino', 'nncf'} & set(sys.modules)\n"
        "OpenVino().quantize(source, target, Calibration(pixels=np.load(pixels)))\n"
        "OpenVino().session(target, 'int8', 1).run(np.load(pixels))\n"
        "assert logging.getLoggerClass() is logging.Logger\n"
        "assert 'NNCF_CI' not in os.environ\n"
        "from nncf.telemetry import wrapper\n"
        "assert isinstance(wrapper.telemetry, wrapper.NNCFTelemetryStub)\n"
    )
    files = (float_file, tmp_path / "pixels.npy", tmp_path / "int8.xml")
    environment = {key: value for key, value in os.environ.items() if key != "NNCF_CI"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *map(str, files)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert logging.getLogger("nncf").level != logging.ERROR


@needs_extra
def test_wrong_files_are_refused(ir_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="is a file in f32; it cannot be run as int8"):
        RUNTIME.session(ir_file, "int8", 1)
    with pytest.raises(ConfigError, match=r"threads=0 is out of range"):
        RUNTIME.session(ir_file, "f32", 0)
    with pytest.raises(ArtefactError, match=r"none\.xml does not exist"):
        RUNTIME.session(tmp_path / "none.xml", "f32", 1)
    path = tmp_path / "model.xml"
    path.write_bytes(ir_file.read_bytes())
    with pytest.raises(ArtefactError, match=r"model\.bin does not exist"):
        RUNTIME.session(path, "f32", 1)
    path.with_suffix(".bin").write_bytes(b"")
    path.write_text("<net>no network</net>")
    with pytest.raises(ArtefactError, match=r"model\.xml cannot be read by OpenVINO: "):
        RUNTIME.session(path, "f32", 1)
    with pytest.raises(ArtefactError, match=r"model\.bin is not an OpenVINO file"):
        RUNTIME.session(path.with_suffix(".bin"), "f32", 1)


def test_absent_extra_is_named(float_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"needs openvino.*pip install 'pocketvision\[open"):
        RUNTIME.check()
    with pytest.raises(MissingExtraError, match=r"pip install 'pocketvision\[openvino\]'"):
        RUNTIME.convert(float_file, float_file.with_suffix(".xml"))
