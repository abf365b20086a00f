"""What lies behind the raw outputs is cut off and put back as it was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from pocketvision.boxes import Selection, select
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import normalise
from pocketvision.models import registry
from pocketvision.models.answering import answering
from pocketvision.models.detector import ssdlite
from pocketvision.models.networks import AnyNetwork, AnySpec, task_of
from pocketvision.models.segmenter import lr_aspp, r_aspp
from pocketvision.runtimes.direct import write_directly
from pocketvision.runtimes.export import export_onnx
from pocketvision.runtimes.graph import Graph, tensor_shapes
from pocketvision.runtimes.onnxfile import ANSWERS, OUTPUT, metadata, read_model, write_model
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.runtimes.openvino import OpenVino, _behind_raw_outputs, _read
from pocketvision.runtimes.runtime import PLAIN_INT8, Calibration, FileCard
from pocketvision.runtimes.tail import with_tail, without_tail

SIDE = 96


def small(kind: str) -> AnyNetwork:
    body = registry.spec("mobilenet_v3_small", width=0.35, resolution=SIDE)
    specs: dict[str, AnySpec] = {
        "lr_aspp": lr_aspp(body, 5),
        "r_aspp": r_aspp(body, 5),
        "ssdlite": ssdlite(body, 4),
        "classifier": body.with_classes(5),
    }
    return specs[kind].build(seed=0).eval()


@pytest.fixture(
    scope="module",
    params=[
        "lr_aspp",
        pytest.param("ssdlite", marks=pytest.mark.slow),
        pytest.param("r_aspp", marks=pytest.mark.slow),
        pytest.param("classifier", marks=pytest.mark.slow),
    ],
)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[AnyNetwork, Path]:
    network = small(request.param)
    path = tmp_path_factory.mktemp(request.param) / "float.onnx"
    pre = Preprocessing.of_whole(SIDE)
    card = FileCard(name="small", preprocessing=pre, task=task_of(network.spec))
    export_onnx(answering(network), path, card)
    return network, path


def pixels(count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def answers_of(network: AnyNetwork) -> np.ndarray:
    images = normalise(torch.from_numpy(pixels()), Preprocessing.of_whole(SIDE))
    with torch.inference_mode():
        found = answering(network)(images)
    return np.asarray(found if isinstance(found, torch.Tensor) else found[-1])


def test_a_file_answers_as_the_network(exported: tuple[AnyNetwork, Path]) -> None:
    network, path = exported
    found = OnnxRuntime().session(path, "f32", 1).run(pixels())
    expected = answers_of(network)
    assert found.dtype == expected.dtype
    if found.dtype == np.uint8:
        assert (found == expected).mean() > 0.999
    else:
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_outputs_are_raw_ones_and_answers(exported: tuple[AnyNetwork, Path]) -> None:
    network, path = exported
    model = read_model(path)
    answer = ANSWERS[task_of(network.spec)]
    assert [value.name for value in model.graph.output] == list(dict.fromkeys((OUTPUT, answer)))


def test_written_directly_it_has_the_nodes_of_the_exported_file(
    exported: tuple[AnyNetwork, Path], tmp_path: Path
) -> None:
    network, path = exported
    card = FileCard.from_metadata(metadata(read_model(path)), source="the file")
    write_directly(network, tmp_path / "direct.onnx", card)
    one, other = (Graph(read_model(file)) for file in (path, tmp_path / "direct.onnx"))
    assert shapes_of(one) == shapes_of(other)
    assert [value.name for value in other.proto.output] == list(
        dict.fromkeys((OUTPUT, ANSWERS[card.task]))
    )
    found = OnnxRuntime().session(tmp_path / "direct.onnx", "f32", 1).run(pixels())
    expected = answers_of(network)
    if found.dtype == np.uint8:
        assert (found == expected).mean() > 0.999
    else:
        np.testing.assert_allclose(found, expected, atol=1e-4)


def shapes_of(graph: Graph) -> Counter[tuple[str, tuple[int, ...]]]:
    """How often each operator gives a tensor of each shape."""
    shapes = tensor_shapes(graph.model)
    nodes = [(node.op_type, shapes[node.output[0]]) for node in graph.proto.node]
    return Counter(("Flatten" if name == "Reshape" else name, shape) for name, shape in nodes)


def test_cut_and_put_back(exported: tuple[AnyNetwork, Path], tmp_path: Path) -> None:
    _, path = exported
    model = read_model(path)
    cut = without_tail(model)
    assert [value.name for value in cut.graph.output] == [OUTPUT]
    whole = with_tail(cut, model)
    onnx.checker.check_model(whole, full_check=True)
    write_model(whole, tmp_path / "whole.onnx")
    files = (path, tmp_path / "whole.onnx")
    one, other = (OnnxRuntime().session(file, "f32", 1).run(pixels()) for file in files)
    np.testing.assert_array_equal(one, other)


def test_the_tail_is_all_that_makes_answers(exported: tuple[AnyNetwork, Path]) -> None:
    network, path = exported
    model = read_model(path)
    tail = [node.op_type for node in model.graph.node][len(without_tail(model).graph.node) :]
    expected = {"classify": [], "segment": ["ArgMax", "Cast"], "detect": ["Softmax", "Concat"]}
    assert tail[-2:] == expected[task_of(network.spec)]


def test_integers_end_with_the_last_convolutions(
    exported: tuple[AnyNetwork, Path], tmp_path: Path
) -> None:
    _, path = exported
    calibration = Calibration(pixels=pixels(8), config=PLAIN_INT8)
    OnnxRuntime().quantize(path, tmp_path / "int8.onnx", calibration)
    graph = Graph(read_model(tmp_path / "int8.onnx"))
    behind = {node.name for node in graph.behind_products()}
    rounded = [node.input[0] for node in graph.proto.node if node.op_type == "QuantizeLinear"]
    makers = [graph.maker(name) for name in rounded]
    assert len(makers) > 20
    assert not [maker for maker in makers if maker is not None and maker.name in behind]
    found = OnnxRuntime().session(tmp_path / "int8.onnx", "int8", 1).run(pixels())
    assert found.shape == OnnxRuntime().session(path, "f32", 1).run(pixels()).shape


def test_a_detector_tells_boxes_that_can_be_selected() -> None:
    answers = answers_of(small("ssdlite"))[0]
    np.testing.assert_allclose(answers[:, 4:].sum(1), 1, rtol=1e-5)
    found = select(answers[:, :4], answers[:, 4:], Selection(least=0.0))
    assert (found.boxes[:, 2:] >= found.boxes[:, :2]).all()


@pytest.mark.slow
def test_openvino_answers_alike_and_leaves_the_tail_in_float(
    exported: tuple[AnyNetwork, Path], tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    network, path = exported
    runtime = OpenVino()
    runtime.convert(path, tmp_path / "float.xml")
    expected = answers_of(network)
    found = runtime.session(tmp_path / "float.xml", "f32", 1).run(pixels())
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if found.dtype == np.uint8:
        assert (found == expected).mean() > 0.99
    else:
        np.testing.assert_allclose(found, expected, atol=1e-3)
    calibration = Calibration(pixels=pixels(4), config=PLAIN_INT8)
    runtime.quantize(path, tmp_path / "int8.xml", calibration)
    model = _read(tmp_path / "int8.xml")
    behind = set(_behind_raw_outputs(model))
    kinds = {op.get_type_name() for op in model.get_ops() if op.get_friendly_name() in behind}
    assert "FakeQuantize" not in kinds
    assert runtime.session(tmp_path / "int8.xml", "int8", 1).run(pixels()).shape == expected.shape
