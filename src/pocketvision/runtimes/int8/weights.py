"""Weights rounded together: what one weight loses, those that are not yet rounded make up for.

Inputs of a layer are alike, so an error of one weight can be undone in others. Weights are rounded
one after the other, and the error of each is taken out of those that follow, as far as the inputs
on calibration images go together. Means are left to the biases.

Source: Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers (2023), equations 2 to 4, with the order of its option "act-order".
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pocketvision.runtimes.graph import Graph, attributes
from pocketvision.runtimes.int8.rounding import IntegerProduct, integer_products, weight_axis
from pocketvision.runtimes.int8.statistics import Batches, watched

PLACES = 256  # of each image that inputs are taken at
MOST_INPUTS = 2304  # of one output; larger layers are rounded to the nearest
ROUNDING = 1e-12  # of the mean square: more than what is lost where much is taken from much
BLOCK = 64  # weights after which the errors of all are taken out of the rest
COVARIANCE_BYTES = 256e6  # held at once; more is found in further passes over the images
DAMPING = 0.01  # of the mean variance, added to each: few images do not tell all


def round_weights(graph: Graph, float_graph: Graph, batches: Batches) -> int:
    """Round the weights of an integer graph anew, with the scales they have; returns how many.

    float_graph: the same network, with the same names of nodes, and the weights to be rounded.
    """
    products = list(integer_products(graph))
    used = Counter(product.weight for product in products)
    mine = {p.node.name: p for p in products if used[p.weight] == 1}
    nodes = [
        node
        for node in float_graph.proto.node
        if node.name in mine and _inputs_of_one(float_graph, node) <= MOST_INPUTS
    ]
    for some in _that_fit(float_graph, nodes):
        for name, covariance in _covariances(float_graph, some, batches).items():
            rounded = _rounded(graph, float_graph, mine[name], covariance)
            graph.set_constant(mine[name].weight, rounded)
    return len(nodes)


def _that_fit(graph: Graph, nodes: list[onnx.NodeProto]) -> Iterator[list[onnx.NodeProto]]:
    """The nodes in parts whose covariances take no more than COVARIANCE_BYTES together."""
    part: list[onnx.NodeProto] = []
    taken = 0.0
    for node in nodes:
        groups = attributes(node).get("group", 1)
        needed = 8 * groups * _inputs_of_one(graph, node) ** 2
        if part and taken + needed > COVARIANCE_BYTES:
            yield part
            part, taken = [], 0.0
        part.append(node)
        taken += needed
    if part:
        yield part


def _inputs_of_one(graph: Graph, node: onnx.NodeProto) -> float:
    """How many weights one output has; infinite where the layer is of another kind."""
    weight = graph.constants.get(node.input[1])
    if weight is None or weight.ndim != (4 if node.op_type == "Conv" else 2):
        return float("inf")
    return float(weight.size / weight.shape[weight_axis(node)])


def _rows(weight: NDArray[np.generic], node: onnx.NodeProto) -> Tensor:
    """(groups, outputs of each, inputs of one) of the weights."""
    groups = attributes(node).get("group", 1)
    rows = weight if weight_axis(node) == 0 else weight.T
    return torch.from_numpy(np.array(rows)).reshape(groups, rows.shape[0] // groups, -1)


def _rounded(
    graph: Graph, float_graph: Graph, product: IntegerProduct, covariance: Tensor
) -> NDArray[np.int8]:
    node, stored = product.node, graph.constants[product.weight]
    weight = _rows(float_graph.constants[_weight_of(float_graph, node)], node)
    steps = torch.from_numpy(np.atleast_1d(graph.constants[product.weight_scale]))
    steps = steps.expand(weight.shape[0] * weight.shape[1]).reshape(*weight.shape[:2], 1)
    integers = fed_back(weight / steps, covariance, limit=int(np.abs(stored).max()))
    flat = integers.reshape(-1, integers.shape[-1]).numpy().astype(np.int8)
    if weight_axis(node) == 0:
        return np.ascontiguousarray(flat.reshape(stored.shape))
    return np.ascontiguousarray(flat.T.reshape(stored.shape))


def _weight_of(graph: Graph, node: onnx.NodeProto) -> str:
    return next(str(n.input[1]) for n in graph.proto.node if n.name == node.name)


def fed_back(weights: Tensor, covariance: Tensor, limit: int) -> Tensor:
    """(G, O, K) weights, in steps, as integers within +-limit; covariance (G, K, K) of the inputs.

    For integers q the error (w - q) C (w - q)^T is about least.
    """
    groups, _, inputs = weights.shape
    variance = covariance.diagonal(dim1=1, dim2=2)
    damping = DAMPING * variance.mean(1, keepdim=True).clamp_min(1e-30)
    order = variance.argsort(1, descending=True)
    damped = covariance + torch.diag_embed(damping.expand(groups, inputs))
    damped = damped.gather(1, order[:, :, None].expand_as(damped))
    damped = damped.gather(2, order[:, None, :].expand_as(damped))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    upper = torch.linalg.cholesky(inverse, upper=True).to(weights.dtype)
    left = weights.gather(2, order[:, None, :].expand_as(weights)).clone()
    integers, errors = torch.empty_like(left), torch.empty_like(left)
    for start in range(0, inputs, BLOCK):  # what lies behind a block hears of it once
        end = min(start + BLOCK, inputs)
        for k in range(start, end):
            integers[:, :, k] = left[:, :, k].round().clamp(-limit, limit)
            errors[:, :, k] = (left[:, :, k] - integers[:, :, k]) / upper[:, k, k, None]
            left[:, :, k + 1 : end] -= errors[:, :, k, None] * upper[:, None, k, k + 1 : end]
        left[:, :, end:] -= errors[:, :, start:end] @ upper[:, start:end, end:]
    return torch.empty_like(integers).scatter(2, order[:, None, :].expand_as(integers), integers)


def _covariances(graph: Graph, nodes: list[onnx.NodeProto], batches: Batches) -> dict[str, Tensor]:
    """(groups, K, K) of the inputs of one output of each node, by the node's name."""
    sums: dict[str, Tensor] = {}
    totals: dict[str, Tensor] = {}
    counts: Counter[str] = Counter()
    readers = defaultdict(list)
    for node in nodes:
        readers[node.input[0]].append(node)
    run = watched(graph.model, list(readers))
    for batch in batches:
        for tensor, values in run(batch).items():
            for node in readers[tensor]:
                kernel = graph.constants[node.input[1]].shape[2:]
                for taken in _taken(node, torch.from_numpy(values).double(), kernel):
                    name = node.name
                    totals[name] = totals.get(name, 0) + taken.sum(2)
                    sums[name] = sums.get(name, 0) + taken @ taken.transpose(1, 2)
                    counts[name] += taken.shape[2]
    found = {}
    for name, total in totals.items():
        mean = total / counts[name]
        moment = sums[name] / counts[name]
        room = ROUNDING * moment.diagonal(dim1=1, dim2=2).mean(1, keepdim=True)
        centred = moment - mean[:, :, None] * mean[:, None, :]
        found[name] = centred + torch.diag_embed(room.expand_as(mean))
    return found


def _taken(node: onnx.NodeProto, values: Tensor, kernel: tuple[int, ...]) -> Iterator[Tensor]:
    """(groups, K, places) that single outputs are made of, image by image."""
    facts = attributes(node)
    if node.op_type != "Conv":
        yield values.reshape(-1, values.shape[-1]).T[None]
        return
    groups = facts.get("group", 1)
    top, left, bottom, right = facts.get("pads", [0] * 4)
    for image in F.pad(values, (left, right, top, bottom)):
        if kernel == (1, 1):
            vertical, horizontal = facts.get("strides", [1, 1])
            columns = image[:, ::vertical, ::horizontal].flatten(1)
        else:
            columns = F.unfold(
                image[None],
                kernel,
                dilation=facts.get("dilations", [1, 1]),
                stride=facts.get("strides", [1, 1]),
            )[0]
        if columns.shape[1] > PLACES:
            chosen = torch.linspace(0, columns.shape[1] - 1, PLACES).long()
            columns = columns[:, chosen]
        yield columns.reshape(groups, -1, columns.shape[1])
