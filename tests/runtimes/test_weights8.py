"""Files whose weights alone take 8 bits: a quarter of the bytes, the operators of float files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pocketvision.errors import ArtefactError
from pocketvision.record.words import Precision
from pocketvision.runtimes.onnxfile import metadata, read_model
from pocketvision.runtimes.onnxruntime import stored_precision
from pocketvision.runtimes.onnxsession import open_session
from pocketvision.runtimes.registry import installed_runtimes
from pocketvision.runtimes.runtime import FileCard, Pixels, Runtime
from pocketvision.runtimes.weights8 import store_weights_in_bytes

RUNTIMES = [pytest.param(runtime, id=runtime.name) for runtime in installed_runtimes()]


def shrunk(float_file: Path, runtime: Runtime, folder: Path) -> Path:
    path = folder / runtime.file_name("weights")
    runtime.compress_weights(float_file, path)
    return path


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_answers_stay_and_the_file_shrinks(
    runtime: Runtime, float_file: Path, pixels: Pixels, tmp_path: Path
) -> None:
    path = shrunk(float_file, runtime, tmp_path)
    expected = runtime.session(_converted(float_file, runtime, tmp_path), "f32", 1).run(pixels)
    found = runtime.session(path, "w8", 1).run(pixels)
    assert np.linalg.norm(found - expected) < 0.1 * np.linalg.norm(expected - expected.mean(0))
    assert not np.array_equal(found, expected)
    small, large = (
        sum(file.stat().st_size for file in runtime.files(one))
        for one in (path, _at(runtime, tmp_path))
    )
    assert small < 0.7 * large  # of so small a network the graph is a good part


def _at(runtime: Runtime, folder: Path) -> Path:
    return folder / runtime.file_name("float")


def _converted(float_file: Path, runtime: Runtime, folder: Path) -> Path:
    runtime.convert(float_file, _at(runtime, folder))
    return _at(runtime, folder)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_it_is_run_as_what_it_is(runtime: Runtime, float_file: Path, tmp_path: Path) -> None:
    path = shrunk(float_file, runtime, tmp_path)
    others: tuple[Precision, ...] = ("f32", "int8")
    for other in others:
        with pytest.raises(ArtefactError, match=f"is a file in w8; it cannot be run as {other}"):
            runtime.session(path, other, 1)
    with pytest.raises(ArtefactError, match="is a file in f32; it cannot be run as w8"):
        runtime.session(_converted(float_file, runtime, tmp_path), "w8", 1)


def test_the_runtime_executes_the_operators_of_the_float_file(
    float_file: Path, tmp_path: Path
) -> None:
    """The weights are given back once, when the file is opened."""
    model = read_model(float_file)
    expected = _executed(model, tmp_path / "float")
    store_weights_in_bytes(model)
    assert stored_precision(model) == "w8"
    assert _executed(model, tmp_path / "weights") == expected


def _executed(model: onnx.ModelProto, prefix: Path) -> Counter[str]:
    open_session(model, "the file", 1, profile=prefix)
    return Counter(node.op_type for node in read_model(prefix.with_suffix(".onnx")).graph.node)


def test_the_card_stays(float_file: Path, card: FileCard) -> None:
    model = read_model(float_file)
    store_weights_in_bytes(model)
    assert FileCard.from_metadata(metadata(model), source="it") == card
    assert metadata(model)["quantization"] == '{"weight_bits": 8}'


@given(
    seed=st.integers(0, 1000),
    shape=st.sampled_from([(4, 3, 3, 3), (6, 1, 5, 5), (1, 2, 1, 1)]),
    exponent=st.integers(-30, 20),
    dead=st.booleans(),
)
def test_every_weight_is_within_half_a_step(
    seed: int, shape: tuple[int, ...], exponent: int, dead: bool
) -> None:
    weight = np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 2.0**exponent
    weight = weight.astype(np.float32)
    if dead:
        weight[0] = 0
    model = _convolution(weight)
    assert store_weights_in_bytes(model) == 1
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    given_back = stored["w_integers"].astype(np.float32) * stored["w_steps"]
    assert stored["w_integers"].dtype == np.int8
    assert "w" not in stored
    steps = np.abs(weight).max((1, 2, 3), keepdims=True) / 127
    assert (np.abs(given_back - weight) <= 0.501 * steps).all()


def _convolution(weight: np.ndarray) -> onnx.ModelProto:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], group=1)]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    graph = helper.make_graph(nodes, "graph", [x], [y], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph)


def test_a_weight_of_two_layers_is_stored_once() -> None:
    model = _convolution(np.ones((2, 2, 1, 1), np.float32))
    second = helper.make_node("Conv", ["y", "w"], ["z"])
    model.graph.node.append(second)
    model.graph.output[0].name = "z"
    assert store_weights_in_bytes(model) == 1
    kernels = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    assert kernels == ["w_given", "w_given"]
    assert [node.op_type for node in model.graph.node] == ["Cast", "Mul", "Conv", "Conv"]
