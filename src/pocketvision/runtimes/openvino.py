"""OpenVINO: an extra. Runs its own files, model.xml and model.bin; NNCF quantizes them.

Files keep a free batch; a session is compiled for one batch size, since a free one is slower.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from rich.console import Console

from pocketvision.cpu import cpu
from pocketvision.errors import ArtefactError, check_shape, choice, in_range, require
from pocketvision.record.words import Precision
from pocketvision.runtimes.onnxfile import check_exported, metadata, read_model, write_model
from pocketvision.runtimes.openvino_graph import transpose_shuffles
from pocketvision.runtimes.openvino_maps import name_by_pixel, resize_maps
from pocketvision.runtimes.profiling import openvino_operators
from pocketvision.runtimes.runtime import (
    MAX_THREADS,
    Answers,
    Calibration,
    FileCard,
    OperatorRuns,
    Pixels,
    check_pixels,
)
from pocketvision.runtimes.weights8 import store_weights_in_bytes

EXTRA = "openvino"
RT_INFO = "pocketvision"  # the section of the file that holds the card
# What the model is computed in where it is not quantized. OpenVINO would choose by itself.
HINTS = {"f32": "f32", "bf16": "bf16", "int8": "f32", "w8": "f32"}


class OpenVino:
    """The runtime behind the name "openvino"; see `runtime.Runtime` for its methods.

    quantize: NNCF chooses ranges in its own way, the mean of the extremes of single images, unless
    "minmax" asks for the extremes of all. It corrects biases where that is asked for, and has its
    own equalisation. Squeeze-and-excitation, which NNCF would leave in float, becomes integers too;
    what lies behind the raw outputs does not.
    """

    name = "openvino"
    extra = EXTRA

    @property
    def precisions(self) -> tuple[Precision, ...]:
        return ("f32", "bf16", "int8", "w8") if cpu().has_bf16 else ("f32", "int8", "w8")

    def check(self) -> None:
        _openvino()
        if importlib.util.find_spec("nncf") is None:  # importing it takes seconds
            require("nncf", EXTRA)

    def file_name(self, stem: str) -> str:
        return f"{stem}.xml"

    def files(self, path: Path) -> tuple[Path, ...]:
        return (path, path.with_suffix(".bin"))

    def convert(self, float_onnx: Path, target: Path) -> None:
        model, _ = _from_onnx(float_onnx)
        _save(model, target)

    def compress_weights(self, float_onnx: Path, target: Path) -> None:
        source = read_model(float_onnx)
        store_weights_in_bytes(source)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".openvino.") as folder:
            path = Path(folder) / "weights.onnx"
            write_model(source, path)
            model, _ = _from_onnx(path)
            _save(model, target)

    def quantize(self, float_onnx: Path, target: Path, calibration: Calibration) -> None:
        model, shape = _from_onnx(float_onnx, name_by_pixel)
        check_shape("calibration pixels", calibration.pixels.shape, (None, *shape))
        nncf = _nncf()
        config = calibration.config
        keeps_extremes = config.ranges == "minmax"
        ranges = require("nncf.quantization.range_estimator", EXTRA).RangeEstimatorParametersSet
        single = [image[None] for image in np.ascontiguousarray(calibration.pixels)]
        with _quiet(), _gates_included():
            quantized = nncf.quantize(
                model,
                nncf.Dataset(single),
                target_device=nncf.TargetDevice.CPU,
                subset_size=len(single),
                ignored_scope=nncf.IgnoredScope(names=_behind_raw_outputs(model), validate=False),
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    activations_range_estimator_params=ranges.MINMAX if keeps_extremes else None,
                    disable_bias_correction=not config.correct_biases,
                    overflow_fix=_overflow_fix(cpu().weight_bits),
                ),
            )
        how = {
            "method": "minmax" if keeps_extremes else "nncf default",
            "bias_correction": config.correct_biases,
            "weight_bits": cpu().weight_bits,
            "images": len(single),
        }
        quantized.set_rt_info(json.dumps(how), [RT_INFO, "quantization"])
        _save(quantized, target)

    def session(self, path: Path, precision: Precision, threads: int) -> OpenVinoSession:
        choice("precision", precision, self.precisions)
        in_range("threads", threads, 1, MAX_THREADS)
        model = _read(path)
        stored = _stored_precision(model)
        if stored != ("f32" if precision == "bf16" else precision):
            raise ArtefactError(f"{path} is a file in {stored}; it cannot be run as {precision}.")
        return OpenVinoSession(model, precision, threads)

    def profile(
        self, path: Path, precision: Precision, threads: int, pixels: Pixels, runs: int
    ) -> tuple[OperatorRuns, ...]:
        return self.session(path, precision, threads).profile(pixels, runs)


class OpenVinoSession:
    """An IR file opened by OpenVINO; see `runtime.Session`. Compiled anew per batch size."""

    def __init__(self, model: Any, precision: Precision, threads: int) -> None:
        openvino = _openvino()
        self._core = openvino.Core()
        self._model = model
        self._shape: tuple[int, int, int] = _image_shape(model)
        self._config = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Its threads would leave the caller on the cores it had when they were made.
            "ENABLE_CPU_PINNING": False,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._options = {
            "runtime": "openvino",
            "version": openvino.__version__,
            "precision": precision,
            "threads": str(threads),
            "inference_precision_hint": HINTS[precision],
            "streams": "1",
            "performance_hint": "LATENCY",
        }
        self._requests = {1: self._compile(1)}

    def run(self, pixels: Pixels) -> Answers:
        check_pixels(pixels, self._shape)
        batch = len(pixels)
        if batch not in self._requests:
            self._requests[batch] = self._compile(batch)
        outputs = self._requests[batch].infer([pixels], share_inputs=True)
        answers: Answers = outputs[min(1, len(outputs) - 1)]
        return answers

    def profile(self, pixels: Pixels, runs: int) -> tuple[OperatorRuns, ...]:
        """As `runtime.Runtime.profile`. Raises: ConfigError: other pixels."""
        check_pixels(pixels, self._shape)
        return openvino_operators(self._compile(len(pixels), counting=True), pixels, runs)

    def describe(self) -> dict[str, str]:
        return dict(self._options)

    def executed_graph(self) -> Any:
        """The graph that runs for one image: after fusion, with the precision of each operator."""
        return self._requests[1].get_compiled_model().get_runtime_model()

    def _compile(self, batch: int, *, counting: bool = False) -> Any:
        model = self._model.clone()
        model.reshape([batch, *self._shape])
        config = self._config | {"PERF_COUNT": counting}
        return self._core.compile_model(model, "CPU", config).create_infer_request()


def read_card(path: Path) -> FileCard:
    """The card of an IR file. Raises: ArtefactError: not a file that `OpenVino` wrote."""
    return _card(_read(path), path)


def _openvino() -> ModuleType:
    return require("openvino", EXTRA)


def _overflow_fix(weight_bits: int) -> Any:
    """7 bits in all layers, where that is what a weight may have; None: as NNCF likes it, which
    keeps to them in the first layer alone.
    """
    kinds = require("nncf.quantization.advanced_parameters", EXTRA).OverflowFix
    return kinds.ENABLE if weight_bits == 7 else None


@functools.cache
def _nncf() -> ModuleType:
    """NNCF, without what its import does to a process: telemetry, another class of loggers."""
    logger_class = logging.getLoggerClass()
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"  # read once, on import: no telemetry is sent
    try:
        return require("nncf", EXTRA)
    finally:
        logging.setLoggerClass(logger_class)
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """NNCF logs and draws progress bars on standard output: errors only, no bars.

    It also loads torch's extensions, and a CUDA build remarks on a machine without a GPU.
    """
    loggers = [logging.getLogger(name) for name in ("nncf", "torch.utils.cpp_extension")]
    levels = [logger.level for logger in loggers]
    track = require("nncf.common.logging.track_progress", EXTRA)
    silent = Console(quiet=True)
    bars = {name: vars(track)[name] for name in ("Progress", "WeightedProgress")}

    def quieten(bar: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *columns, **options: bar(*columns, **{**options, "console": silent})

    for logger in loggers:
        logger.setLevel(logging.ERROR)
    vars(track).update({name: quieten(bar) for name, bar in bars.items()})
    try:
        yield
    finally:
        vars(track).update(bars)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _gates_included() -> Iterator[None]:
    """Without NNCF's pattern of squeeze-and-excitation, whose layers it leaves in float."""
    patterns = require("nncf.openvino.quantization.ignored_patterns", EXTRA)
    names = require("nncf.common.graph.patterns.patterns", EXTRA).IgnoredPatternNames
    table = patterns.OPENVINO_IGNORED_PATTERNS.registry_dict
    held = table.pop(names.SE_BLOCK, None)
    try:
        yield
    finally:
        if held is not None:
            table[names.SE_BLOCK] = held


