"""Latency of any ONNX file, ours or not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pocketvision.errors import ConfigError
from pocketvision.measure.latency import FINAL, Progress, measure_latency
from pocketvision.record import Latency
from pocketvision.runtimes.onnxfile import inspect_onnx, random_inputs
from pocketvision.runtimes.onnxruntime import foreign_run

_SHAPE = re.compile(r"(.+)=(\d+(?:,\d+)*)")


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """["x=1,3,224,224"] -> {"x": (1, 3, 224, 224)}. Raises: ConfigError."""
    shapes = {}
    for text in texts:
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise ConfigError(f"shape {text!r} is not understood; write it like x=1,3,224,224.")
        shapes[match[1]] = tuple(int(axis) for axis in match[2].split(","))
    return shapes


def measure_file(
    path: Path,
    threads: int = 1,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    progress: Progress | None = None,
) -> Latency:
    """Time one ONNX file on random inputs of its own shapes, batch 1, with ONNX Runtime.

    shapes: of inputs with open axes, by name.

    Raises: ArtefactError: no ONNX model. ConfigError: an input without a fixed shape, or a shape
    that contradicts the file.
    """
    run = foreign_run(path, random_inputs(inspect_onnx(path), shapes), threads)
    return measure_latency({"file": run}, FINAL, threads, progress=progress)["file"]
