"""ONNX Runtime: the embedded default. Runs ONNX files; quantizes with its own quantizer.

Static INT8: uint8 activations with a zero point, int8 weights with one scale per output channel.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from pocketvision.errors import ArtefactError, ConfigError, check_shape, choice
from pocketvision.record.words import Precision
from pocketvision.runtimes.int8.static import static_int8
from pocketvision.runtimes.onnxfile import (
    INPUT,
    check_exported,
    read_model,
    write_model,
)
from pocketvision.runtimes.onnxruntime_maps import rows_by_products
from pocketvision.runtimes.onnxsession import (
    LOAD_ERRORS,
    first_line,
    open_session,
    session_options,
)
from pocketvision.runtimes.profiling import onnxruntime_operators
from pocketvision.runtimes.runtime import (
    Answers,
    Calibration,
    OperatorRuns,
    Pixels,
    check_pixels,
)
from pocketvision.runtimes.weights8 import has_weights_in_bytes, store_weights_in_bytes
from pocketvision.storage import write_atomic

# Pixels per calibration batch: every activation of a batch is in memory at once.
BATCH_PIXELS = 8 * 96 * 96


class OnnxRuntime:
    """The runtime behind the name "onnxruntime"; see `runtime.Runtime` for its methods."""

    name = "onnxruntime"
    extra = ""
    precisions: tuple[Precision, ...] = ("f32", "int8", "w8")

    def check(self) -> None:
        """Always installed."""

    def file_name(self, stem: str) -> str:
        return f"{stem}.onnx"

    def files(self, path: Path) -> tuple[Path, ...]:
        return (path,)

    def convert(self, float_onnx: Path, target: Path) -> None:
        model = read_model(float_onnx)
        rows_by_products(model)
        write_atomic(target, model.SerializeToString(deterministic=True))

    def compress_weights(self, float_onnx: Path, target: Path) -> None:
        model = read_model(float_onnx)
        store_weights_in_bytes(model)
        rows_by_products(model)
        write_model(model, target)

    def quantize(self, float_onnx: Path, target: Path, calibration: Calibration) -> None:
        source = read_model(float_onnx)
        check_exported(source, float_onnx)
        check_shape("calibration pixels", calibration.pixels.shape, (None, *_image_shape(source)))
        area = calibration.pixels.shape[1] * calibration.pixels.shape[2]
        batches = in_batches(calibration.pixels, BATCH_PIXELS // area)
        model = static_int8(float_onnx, target.parent, batches, calibration.config).file
        rows_by_products(model)
        write_model(model, target)

    def session(self, path: Path, precision: Precision, threads: int) -> OnnxSession:
        choice("precision", precision, self.precisions)
        model = read_model(path)
        check_exported(model, path)
        if (stored := stored_precision(model)) != precision:
            raise ArtefactError(f"{path} is a file in {stored}; it cannot be run as {precision}.")
        session = open_session(model, path, threads)
        return OnnxSession(session, _image_shape(model), precision, threads)

    def profile(
        self, path: Path, precision: Precision, threads: int, pixels: Pixels, runs: int
    ) -> tuple[OperatorRuns, ...]:
        self.session(path, precision, threads).run(pixels)  # refuses what does not fit
        with tempfile.TemporaryDirectory(prefix="profile.") as folder:
            session = open_session(read_model(path), path, threads, profile=Path(folder) / "run")
            return onnxruntime_operators(session, pixels, runs)


class OnnxSession:
    """An exported file opened by ONNX Runtime; see `runtime.Session`."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        shape: tuple[int, int, int],
        precision: Precision,
        threads: int,
    ) -> None:
        self._session = session
        self._answer = [output.name for output in session.get_outputs()][:2][-1]
        self._shape = shape
        self._options = session_options(precision, threads)

    def run(self, pixels: Pixels) -> Answers:
        check_pixels(pixels, self._shape)
        answers: Answers = self._session.run([self._answer], {INPUT: pixels})[0]
        return answers

    def describe(self) -> dict[str, str]:
        return dict(self._options)


def foreign_run(
    path: Path, inputs: Mapping[str, NDArray[np.generic]], threads: int
) -> Callable[[], object]:
    """A call that runs any ONNX file once on `inputs` (see `onnxfile.random_inputs`).

    Raises: ArtefactError: a file ONNX Runtime cannot load. ConfigError: inputs it refuses.
    """
    session = open_session(read_model(path), path, threads)
    feeds = dict(inputs)
    try:
        session.run(None, feeds)
    except (*LOAD_ERRORS, ValueError) as error:  # ValueError: an input is missing
        raise ConfigError(f"{path} does not run on these inputs: {first_line(error)}") from error
    return lambda: session.run(None, feeds)


def in_batches(samples: NDArray[Any], size: int) -> list[NDArray[Any]]:
    """The samples (N, ...) in batches of at most `size`, at least one each."""
    step = max(1, size)
    return [samples[i : i + step] for i in range(0, len(samples), step)]


def _image_shape(model: onnx.ModelProto) -> tuple[int, int, int]:
    _, height, width, channels = model.graph.input[0].type.tensor_type.shape.dim
    return height.dim_value, width.dim_value, channels.dim_value


def stored_precision(model: onnx.ModelProto) -> Precision:
    """What the file is, as ONNX Runtime runs it."""
    if is_quantized(model):
        return "int8"
    return "w8" if has_weights_in_bytes(model) else "f32"


def is_quantized(model: onnx.ModelProto) -> bool:
    """True where any tensor is stored or computed in integers by way of a quantizer."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)
