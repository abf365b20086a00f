"""Which range each tensor gets: tried on the layers that read it, on calibration images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from pocketvision.runtimes.int8.graph import PRODUCTS, Graph
from pocketvision.runtimes.int8.ranges import LEVELS, METHODS, Method, Range, range_of
from pocketvision.runtimes.int8.rounding import Scale, apply_product
from pocketvision.runtimes.int8.statistics import Batches, Observed, few, watched

IMAGES = 16  # on which ranges are tried


def scale_of(found: Range) -> Scale:
    """The integers of a range that holds 0."""
    low, high = min(found[0], 0.0), max(found[1], 0.0)
    scale = (high - low) / (LEVELS - 1) or 1.0
    return Scale(scale=scale, zero=int(np.clip(np.rint(-low / scale), 0, LEVELS - 1)))


def choose_ranges(
    graph: Graph, observed: Mapping[str, Observed], batches: Batches, percentile: float
) -> dict[str, tuple[Method, Range]]:
    """For each tensor the method whose range disturbs its readers least, and that range.

    Disturbed is what a convolution or matrix product gives, the product of a hard swish, or, where
    something else reads the tensor, the tensor itself; the measure is the summed square.
    """
    candidates = {
        name: {method: range_of(seen, method, percentile) for method in METHODS}
        for name, seen in observed.items()
    }
    costs: dict[str, dict[Method, float]] = defaultdict(lambda: dict.fromkeys(METHODS, 0.0))
    readers = {name: _effects(graph, name) for name in observed}
    run = watched(graph.model, list(observed))
    for batch in few(batches, IMAGES):
        for name, values in run(batch).items():
            for method, found in candidates[name].items():
                error = scale_of(found).round(values) - values
                for effect in readers[name]:
                    costs[name][method] += effect(values, error)
    return {
        name: (best, candidates[name][best])
        for name in observed
        for best in [min(METHODS, key=lambda method: costs[name][method])]
    }


Effect = Callable[[NDArray[np.float32], NDArray[np.float32]], float]


def _effects(graph: Graph, name: str) -> list[Effect]:
    """What an error of a tensor costs each of its readers."""
    readers = graph.readers(name)
    if {node.op_type for node in readers} == {"HardSigmoid", "Mul"}:
        return [_hard_swish]
    return [_product(graph, node, name) for node in readers] or [_plain]


def _product(graph: Graph, node: onnx.NodeProto, name: str) -> Effect:
    known = node.op_type in PRODUCTS and node.input[0] == name
    if not known or node.input[1] not in graph.constants:
        return _plain
    weight = graph.constants[node.input[1]]
    return lambda _, error: _square(apply_product(node, error, weight))


def _plain(_: NDArray[np.float32], error: NDArray[np.float32]) -> float:
    return _square(error)


def _hard_swish(values: NDArray[np.float32], error: NDArray[np.float32]) -> float:
    def swish(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(x * np.clip(x + 3, 0, 6) / 6, np.float32)

    return _square(swish(values + error) - swish(values))


def _square(values: NDArray[np.float32]) -> float:
    return float(np.vdot(values, values))
