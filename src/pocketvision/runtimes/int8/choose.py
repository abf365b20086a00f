"""Which range each tensor gets: tried on the layers that read it, on calibration images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from pocketvision.runtimes.graph import PRODUCTS, Graph, copied
from pocketvision.runtimes.int8.ranges import LEVELS, METHODS, Method, Range, range_of
from pocketvision.runtimes.int8.rounding import Scale, apply_product
from pocketvision.runtimes.int8.statistics import TINY, Batches, Observed, few, watched, whole

IMAGES = 16  # on which ranges are tried
JUDGING = 16  # images whose logits decide
WORST = 24  # tensors that the logits decide on
NARROWER = 0.8  # from step to step
NARROWED = "narrowed"  # what a range found so is called


def scale_of(found: Range) -> Scale:
    """The integers of a range that holds 0."""
    low, high = min(found[0], 0.0), max(found[1], 0.0)
    scale = (high - low) / (LEVELS - 1)
    if scale < TINY:
        scale = 1.0  # as ONNX Runtime's quantizer has it: all is 0
    return Scale(scale=scale, zero=int(np.clip(np.rint(-low / scale), 0, LEVELS - 1)))


def choose_ranges(
    graph: Graph, observed: Mapping[str, Observed], batches: Batches, percentile: float
) -> dict[str, tuple[str, Range]]:
    """For each tensor the method whose range disturbs its readers least, and that range.

    Disturbed is what a convolution or matrix product gives, the product of a hard swish, or, where
    something else reads the tensor, the tensor itself; the measure is the summed square. For the
    WORST tensors, those that disturb the logits most, it is the logits that decide, and they may
    make the range narrower than any method does.
    """
    candidates = {
        name: {method: range_of(seen, method, percentile) for method in METHODS}
        for name, seen in observed.items()
    }
    chosen = _by_readers(graph, candidates, batches)
    noise = _LogitNoise(graph, few(batches, JUDGING))
    costs = {name: noise.of(name, candidates[name][method]) for name, method in chosen.items()}
    found = {name: (str(method), candidates[name][method]) for name, method in chosen.items()}
    for name in sorted(costs, key=lambda name: -costs[name])[:WORST]:
        tried = {m: noise.of(name, candidates[name][m]) for m in METHODS if m != chosen[name]}
        tried[chosen[name]] = costs[name]
        best = min(METHODS, key=lambda method: tried[method])
        narrow = noise.narrowed(name, candidates[name][best], tried[best])
        is_best = narrow == candidates[name][best]
        found[name] = (best if is_best else NARROWED, narrow)
    return found


def _by_readers(
    graph: Graph, candidates: Mapping[str, Mapping[Method, Range]], batches: Batches
) -> dict[str, Method]:
    costs: dict[str, dict[Method, float]] = defaultdict(lambda: dict.fromkeys(METHODS, 0.0))
    readers = {name: _effects(graph, name) for name in candidates}
    run = watched(graph.model, list(candidates))
    for batch in few(batches, IMAGES):
        for name, values in run(batch).items():
            for method, found in candidates[name].items():
                error = scale_of(found).round(values) - values
                for effect in readers[name]:
                    costs[name][method] += effect(values, error)
    return {name: min(METHODS, key=lambda method: costs[name][method]) for name in candidates}


class _LogitNoise:
    """Summed squared error of the logits when one tensor alone is rounded to a range."""

    def __init__(self, graph: Graph, batches: Batches) -> None:
        self.model, self.batches = graph.model, batches
        self.expected = self._logits(graph.model)

    def of(self, tensor: str, found: Range) -> float:
        error = self._logits(rounded(self.model, tensor, scale_of(found))) - self.expected
        return float(np.square(error).sum())

    def narrowed(self, tensor: str, found: Range, cost: float) -> Range:
        """The range made narrower as long as the logits gain: what they do not see is clipped."""
        while True:
            tried = (NARROWER * found[0], NARROWER * found[1])
            if (new := self.of(tensor, tried)) >= cost:
                return found
            found, cost = tried, new

    def _logits(self, model: onnx.ModelProto) -> NDArray[np.float32]:
        (output,) = (value.name for value in model.graph.output)
        return whole(model, output, self.batches)


def rounded(model: onnx.ModelProto, tensor: str, scale: Scale) -> onnx.ModelProto:
    """A copy of a float graph in which one tensor takes only the values of its integers."""
    changed = copied(model)
    graph = Graph(changed)
    readers, maker = graph.readers(tensor), graph.maker(tensor)
    if maker is None or tensor in graph.outputs:
        return changed
    step = graph.set_constant(f"{tensor}_step", np.float32(scale.scale))
    zero = graph.set_constant(f"{tensor}_zero", np.uint8(scale.zero))
    graph.rename_input(tensor, f"{tensor}_rounded", of=readers)
    made = [
        helper.make_node("QuantizeLinear", [tensor, step, zero], [f"{tensor}_integers"]),
        helper.make_node(
            "DequantizeLinear", [f"{tensor}_integers", step, zero], [f"{tensor}_rounded"]
        ),
    ]
    graph.replace([maker], [maker, *made])
    return changed


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
