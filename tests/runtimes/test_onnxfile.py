"""Opening ONNX files of any origin, and making inputs for them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.runtimes.onnxfile import inspect_onnx, random_inputs, read_model, write_model
from pocketvision.runtimes.onnxruntime import foreign_run


def add_model(first: list[int | str | None], second: list[int | str | None]) -> onnx.ModelProto:
    """y = cast(tokens) + x * weight"""
    nodes = [
        helper.make_node("Cast", ["tokens"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "weight"], ["scaled"]),
        helper.make_node("Add", ["scaled", "cast"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "add",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, first),
            helper.make_tensor_value_info("tokens", TensorProto.INT64, second),
        ],
        [
            helper.make_tensor_value_info(
                "y", TensorProto.FLOAT, [None] * max(len(first), len(second))
            )
        ],
        [numpy_helper.from_array(np.full(3, 2, np.float32), "weight")],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_foreign_files_run_on_random_inputs(tmp_path: Path) -> None:
    path = tmp_path / "foreign.onnx"
    write_model(add_model(["batch", 4, 3], [None, 1, 1]), path)
    info = inspect_onnx(path)
    assert [str(tensor) for tensor in info.inputs] == [
        "x: float32 (batch, 4, 3)",
        "tokens: int64 (?, 1, 1)",
    ]
    assert (info.opset, info.metadata) == (18, {})
    inputs = random_inputs(info)
    assert {name: value.shape for name, value in inputs.items()} == {
        "x": (1, 4, 3),
        "tokens": (1, 1, 1),
    }
    assert np.array_equal(random_inputs(info)["x"], inputs["x"])
    outputs = foreign_run(path, inputs, threads=1)()
    assert isinstance(outputs, list)
    assert np.array_equal(outputs[0], inputs["x"].astype(np.float32) * 2)


def test_open_axes_need_a_shape(tmp_path: Path) -> None:
    path = tmp_path / "foreign.onnx"
    write_model(add_model(["batch", "height", 3], [1, 1, 1]), path)
    info = inspect_onnx(path)
    with pytest.raises(ConfigError, match=r"x: .* leaves 1 axes open .* example x=N,N,3"):
        random_inputs(info)
    assert random_inputs(info, {"x": (2, 5, 3)})["x"].shape == (2, 5, 3)
    for shape in ((2, 5, 4), (2, 5), (2, 0, 3)):
        with pytest.raises(ConfigError, match=r"shape .* does not fit the input x: float32"):
            random_inputs(info, {"x": shape})
    with pytest.raises(ConfigError, match=r"shape given for 'z'; the inputs are: x, tokens"):
        random_inputs(info, {"z": (1,)})


def test_pixels_are_pixels_and_strings_have_no_random_values(tmp_path: Path) -> None:
    inputs = [
        helper.make_tensor_value_info("pixels", TensorProto.UINT8, [64]),
        helper.make_tensor_value_info("mask", TensorProto.BOOL, [2]),
    ]
    out = [helper.make_tensor_value_info("y", TensorProto.UINT8, [64])]
    nodes = [helper.make_node("Identity", ["pixels"], ["y"])]
    path = tmp_path / "model.onnx"
    path.write_bytes(
        helper.make_model(helper.make_graph(nodes, "g", inputs, out)).SerializeToString()
    )
    made = random_inputs(inspect_onnx(path))
    assert made["pixels"].dtype == np.uint8
    assert np.ptp(made["pixels"]) > 100
    assert made["mask"].dtype == np.bool_
    inputs[1].type.tensor_type.elem_type = TensorProto.STRING
    path.write_bytes(
        helper.make_model(helper.make_graph(nodes, "g", inputs, out)).SerializeToString()
    )
    with pytest.raises(ConfigError, match=r"mask: string \(2\) has a type no random values"):
        random_inputs(inspect_onnx(path))


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("weights", bytes(1000))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"name,size\nx,1\n", "it is a text file"),
        (zipped(), "it is a zip archive"),
        (bytes(range(256)) * 4, "it is cut short or of another format"),
    ],
)
def test_what_is_no_model_is_named(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=f"is not an ONNX model: {reason}"):
        read_model(path)


def test_truncated_missing_and_folder(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    whole = add_model([1, 3], [1, 1]).SerializeToString()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtefactError, match="is not an ONNX model: it is cut short"):
        read_model(path)
    with pytest.raises(ArtefactError, match=r"none\.onnx does not exist"):
        read_model(tmp_path / "none.onnx")
    with pytest.raises(ArtefactError, match="cannot be read: Is a directory"):
        read_model(tmp_path)


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(
        add_model([1, 3], [1, 1]),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    with pytest.raises(ArtefactError, match=r"keeps 1 tensors \(first: 'weight'\) in other files"):
        read_model(path)


def test_a_model_the_runtime_cannot_run_is_an_error_of_one_line(tmp_path: Path) -> None:
    node = helper.make_node("NoSuchOperator", ["x"], ["y"], domain="nowhere")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("nowhere", 1)]
    model = helper.make_model(
        helper.make_graph([node], "g", [value], [out]), opset_imports=opsets, ir_version=8
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match=r"cannot be run by ONNX Runtime: .*NoSuchOperator.*$"):
        foreign_run(path, {"x": np.zeros(1, np.float32)}, threads=1)
    write_model(add_model([1, 3], [1, 1]), path)
    wrong = {"x": np.zeros((1, 3), np.float64), "tokens": np.zeros((1, 1), np.int64)}
    with pytest.raises(ConfigError, match="does not run on these inputs"):
        foreign_run(path, wrong, threads=1)
