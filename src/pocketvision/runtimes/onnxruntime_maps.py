"""Maps of classes as ONNX Runtime enlarges them fast: the rows between two by a matrix product."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from pocketvision.runtimes.graph import Graph, copied, tensor_shapes
from pocketvision.runtimes.onnxfile import drop_unused_constants

ROWS = 1  # the axis of rows in NHWC


def rows_by_products(model: onnx.ModelProto) -> bool:
    """Enlarge columns by Resize and rows by MatMul where an ArgMax follows; whether it does.

    In place, for what `resizing.classes_last` wrote with a whole, even factor. ONNX Runtime 1.32
    interpolates pixel by pixel, of four each; the `factor` rows between two of the small map are
    one product of their weights with these two.
    """
    graph = Graph(model)
    resizes = (_enlarged(graph, node) for node in graph.proto.node)
    resize = next((found for found in resizes if found is not None), None)
    if resize is None:
        return False
    shapes = tensor_shapes(model)
    rows, height = (shapes[name][ROWS] for name in (resize.input[0], resize.output[0]))
    factor, left = divmod(height, rows)
    if left or factor % 2:
        return False
    _split(graph, resize, rows, factor, shapes[resize.output[0]][ROWS + 1 :])
    drop_unused_constants(model.graph)  # the factors that it had
    return True


def _enlarged(graph: Graph, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """The Resize whose logits an ArgMax over the last axis picks from."""
    resize = graph.maker(node.input[0]) if node.op_type == "ArgMax" else None
    if resize is None or resize.op_type != "Resize":
        return None
    turn = graph.maker(resize.input[0])
    return resize if turn is not None and turn.op_type == "Transpose" else None


def _split(
    graph: Graph, resize: onnx.NodeProto, rows: int, factor: int, inner: tuple[int, ...]
) -> None:
    """inner: sizes of the axes behind the rows, after the Resize."""
    name = resize.output[0]
    argmax = graph.only_reader(name)
    assert argmax is not None
    padded, half = (rows + 1) * factor, factor // 2  # half a block too much at either end
    factors = graph.constants[resize.input[2]].copy()
    factors[ROWS] = 1
    constants = {
        "factors": factors,
        "pairs": _pairs(rows),
        "flat": np.array([0, rows + 1, 2, np.prod(inner)], np.int64),
        "weights": _weights(factor),
        "whole": np.array([0, padded, *inner], np.int64),
        "first": np.array([half], np.int64),
        "last": np.array([padded - half], np.int64),
        "axis": np.array([ROWS], np.int64),
    }
    given = {key: graph.set_constant(f"{name}_{key}", value) for key, value in constants.items()}
    wide, named = copied(resize), copied(argmax)
    wide.input[2], wide.output[0] = given["factors"], f"{name}_wide"
    named.input[0], named.output[0] = f"{name}_padded", f"{argmax.output[0]}_padded"
    bounds = [given[key] for key in ("first", "last", "axis")]
    make = helper.make_node
    products = [
        make("Gather", [wide.output[0], given["pairs"]], [f"{name}_two"], axis=ROWS),
        make("Reshape", [f"{name}_two", given["flat"]], [f"{name}_flat_two"]),
        make("MatMul", [given["weights"], f"{name}_flat_two"], [f"{name}_between"]),
        make("Reshape", [f"{name}_between", given["whole"]], [named.input[0]]),
    ]
    cut = make("Slice", [named.output[0], *bounds], [argmax.output[0]])
    graph.replace([resize, argmax], [wide, *products, named, cut])


def _pairs(rows: int) -> NDArray[np.int64]:
    """(rows + 1, 2): neighbours, and each end with itself."""
    places = np.arange(rows + 1)
    return np.stack([np.maximum(places - 1, 0), np.minimum(places, rows - 1)], axis=1)


def _weights(factor: int) -> NDArray[np.float32]:
    """(factor, 2): what each row between two takes of either."""
    after = (np.arange(factor, dtype=np.float32) + 0.5) / factor
    return np.stack([1 - after, after], axis=1)
