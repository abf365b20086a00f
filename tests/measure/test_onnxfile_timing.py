"""Timing ONNX files: which inputs a batch reaches, and which files take none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.measure import onnxfile as module
from pocketvision.measure import throughput
from pocketvision.measure.latency import LatencyProtocol
from pocketvision.measure.onnxfile import measure_file, parse_shapes
from pocketvision.runtimes.onnxruntime import foreign_run

BRIEF = LatencyProtocol(warmup_runs=1, rounds=2, min_runs=1, seconds=0, retries=0)


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "FINAL", BRIEF)
    monkeypatch.setattr(throughput, "BATCHED", BRIEF)


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, tuple[int, ...]]]:
    """The shapes of the inputs of every opened session."""
    seen: list[dict[str, tuple[int, ...]]] = []

    def watched(path: Path, inputs: dict[str, NDArray[np.generic]], threads: int) -> object:
        seen.append({name: values.shape for name, values in inputs.items()})
        return foreign_run(path, inputs, threads)

    monkeypatch.setattr(module, "foreign_run", watched)
    return seen


def write(path: Path, x: list[int | str], y: list[int | str]) -> Path:
    """sum = x + y"""
    value, kind = helper.make_tensor_value_info, TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "y"], ["sum"])],
        "g",
        [value("x", kind, x), value("y", kind, y)],
        [value("sum", kind, None)],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def test_batch_reaches_open_first_axes_alone(
    tmp_path: Path, fed: list[dict[str, tuple[int, ...]]]
) -> None:
    path = write(tmp_path / "m.onnx", ["n", 3, 4], [1, 3, 4])
    timing = measure_file(path, batch=8)
    assert sorted(fed, key=str) == [
        {"x": (1, 3, 4), "y": (1, 3, 4)},
        {"x": (8, 3, 4), "y": (1, 3, 4)},
    ]
    assert timing.latency.batch == 1
    assert timing.throughput is not None
    assert timing.throughput.latency.batch == 8


def test_given_shapes_keep_their_other_axes(
    tmp_path: Path, fed: list[dict[str, tuple[int, ...]]]
) -> None:
    path = write(tmp_path / "m.onnx", ["n", "h", 4], ["n", "h", 4])
    shapes = parse_shapes(["x=1,5,4", "y=1,5,4"])
    measure_file(path, shapes=shapes, batch=2)
    assert {"x": (2, 5, 4), "y": (2, 5, 4)} in fed
    with pytest.raises(ConfigError, match=r"batch=2 and the shape x=3,5,4 contradict each other"):
        measure_file(path, shapes={**shapes, "x": (3, 5, 4)}, batch=2)


def test_file_with_a_fixed_batch_has_a_latency_and_no_throughput(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [1, 4], [4])
    assert measure_file(path).throughput is None
    message = r"batch=8 needs an input whose first axis is open; the file takes x: float32 \(1, 4\)"
    with pytest.raises(ConfigError, match=message):
        measure_file(path, batch=8)


def test_batch_is_checked_before_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"batch=0 is out of range; expected 1 to 1024"):
        measure_file(tmp_path / "absent.onnx", batch=0)
    with pytest.raises(ArtefactError, match=r"absent\.onnx does not exist"):
        measure_file(tmp_path / "absent.onnx")


def test_shapes_are_read_or_refused() -> None:
    assert parse_shapes(["x=1,3,8", "a=b=2"]) == {"x": (1, 3, 8), "a=b": (2,)}
    with pytest.raises(ConfigError, match=r"shape 'x=1x3' is not understood; write it like x=1,3"):
        parse_shapes(["x=1x3"])
