"""Sessions of ONNX Runtime, all opened with the same options."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from pocketvision.errors import ArtefactError, in_range
from pocketvision.record.words import Precision
from pocketvision.runtimes.runtime import MAX_THREADS

LOAD_ERRORS = (
    errors.EPFail,
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NotImplemented,
    errors.RuntimeException,
)


def open_session(
    model: onnx.ModelProto, path: Path | str, threads: int, *, profile: Path | None = None
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
        raise ArtefactError(f"{path} cannot be run by ONNX Runtime: {first_line(error)}") from error


def session_options(precision: Precision, threads: int) -> dict[str, str]:
    """The options of `open_session` for people."""
    return {
        "runtime": "onnxruntime",
        "version": onnxruntime.__version__,
        "precision": precision,
        "threads": str(threads),
        "execution": "sequential",
    }


def first_line(error: Exception) -> str:
    """The first line of what ONNX Runtime says."""
    return str(error).strip().splitlines()[0]
