"""Latency of any ONNX file, ours or not."""

from __future__ import annotations

from pathlib import Path

from pocketvision.measure.latency import FINAL, measure_latency
from pocketvision.record import Latency
from pocketvision.runtimes.onnxfile import inspect_onnx, random_inputs
from pocketvision.runtimes.onnxruntime import foreign_run


def measure_file(path: Path, threads: int = 1) -> Latency:
    """Time one ONNX file on random inputs of its own shapes, batch 1, with ONNX Runtime.

    Raises: ArtefactError: no ONNX model. ConfigError: inputs without a fixed shape.
    """
    run = foreign_run(path, random_inputs(inspect_onnx(path)), threads)
    return measure_latency({"file": run}, FINAL, threads)["file"]
