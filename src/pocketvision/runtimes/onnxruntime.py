"""ONNX Runtime: the embedded default. Runs ONNX files; quantizes with its own quantizer.

Static INT8: uint8 activations with a zero point, int8 weights with one scale per output channel.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as errors
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    calibrate,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from pocketvision.cpu import cpu
from pocketvision.errors import ArtefactError, ConfigError, check_shape, choice, in_range
from pocketvision.record import Precision
from pocketvision.runtimes.onnxfile import (
    INPUT,
    check_exported,
    drop_unused_constants,
    metadata,
    read_model,
    set_metadata,
    write_model,
)
from pocketvision.runtimes.profiling import onnxruntime_operators
from pocketvision.runtimes.runtime import (
    MAX_THREADS,
    Calibration,
    Logits,
    OperatorRuns,
    Pixels,
    check_pixels,
)
from pocketvision.storage import write_atomic

# Pixels per calibration batch: every activation of a batch is in memory at once.
BATCH_PIXELS = 8 * 96 * 96
METHODS = {"percentile": CalibrationMethod.Percentile, "minmax": CalibrationMethod.MinMax}
LOAD_ERRORS = (
    errors.EPFail,
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NotImplemented,
    errors.RuntimeException,
)


class OnnxRuntime:
    """The runtime behind the name "onnxruntime"; see `runtime.Runtime` for its methods."""

    name = "onnxruntime"
    extra = ""
    precisions: tuple[Precision, ...] = ("f32", "int8")

    def check(self) -> None:
        """Always installed."""

    def file_name(self, stem: str) -> str:
        return f"{stem}.onnx"

    def files(self, path: Path) -> tuple[Path, ...]:
        return (path,)

    def convert(self, float_onnx: Path, target: Path) -> None:
        read_model(float_onnx)
        write_atomic(target, float_onnx.read_bytes())

    def quantize(self, float_onnx: Path, target: Path, calibration: Calibration) -> None:
        source = read_model(float_onnx)
        check_exported(source, float_onnx)
        check_shape("calibration pixels", calibration.pixels.shape, (None, *_image_shape(source)))
        area = calibration.pixels.shape[1] * calibration.pixels.shape[2]
        batches = in_batches(calibration.pixels, BATCH_PIXELS // area)
        model = static_int8(
            float_onnx,
            target.parent,
            batches,
            method=calibration.method,
            percentile=calibration.percentile,
        )
        _gates_in_integers(model.graph)
        drop_unused_constants(model.graph)
        write_model(model, target)

    def session(self, path: Path, precision: Precision, threads: int) -> OnnxSession:
        choice("precision", precision, self.precisions)
        model = read_model(path)
        check_exported(model, path)
        stored: Precision = "int8" if is_quantized(model) else "f32"
        if stored != precision:
            raise ArtefactError(f"{path} is an {stored} file; it cannot be run as {precision}.")
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
        self._shape = shape
        self._options = session_options(precision, threads)

    def run(self, pixels: Pixels) -> Logits:
        check_pixels(pixels, self._shape)
        logits: Logits = self._session.run(None, {INPUT: pixels})[0]
        return logits

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
        raise ConfigError(f"{path} does not run on these inputs: {_first_line(error)}") from error
    return lambda: session.run(None, feeds)


def static_int8(
    float_onnx: Path,
    folder: Path,
    batches: Sequence[NDArray[Any]],
    *,
    method: str,
    percentile: float,
    float_nodes: Sequence[str] = (),
) -> onnx.ModelProto:
    """The INT8 graph of a float file, in quantize-dequantize form, with the file's metadata.

    folder: takes temporary files. batches: of calibration inputs. method, percentile: as in
    `runtime.Calibration`. float_nodes: names of nodes that are left in float.
    """
    source = read_model(float_onnx)
    # Products of uint8 and int8 are summed in 16 bits where VNNI is missing: 7 bits are safe.
    reduce_range = cpu().is_x86 and not cpu().has_vnni
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".quantize.") as temporary:
        prepared, quantized = Path(temporary) / "prepared.onnx", Path(temporary) / "int8.onnx"
        quant_pre_process(float_onnx, prepared, skip_symbolic_shape=True)
        with _without_progress_lines():
            quantize_static(
                prepared,
                quantized,
                _Batches(batches),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=reduce_range,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=list(float_nodes),
                calibrate_method=METHODS[method],
                extra_options={
                    "CalibStridedMinMax": 1,  # one batch at a time, whatever the method
                    "CalibPercentile": percentile,
                    "CalibTensorRangeSymmetric": False,
                },
            )
        model = read_model(quantized)
    _tidy(model, source)
    quantization = {
        "method": method,
        "percentile": percentile,
        "images": sum(map(len, batches)),
        "weight_bits": 7 if reduce_range else 8,
    }
    set_metadata(model, {**metadata(source), "quantization": json.dumps(quantization)})
    return model


def in_batches(samples: NDArray[Any], size: int) -> list[NDArray[Any]]:
    """The samples (N, ...) in batches of at most `size`, at least one each."""
    step = max(1, size)
    return [samples[i : i + step] for i in range(0, len(samples), step)]


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # the base has no types
    """Calibration inputs, batch by batch."""

    def __init__(self, batches: Sequence[NDArray[Any]]) -> None:
        self._batches = batches
        self._left = iter(batches)

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._batches[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        batch = next(self._left, None)
        return None if batch is None else {INPUT: np.ascontiguousarray(batch)}


@contextlib.contextmanager
def _without_progress_lines() -> Iterator[None]:
    """The histogram calibrator prints progress; `print` is shadowed in its module alone."""
    names = vars(calibrate)
    names["print"] = lambda *_: None
    try:
        yield
    finally:
        del names["print"]


def _tidy(model: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Remove what the quantizer leaves: unused constants and imports, shapes, its own name."""
    drop_unused_constants(model.graph)
    del model.graph.value_info[:]
    used = {node.domain for node in model.graph.node}
    for index in reversed(range(len(model.opset_import))):
        if model.opset_import[index].domain not in used | {""}:
            del model.opset_import[index]
    model.producer_name, model.producer_version = source.producer_name, source.producer_version


