"""ONNX files, ours and anyone's: opened with care, looked into, given random inputs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.external_data_helper import uses_external_data

from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.record.words import TaskName
from pocketvision.runtimes.runtime import FileCard
from pocketvision.storage import write_into

INPUT, OUTPUT = "input", "logits"  # of the files we export
# What a user reads, the second output if there is one: (N, K) float32 logits; (N, H, W) uint8
# classes of the pixels; (N, M, 4 + K) float32 boxes and probabilities.
ANSWERS: Mapping[TaskName, str] = {"classify": OUTPUT, "segment": "classes", "detect": "found"}

# Sizes of an axis: a number, the name of a symbol, or "" where the file says nothing.
Axis = int | str


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorInfo:
    """An input or output of a graph; `dtype` is numpy's name of the element type."""

    name: str
    dtype: str
    shape: tuple[Axis, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} ({', '.join(str(axis) or '?' for axis in self.shape)})"


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxInfo:
    """What a graph takes and gives. metadata: the file's own key/value pairs."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    opset: int
    metadata: dict[str, str]


def read_model(path: Path) -> onnx.ModelProto:
    """Load one self-contained ONNX file.

    Raises: ArtefactError: no such file, not an ONNX model, or weights kept in other files.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ArtefactError(f"{path} does not exist.") from None
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}.") from error
    model = onnx.ModelProto()
    try:
        # A foreign file may make the parser warn before it gives up; the error says it all.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"google\.protobuf")
            model.ParseFromString(content)
        is_model = model.ir_version > 0 and len(model.graph.output) > 0
    except Exception as error:  # protobuf's DecodeError has no public home
        if type(error).__name__ != "DecodeError":
            raise
        is_model = False
    if not is_model:
        raise ArtefactError(f"{path} is not an ONNX model: {_looks_like(content)}.")
    outside = [tensor.name for tensor in _tensors(model.graph) if uses_external_data(tensor)]
    if outside:
        raise ArtefactError(
            f"{path} keeps {len(outside)} tensors (first: {outside[0]!r}) in other files; "
            "save it as one file first (onnx.save with save_as_external_data=False)."
        )
    return model


def write_model(model: onnx.ModelProto, path: Path) -> None:
    """Check a model and write it as one file, atomically, into a folder that must be there."""
    onnx.checker.check_model(model, full_check=True)
    write_into(path, model.SerializeToString(deterministic=True))


def metadata(model: onnx.ModelProto) -> dict[str, str]:
    """The key/value pairs of a model."""
    return {pair.key: pair.value for pair in model.metadata_props}


def set_metadata(model: onnx.ModelProto, pairs: Mapping[str, str]) -> None:
    """Replace the key/value pairs of a model, in place."""
    onnx.helper.set_model_props(model, dict(pairs))


def check_exported(model: onnx.ModelProto, path: Path) -> None:
    """Raises: ArtefactError: unless `export_onnx` wrote the file, or it derives from one."""
    FileCard.from_metadata(metadata(model), source=str(path))
    inputs = model.graph.input
    kind = inputs[0].type.tensor_type if len(inputs) == 1 else None
    if (
        kind is None
        or inputs[0].name != INPUT
        or kind.elem_type != onnx.TensorProto.UINT8
        or len(kind.shape.dim) != 4
    ):
        raise ArtefactError(f"{path} must take one uint8 input {INPUT!r} of four axes.")


def drop_unused_constants(graph: onnx.GraphProto) -> None:
    """Remove the stored tensors that no node reads, in place."""
    used = {name for node in graph.node for name in node.input}
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in used:
            del graph.initializer[index]


def inspect_onnx(path: Path) -> OnnxInfo:
    """Inputs, outputs, opset and metadata of any ONNX file. Raises: ArtefactError."""
    model = read_model(path)
    constants = {tensor.name for tensor in model.graph.initializer}
    return OnnxInfo(
        inputs=tuple(_info(v) for v in model.graph.input if v.name not in constants),
        outputs=tuple(_info(v) for v in model.graph.output),
        opset=max(
            (o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0
        ),
        metadata=metadata(model),
    )


def random_inputs(
    info: OnnxInfo, shapes: Mapping[str, tuple[int, ...]] | None = None, seed: int = 0
) -> dict[str, NDArray[np.generic]]:
    """One array per input, to time a graph with: pixels 0..255, unit normal floats, integers 0.

    An open first axis is taken for the batch and becomes 1; `shapes` (input name -> shape) fixes
    the rest.
    Raises: ConfigError: another axis is open, a shape contradicts the file, or names no input.
    """
    given = dict(shapes or {})
    names = [tensor.name for tensor in info.inputs]
    for name in given:
        if name not in names:
            raise ConfigError(f"shape given for {name!r}; the inputs are: {', '.join(names)}.")
    generator = np.random.default_rng(seed)
    return {
        tensor.name: _random(tensor, _fixed_shape(tensor, given.get(tensor.name)), generator)
        for tensor in info.inputs
    }


def _fixed_shape(tensor: TensorInfo, given: tuple[int, ...] | None) -> tuple[int, ...]:
    if given is not None:
        same = len(given) == len(tensor.shape) and all(
            size > 0 and (size == axis or isinstance(axis, str))
            for size, axis in zip(given, tensor.shape, strict=True)
        )
        if not same:
            raise ConfigError(f"shape {given} does not fit the input {tensor}.")
        return given
    open_axes = [axis for axis in tensor.shape[1:] if isinstance(axis, str)]
    if open_axes:
        example = ",".join(str(axis) if isinstance(axis, int) else "N" for axis in tensor.shape)
        raise ConfigError(
            f"the input {tensor} leaves {len(open_axes)} axes open besides the batch; "
            f"give its shape, for example {tensor.name}={example} with numbers for each N."
        )
    return tuple(axis if isinstance(axis, int) else 1 for axis in tensor.shape)


def _random(
    tensor: TensorInfo, shape: tuple[int, ...], generator: np.random.Generator
) -> NDArray[np.generic]:
    try:
        dtype = np.dtype(tensor.dtype)
    except TypeError:
        raise ConfigError(f"the input {tensor} has a type no random values exist for.") from None
    if dtype == np.uint8:
        return generator.integers(0, 256, shape, dtype=np.uint8)
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    # Other integers are often indices or masks: zero is valid for all of them.
    return np.zeros(shape, dtype)


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    tensor = value.type.tensor_type
    kind = tensor.elem_type
    if kind in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        dtype = onnx.TensorProto.DataType.Name(kind).lower()
    else:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind).name
    shape = tuple(
        axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else axis.dim_param
        for axis in tensor.shape.dim
    )
    return TensorInfo(name=value.name, dtype=dtype, shape=shape)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor of a graph and of the graphs inside its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _looks_like(content: bytes) -> str:
    if not content:
        return "it is empty"
    if content.startswith(b"PK"):
        return "it is a zip archive"
    if content[:512].isascii() and b"\0" not in content[:512]:
        return "it is a text file"
    return "it is cut short or of another format"
