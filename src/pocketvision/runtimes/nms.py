"""The selection of boxes inside the graph: a detector's file that gives what is told, and no more.

It gives what `boxes.select` gives of the same boxes and scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from pocketvision.boxes import Selection
from pocketvision.errors import ArtefactError
from pocketvision.runtimes.graph import copied
from pocketvision.runtimes.onnxfile import ANSWERS

FOUND = ANSWERS["detect"]
DETECTIONS = "detections"
BOXES, SCORES = "select_given_boxes", "select_given_scores"
FACTS = 6  # x0, y0, x1, y1, score, class


def with_selection(model: onnx.ModelProto, selection: Selection) -> onnx.ModelProto:
    """A copy of a detector's graph with the selection of the first image as one more output.

    model: its output "found" is (N, M, 4 + K + 1) float32, corners in fractions of the image and
    probabilities, the background first; opset 13 or later. The output that is added, "detections",
    is (n, 6) float32, n <= selection.most: x0, y0, x1, y1, score and class as in `Detections`, the
    surest first.

    `NonMaxSuppression` limits the boxes of a class that it keeps, `Selection.candidates` those that
    are looked at: so the best of each class are taken by `TopK` first. They are other boxes for
    each class, hence classes go in as images of a batch. Boxes of equal scores may come in another
    order than by `select`.

    Raises: ArtefactError: no output of that name.
    """
    given = [output.name for output in model.graph.output]
    if FOUND not in given:
        raise ArtefactError(f"the graph gives {given}; expected {FOUND!r}, as a detector's file.")
    ended = copied(model)
    tail = _Tail(ended.graph)
    _first_image(tail)
    scores, boxes = _candidates(tail, selection)
    _best(tail, *_kept(tail, scores, boxes, selection), selection)
    ended.graph.output.append(
        helper.make_tensor_value_info(DETECTIONS, TensorProto.FLOAT, ("found", FACTS))
    )
    return ended


class _Tail:
    """Nodes and constants that are put behind a graph, with names of their own."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph

    def node(self, operator: str, inputs: str, output: str, **attributes: Any) -> str:
        """Append a node; inputs: names, with spaces between. Returns the output's name."""
        self.graph.node.append(
            helper.make_node(operator, inputs.split(), [output], output, **attributes)
        )
        return output

    def top(self, inputs: str, values: str, places: str) -> tuple[str, str]:
        """Append a TopK along the last axis."""
        self.graph.node.append(
            helper.make_node("TopK", inputs.split(), [values, places], values, axis=-1)
        )
        return values, places

    def constant(self, name: str, value: ArrayLike, dtype: type = np.int64) -> str:
        """Store a constant; returns its name."""
        self.graph.initializer.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name


def _first_image(tail: _Tail) -> None:
    """Boxes (1, M, 4) and scores (1, M, K + 1) of the first image."""
    for name, axis, start, end in (
        ("select_one_image", 0, 0, 1),
        (BOXES, 2, 0, 4),
        (SCORES, 2, 4, 2**31 - 1),
    ):
        words = {"start": start, "end": end, "axis": axis}
        places = [tail.constant(f"{name}_{word}", [value]) for word, value in words.items()]
        source = FOUND if axis == 0 else "select_one_image"
        tail.node("Slice", f"{source} {' '.join(places)}", name)


def _candidates(tail: _Tail, selection: Selection) -> tuple[str, str]:
    """Scores (K, C) and boxes (K, C, 4) of the C best of each class, clipped to the image."""
    first = tail.constant("select_first", [0])
    tail.constant("select_zero", 0, np.float32)
    tail.constant("select_one", 1, np.float32)
    tail.node("Squeeze", f"{BOXES} {first}", "select_boxes")
    boxes = tail.node("Clip", "select_boxes select_zero select_one", "select_clipped")

    tail.node("Squeeze", f"{SCORES} {first}", "select_scores")  # (M, K + 1)
    tail.node("Transpose", "select_scores", "select_by_class", perm=[1, 0])
    start, end = tail.constant("select_start", [1]), tail.constant("select_end", [2**31 - 1])
    tail.node("Slice", f"select_by_class {start} {end} {first}", "select_objects")  # (K, M)
    tail.node("Shape", "select_objects", "select_sizes")
    tail.node("Gather", f"select_sizes {start}", "select_anchors")
    tail.constant("select_candidates", [selection.candidates])
    tail.node("Min", "select_anchors select_candidates", "select_looked_at")
    scores, rows = tail.top("select_objects select_looked_at", "select_best", "select_rows")
    return scores, tail.node("Gather", f"{boxes} {rows}", "select_best_boxes")


def _kept(tail: _Tail, scores: str, boxes: str, selection: Selection) -> tuple[str, str, str]:
    """Boxes (n, 4), scores (n,) and class numbers (n, 1) of those that stay, class by class."""
    columns = tail.constant("select_columns", [0, 2])
    tail.constant("select_most", [selection.most])  # no class can have more among the best
    tail.constant("select_overlap", [selection.overlap], np.float32)
    tail.constant("select_least", [selection.least], np.float32)
    tail.node("Unsqueeze", f"{scores} select_start", "select_one_class")  # (K, 1, C)
    tail.node(
        "NonMaxSuppression",
        f"{boxes} select_one_class select_most select_overlap select_least",
        "select_stay",
    )  # (n, 3): class, 0, place among its candidates
    tail.node("Gather", f"select_stay {columns}", "select_places", axis=1)
    tail.node("Gather", "select_stay select_first", "select_class", axis=1)
    return (
        tail.node("GatherND", f"{boxes} select_places", "select_stay_boxes"),
        tail.node("GatherND", f"{scores} select_places", "select_stay_scores"),
        tail.node("Add", "select_class select_start", "select_named"),  # the background is 0
    )


def _best(tail: _Tail, boxes: str, scores: str, named: str, selection: Selection) -> None:
    """The surest of all classes, as the one output."""
    tail.node("Shape", scores, "select_staying")
    tail.node("Min", "select_staying select_most", "select_told")
    values, order = tail.top(f"{scores} select_told", "select_told_scores", "select_order")
    tail.node("Cast", named, "select_numbers", to=TensorProto.FLOAT)
    tail.node("Gather", f"{boxes} {order}", "select_told_boxes")
    tail.node("Gather", f"select_numbers {order}", "select_told_classes")
    tail.node("Unsqueeze", f"{values} select_start", "select_column")
    tail.node("Concat", "select_told_boxes select_column select_told_classes", DETECTIONS, axis=1)
