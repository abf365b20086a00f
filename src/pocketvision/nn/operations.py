"""A module as the list of operations that its forward makes, whatever blocks it is made of.

What looks inside networks (a file writer, a map of which channels meet) reads this list, and so
needs no rule of its own for any block.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import fx, nn

from pocketvision.errors import ConfigError
from pocketvision.nn.dense_heads import resized, spread, window_means
from pocketvision.nn.shuffle import channel_shuffle
from pocketvision.nn.ssdlite import by_anchor

Kind = Literal[
    "input",
    "conv",
    "linear",
    "norm",
    "relu",
    "relu6",
    "hswish",
    "hsigmoid",
    "sigmoid",
    "global_mean",
    "global_max",
    "mean_pool",
    "max_pool",
    "window_means",
    "channel_mean",
    "channel_max",
    "flatten",
    "add",
    "multiply",
    "concatenate",
    "halve",
    "shuffle",
    "resize",
    "spread",
    "by_anchor",
]

MODULES: dict[type[nn.Module], Kind] = {
    nn.Conv2d: "conv",
    nn.Linear: "linear",
    nn.BatchNorm2d: "norm",
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Hardswish: "hswish",
    nn.Hardsigmoid: "hsigmoid",
    nn.Sigmoid: "sigmoid",
    nn.AdaptiveAvgPool2d: "global_mean",
    nn.AdaptiveMaxPool2d: "global_max",
    nn.AvgPool2d: "mean_pool",
    nn.MaxPool2d: "max_pool",
}
FUNCTIONS: dict[Callable[..., Any], Kind] = {
    operator.add: "add",
    operator.mul: "multiply",
    torch.cat: "concatenate",
    torch.sigmoid: "sigmoid",
    F.adaptive_avg_pool2d: "global_mean",
    channel_shuffle: "shuffle",
    window_means: "window_means",
    resized: "resize",
    spread: "spread",
    by_anchor: "by_anchor",
}
WHOLE = (channel_shuffle, window_means, resized, spread, by_anchor)  # functions of this package
METHODS: dict[str, Kind] = {"flatten": "flatten", "mean": "channel_mean", "amax": "channel_max"}
PASSING = (nn.Identity, nn.Dropout)  # do nothing in inference
ELEMENTWISE: frozenset[Kind] = frozenset(("relu", "relu6", "hswish", "hsigmoid", "sigmoid"))

assert {*MODULES.values(), *FUNCTIONS.values(), *METHODS.values()} < {*get_args(Kind)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One step of a forward pass.

    channels: of its output; behind "by_anchor", the numbers of an anchor. inputs: places, in the
    list, of the operations whose outputs it takes; the second of "resize" and "spread" is as large
    as the output. path: of its module in the state dict ("blocks.3.expand.conv"); empty where it
    has none. number: of "halve", which half is taken, 0 or 1; of "shuffle", the groups; of
    "by_anchor", the channels; else 0.
    """

    kind: Kind
    channels: int
    inputs: tuple[int, ...] = ()
    path: str = ""
    module: nn.Module | None = None
    number: int = 0


def operations(in_chans: int, **parts: nn.Module) -> tuple[Operation, ...]:
    """What `parts`, run one behind the other, do in inference; the first operation is the input.

    in_chans: channels of the input. The names of the parts begin the paths. Modules may lie on the
    meta device.

    Raises: ConfigError: an operation that is not of this package's networks.
    """
    return traced(nn.Sequential(OrderedDict(parts)), in_chans)[0]


def traced(module: nn.Module, in_chans: int) -> tuple[tuple[Operation, ...], tuple[int, ...]]:
    """What a module of one input does in inference, and which places give its outputs.

    Raises: as `operations`.
    """
    graph = _Tracer(autowrap_functions=WHOLE).trace(module)
    made = [Operation(kind="input", channels=in_chans)]
    places: dict[fx.Node, int] = {}
    chunks: dict[fx.Node, int] = {}  # halved tensors: the operation they come from
    outputs: tuple[int, ...] = ()
    for node in graph.nodes:
        if node.op == "output":
            outputs = tuple(places[output] for output in node.all_input_nodes)
            break
        if node.op == "placeholder":
            places[node] = 0
            continue
        sources = tuple(places[source] for source in node.all_input_nodes if source in places)
        if node.op == "call_method" and node.target == "chunk" and node.args[1:] == (2, 1):
            chunks[node] = sources[0]
        elif _passes(node, module):
            places[node] = sources[0]
        else:
            if node.target is operator.getitem and node.args[0] in chunks:
                sources = (chunks[node.args[0]],)
            made.append(_operation(node, module, sources, [made[s] for s in sources]))
            places[node] = len(made) - 1
    return tuple(made), outputs


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Convolutions of our own are whole, as those of torch are."""
        inherited: bool = super().is_leaf_module(m, module_qualified_name)
        return inherited or isinstance(m, nn.Conv2d)


def _passes(node: fx.Node, whole: nn.Module) -> bool:
    return node.op == "call_module" and isinstance(whole.get_submodule(str(node.target)), PASSING)


def _operation(
    node: fx.Node, whole: nn.Module, inputs: tuple[int, ...], sources: list[Operation]
) -> Operation:
    if node.op == "call_module":
        path = str(node.target)
        module = whole.get_submodule(path)
        kind = next((kind for known, kind in MODULES.items() if isinstance(module, known)), None)
        if kind is not None:
            width = _width(module, sources[0].channels)
            return Operation(kind=kind, channels=width, inputs=inputs, path=path, module=module)
    elif node.target is operator.getitem and sources:
        half = node.args[1]
        assert isinstance(half, int)
        width = sources[0].channels // 2
        return Operation(kind="halve", channels=width, inputs=inputs, number=half)
    elif node.op == "call_function" and node.target in FUNCTIONS:
        kind = FUNCTIONS[node.target]
        number = node.args[1] if kind in ("shuffle", "by_anchor") else 0
        assert isinstance(number, int)
        width = _made_width(kind, number, sources)
        return Operation(kind=kind, channels=width, inputs=inputs, number=number)
    elif node.op == "call_method" and node.target in METHODS:
        kind = METHODS[str(node.target)]
        width = sources[0].channels if kind == "flatten" else 1
        return Operation(kind=kind, channels=width, inputs=inputs)
    raise ConfigError(f"{node.format_node()} cannot be looked into: no operation known here.")


def _made_width(kind: Kind, number: int, sources: list[Operation]) -> int:
    """Channels that a function gives."""
    channels = [source.channels for source in sources]
    if kind == "by_anchor":
        return number
    if kind == "concatenate" and sources[0].kind != "by_anchor":
        return sum(channels)
    return channels[0] if kind in ("resize", "spread") else max(channels)


def _width(module: nn.Module, channels: int) -> int:
    """Channels that a module gives, of so many."""
    if isinstance(module, nn.Conv2d):
        return module.out_channels
    return module.out_features if isinstance(module, nn.Linear) else channels
