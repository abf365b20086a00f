"""Latency and throughput of any ONNX file, ours or not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketvision.errors import ConfigError, in_range
from pocketvision.measure.latency import Progress
from pocketvision.measure.throughput import MAX_BATCH, Timing, time_file
from pocketvision.runtimes.onnxfile import OnnxInfo, inspect_onnx, random_inputs
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
    batch: int = 1,
    progress: Progress | None = None,
) -> Timing:
    """Time one ONNX file on random inputs of its own shapes with ONNX Runtime.

    shapes: of inputs with open axes, by name. batch: images a run for the throughput; 1 leaves it
    out.

    Raises: ArtefactError: no ONNX model. ConfigError: an input without a fixed shape, a shape that
    contradicts the file, a batch outside 1..1024 or where the file fixes it.
    """
    in_range("batch", batch, 1, MAX_BATCH)
    info = inspect_onnx(path)
    inputs = random_inputs(info, shapes)
    many = None
    if batch > 1:
        many = foreign_run(path, random_inputs(info, _batched(info, inputs, batch)), threads)
    return time_file(
        foreign_run(path, inputs, threads), many, threads, batch=batch, progress=progress
    )


def _batched(
    info: OnnxInfo, inputs: Mapping[str, NDArray[np.generic]], batch: int
) -> dict[str, tuple[int, ...]]:
    """The shapes of `inputs` with `batch` in their open first axes.

    Raises: ConfigError: no first axis is open, or one was given another size than 1.
    """
    opened = [
        tensor for tensor in info.inputs if any(isinstance(axis, str) for axis in tensor.shape[:1])
    ]
    if not opened:
        found = ", ".join(str(tensor) for tensor in info.inputs)
        raise ConfigError(
            f"batch={batch} needs an input whose first axis is open; the file takes {found}. Leave "
            "--batch away, or export it with an open batch."
        )
    shapes = {name: values.shape for name, values in inputs.items()}
    for tensor in opened:
        given = shapes[tensor.name]
        if given[0] != 1:
            text = ",".join(map(str, given))
            raise ConfigError(
                f"batch={batch} and the shape {tensor.name}={text} contradict each other; "
                "begin the shape with 1, or leave --batch away."
            )
        shapes[tensor.name] = (batch, *given[1:])
    return shapes
