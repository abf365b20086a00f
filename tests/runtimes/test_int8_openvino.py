"""An INT8 file of ONNX Runtime is a plain ONNX file: OpenVINO reads it and gives the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.runtime import Logits, Pixels

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not HAS_OPENVINO, reason="openvino is not installed")


def run_in_openvino(path: Path, pixels: Pixels) -> Logits:
    import openvino

    core = openvino.Core()
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(path), "CPU", hints)
    logits: Logits = np.array(compiled(pixels)[0])
    return logits


def spread(left: Logits, right: Logits) -> float:
    """Root of the mean squared difference."""
    return float(np.sqrt(np.square(left - right).mean()))


def lead(logits: Logits) -> Logits:
    """By how much the first class of each image leads the second."""
    second, first = np.sort(logits, axis=1)[:, -2:].T
    leads: Logits = first - second
    return leads


@needs_openvino
def test_openvino_gives_the_classes_and_logits_of_onnxruntime(
    float_file: Path, int8_file: Path, pixels: Pixels
) -> None:
    expected = OnnxRuntime().session(int8_file, "int8", 1).run(pixels)
    logits = run_in_openvino(int8_file, pixels)
    assert logits.shape == expected.shape
    a, b = logits - logits.mean(0), expected - expected.mean(0)
    assert (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b) > 0.98
    # OpenVINO rounds at other places; that must matter less than rounding does.
    in_float = OnnxRuntime().session(float_file, "f32", 1).run(pixels)
    rounding = spread(expected, in_float)
    assert spread(logits, expected) < rounding
    # How many near ties fall the other way is chance, and differs between processors.
    settled = lead(expected) > 4 * rounding
    assert settled.sum() >= 6
    np.testing.assert_array_equal(logits[settled].argmax(1), expected[settled].argmax(1))


@needs_openvino
def test_openvino_runs_the_float_file_alike(float_file: Path, pixels: Pixels) -> None:
    """What the comparison above rests on."""
    expected = OnnxRuntime().session(float_file, "f32", 1).run(pixels)
    np.testing.assert_allclose(run_in_openvino(float_file, pixels), expected, atol=1e-3)