def _from_onnx(
    path: Path, *rewrites: Callable[[onnx.ModelProto], object]
) -> tuple[Any, tuple[int, int, int]]:
    """An exported file as an OpenVINO model that carries its card, and its image shape."""
    source = read_model(path)
    check_exported(source, path)
    for rewrite in (transpose_shuffles, resize_maps, *rewrites):
        rewrite(source)
    model = _openvino().Core().read_model(source.SerializeToString())
    for key, value in metadata(source).items():
        model.set_rt_info(value, [RT_INFO, key])
    return model, _image_shape(model)


def _behind_raw_outputs(model: Any) -> list[str]:
    """The names of the operators that answers are made by, of a file that has such."""
    names: dict[str, None] = {}
    waiting = [model.outputs[0].get_node().input_value(0)]
    while waiting:
        for reader in waiting.pop().get_target_inputs():
            node = reader.get_node()
            if node.get_type_name() != "Result" and node.get_friendly_name() not in names:
                names[node.get_friendly_name()] = None
                waiting += node.outputs()
    return list(names)


def _read(path: Path) -> Any:
    """An IR file of ours. Raises: ArtefactError."""
    openvino = _openvino()
    for file in (path, path.with_suffix(".bin")):
        if not file.is_file():
            raise ArtefactError(f"{file} does not exist.")
    if path.suffix != ".xml":
        raise ArtefactError(f"{path} is not an OpenVINO file; expected one that ends in .xml.")
    try:
        model = openvino.Core().read_model(path)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ArtefactError(f"{path} cannot be read by OpenVINO: {reason}") from error
    _card(model, path)
    return model