def _gates_in_integers(graph: onnx.GraphProto) -> None:
    """Hard sigmoids (of h-swish and squeeze-and-excitation) as a change of scale.

    Quantized with scale 6/255 and zero point 128, x saturates where the gate does; the same bytes
    read with scale 1/255 and zero point 0 are x/6 + 128/255, the gate. There is no integer kernel
    for HardSigmoid; LeakyRelu with slope 1 is the identity, and becomes one table look-up.
    """
    readers = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    constants = {
        "gate_in_scale": np.float32(6 / 255),
        "gate_in_zero": np.uint8(128),
        "gate_out_scale": np.float32(1 / 255),
        "gate_out_zero": np.uint8(0),
    }
    for node in graph.node:
        after = readers[node.output[0]]
        if node.op_type != "HardSigmoid" or [n.op_type for n in after] != ["QuantizeLinear"]:
            continue
        node.op_type = "LeakyRelu"
        del node.attribute[:]
        node.attribute.append(helper.make_attribute("alpha", 1.0))
        after[0].input[1:] = ["gate_in_scale", "gate_in_zero"]
        for reader in readers[after[0].output[0]]:
            reader.input[1:] = ["gate_out_scale", "gate_out_zero"]
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )


def open_session(
    model: onnx.ModelProto, path: Path, threads: int, *, profile: Path | None = None
) -> onnxruntime.InferenceSession:
    """Open a model that was read from `path`, with the options every session of ours has.

    profile: how the names of two files begin: one takes the times of all operators, and one
    (.onnx) the graph as it is executed.
    Raises: ConfigError: impossible threads. ArtefactError: ONNX Runtime cannot run it.
    """
    in_range("threads", threads, 1, MAX_THREADS)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3  # errors; warnings are about graphs a user cannot change
    if threads > 1:
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
        options.optimized_model_filepath = str(profile.with_suffix(".onnx"))
    try:
        # From memory: a path would let a hostile file name others as its weights.
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except LOAD_ERRORS as error:
        raise ArtefactError(
            f"{path} cannot be run by ONNX Runtime: {_first_line(error)}"
        ) from error


def _image_shape(model: onnx.ModelProto) -> tuple[int, int, int]:
    _, height, width, channels = model.graph.input[0].type.tensor_type.shape.dim
    return height.dim_value, width.dim_value, channels.dim_value


def session_options(precision: Precision, threads: int) -> dict[str, str]:
    """The options of `open_session` for people."""
    return {
        "runtime": "onnxruntime",
        "version": onnxruntime.__version__,
        "precision": precision,
        "threads": str(threads),
        "execution": "sequential",
    }


def is_quantized(model: onnx.ModelProto) -> bool:
    """True where any tensor is stored or computed in integers by way of a quantizer."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
