"""The selection inside the graph gives what `select` gives."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pocketvision.boxes import Boxes, Detections, Selection, select
from pocketvision.errors import ArtefactError
from pocketvision.runtimes.nms import with_selection

OPSET, IR_VERSION = 18, 10


def detector(anchors: int | str, classes: int, output: str = "found") -> onnx.ModelProto:
    """A graph that gives what it takes, side by side. classes: the background counts."""
    inputs = [
        helper.make_tensor_value_info(f"{name}_in", TensorProto.FLOAT, ("N", anchors, size))
        for name, size in (("boxes", 4), ("scores", classes))
    ]
    nodes = [helper.make_node("Concat", ["boxes_in", "scores_in"], [output], axis=2)]
    found = helper.make_tensor_value_info(output, TensorProto.FLOAT, ("N", anchors, 4 + classes))
    graph = helper.make_graph(nodes, "graph", inputs, [found])
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)


def told(
    boxes: Boxes, scores: NDArray[np.float32], selection: Selection, anchors: int | str = "M"
) -> Detections:
    """What the graph gives."""
    model = with_selection(detector(anchors, scores.shape[1]), selection)
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    assert [output.name for output in session.get_outputs()] == ["found", "detections"]
    (found,) = session.run(["detections"], {"boxes_in": boxes[None], "scores_in": scores[None]})
    assert found.dtype == np.float32
    assert found.shape[1:] == (6,)
    return Detections(boxes=found[:, :4], scores=found[:, 4], classes=found[:, 5].astype(np.int64))


def assert_same(found: Detections, expected: Detections) -> None:
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.classes, expected.classes)
    np.testing.assert_array_equal(found.boxes, expected.boxes)


def some_boxes(seed: int, anchors: int, classes: int) -> tuple[Boxes, NDArray[np.float32]]:
    """Boxes in heaps, some beyond the image, and scores of which no two are equal."""
    generator = np.random.default_rng(seed)
    heaps = generator.uniform(-0.1, 0.9, (4, 2))[generator.integers(0, 4, anchors)]
    low = heaps + generator.normal(0, 0.05, (anchors, 2))
    corners = np.concatenate([low, low + generator.uniform(0.1, 0.4, (anchors, 2))], 1)
    count = anchors * classes
    scores = generator.permutation(count).reshape(anchors, classes) / count
    return corners.astype(np.float32), scores.astype(np.float32)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    anchors=st.integers(1, 120),
    classes=st.integers(2, 5),
    selection=st.builds(
        Selection,
        least=st.sampled_from([0.001, 0.3, 0.9]),
        candidates=st.sampled_from([1, 7, 300]),
        overlap=st.sampled_from([0.0, 0.3, 0.55, 1.0]),
        most=st.sampled_from([1, 10, 300]),
    ),
)
def test_graph_agrees_with_select(
    seed: int, anchors: int, classes: int, selection: Selection
) -> None:
    boxes, scores = some_boxes(seed, anchors, classes)
    assert_same(told(boxes, scores, selection), select(boxes, scores, selection))


def test_candidates_are_counted_before_suppression() -> None:
    # Of three boxes of one place and a fourth elsewhere, two are looked at: the fourth is not.
    boxes = np.array([[0, 0, 0.5, 0.5]] * 3 + [[0.5, 0.5, 1, 1]], np.float32)
    scores = np.array([[0, 0.9], [0, 0.8], [0, 0.7], [0, 0.6]], np.float32)
    two = told(boxes, scores, Selection(candidates=2))
    np.testing.assert_array_equal(two.scores, np.array([0.9], np.float32))
    assert_same(two, select(boxes, scores, Selection(candidates=2)))
    every = told(boxes, scores, Selection())
    np.testing.assert_array_equal(every.scores, np.array([0.9, 0.6], np.float32))


def test_each_class_has_its_own_candidates_and_the_surest_come_first() -> None:
    boxes = np.array([[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]], np.float32)
    scores = np.array([[0, 0.9, 0.5, 0.3], [0, 0.4, 0.6, 0.7]], np.float32)
    found = told(boxes, scores, Selection(candidates=1), anchors=2)
    assert found.classes.tolist() == [1, 3, 2]
    np.testing.assert_array_equal(found.boxes, boxes[[0, 1, 1]])


def test_boxes_are_clipped_before_they_are_compared() -> None:
    boxes = np.array([[0, 0, 1, 1], [-1, 0, 2, 1], [2, 2, 3, 3]], np.float32)  # the last is empty
    scores = np.array([[0, 0.9], [0, 0.8], [0, 0.7]], np.float32)
    found = told(boxes, scores, Selection())
    assert found.boxes.tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]
    assert_same(found, select(boxes, scores, Selection()))


def test_nothing_found_is_empty() -> None:
    boxes, scores = some_boxes(0, 5, 3)
    assert told(boxes, scores * 0, Selection()).boxes.shape == (0, 4)


def test_model_is_not_changed() -> None:
    model = detector(5, 3)
    before = model.SerializeToString(deterministic=True)
    with_selection(model, Selection())
    assert model.SerializeToString(deterministic=True) == before


def test_of_several_images_the_first_is_selected_from() -> None:
    boxes, scores = some_boxes(0, 9, 3)
    model = with_selection(detector(9, 3), Selection())
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feeds = {"boxes_in": np.stack([boxes, boxes * 0]), "scores_in": np.stack([scores, scores])}
    found, detections = session.run(None, feeds)
    assert found.shape == (2, 9, 7)
    np.testing.assert_array_equal(detections[:, :4], select(boxes, scores, Selection()).boxes)


def test_graph_of_something_else_is_refused() -> None:
    with pytest.raises(ArtefactError, match=r"gives \['boxes'\]; expected 'found', as a detector"):
        with_selection(detector(5, 3, "boxes"), Selection())