def _stored_precision(model: Any) -> Precision:
    """What the file is: NNCF's has FakeQuantize; bytes without it are weights alone."""
    operators = list(model.get_ops())
    if any(node.get_type_name() == "FakeQuantize" for node in operators):
        return "int8"
    constants = (node for node in operators if node.get_type_name() == "Constant")
    in_bytes = any(node.get_element_type().get_type_name() == "i8" for node in constants)
    return "w8" if in_bytes else "f32"


def _card(model: Any, path: Path) -> FileCard:
    section = model.rt_info[RT_INFO] if model.has_rt_info(RT_INFO) else {}
    pairs = {key: str(model.get_rt_info([RT_INFO, key]).value) for key in section}
    return FileCard.from_metadata(pairs, source=str(path))


def _image_shape(model: Any) -> tuple[int, int, int]:
    _, height, width, channels = model.inputs[0].get_partial_shape()
    return height.get_length(), width.get_length(), channels.get_length()


def _save(model: Any, target: Path) -> None:
    """Write both files: whenever the .xml is there, its .bin is there whole."""
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".openvino.") as folder:
        written = Path(folder) / target.name
        _openvino().save_model(model, written, compress_to_fp16=False)
        target.unlink(missing_ok=True)
        os.replace(written.with_suffix(".bin"), target.with_suffix(".bin"))
        os.replace(written, target)
