"""Which channels of a network meet: what has to go together when one of them goes.

Every channel of every tensor of a forward pass has a *slot*. Operations that keep channels apart
(norms, activations, pools, depthwise convolutions) hand slots on; sums and products of maps tie the
slots of both; other convolutions and linear layers read slots and write new ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

import torch
from torch import nn

from pocketvision.errors import ConfigError
from pocketvision.models.networks import AnySpec, module_of
from pocketvision.models.raw import operations_of
from pocketvision.nn.operations import Kind, Operation

Role = Literal["writes", "reads", "keeps", "follows"]
Place = tuple[str, int, int]  # a tensor or a source of slots, an axis, a group or a number

NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")
GATES: frozenset[Kind] = frozenset(("sigmoid", "hsigmoid"))
SUMS: frozenset[Kind] = frozenset(("add", "multiply"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """One axis of a tensor of the state dict, index by index.

    tensor: its name there. axis: 0 or 1. slots: of each index; on axis 1 of a grouped convolution,
    those of all groups, one group behind the other.
    groups: of the convolution. role: a filter "writes" its slot, a column "reads" it, a depthwise
    filter "keeps" it, and what stands behind a layer (a bias, a norm) "follows" it.
    norm: of what writes: the path of the batch norm behind; empty where there is none. gate: what
    it writes becomes a factor between 0 and 1.
    """

    tensor: str
    axis: int
    slots: tuple[int, ...]
    groups: int = 1
    role: Role
    norm: str = ""
    gate: bool = False

    def by_group(self) -> tuple[tuple[int, ...], ...]:
        """The slots of each group."""
        size = len(self.slots) // self.groups
        return tuple(self.slots[start : start + size] for start in range(0, len(self.slots), size))


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What an operation does with slots.

    joins: it keeps channels apart and hands on (a depthwise convolution) or ties (a sum or product)
    the slots it gets, rather than to read or to stretch them. Where there is one channel, its
    module does not show this.
    """

    kind: Kind
    path: str
    joins: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelMap:
    """The slots of a network; tied ones have one number, the lowest.

    axes: of every tensor of the state dict that has channels. places: for every slot, all layers
    where it occurs, in order: what must agree for a channel to stand for another one. means: for
    every slot that is a mean over channels, over how many. steps: all operations in order.
    """

    axes: tuple[Axis, ...]
    places: Mapping[int, tuple[Place, ...]]
    means: Mapping[int, int]
    steps: tuple[Step, ...]


def channel_map(spec: AnySpec, like: AnySpec | None = None) -> ChannelMap:
    """Which channels of the network of `spec` meet.

    like: a network of the same structure with at least as many channels everywhere, which says what
    the operations on a single channel do; None: a convolution from one channel to one is depthwise,
    and two maps of one channel are tied.

    Raises: ConfigError: a network with other layers than that of `like`; an operation that is not
        of this package's networks.
    """
    return _own_map(spec) if like is None else _traced(spec, _own_map(like).steps)


@lru_cache(maxsize=4)
def _own_map(spec: AnySpec) -> ChannelMap:
    """Kept: one network is compared with many narrower ones."""
    return _traced(spec, None)


def _traced(spec: AnySpec, like: Sequence[Step] | None) -> ChannelMap:
    with torch.device("meta"):
        network = module_of(spec)
    made, outputs = operations_of(network)
    if like is None:
        steps = tuple(Step(kind=o.kind, path=o.path, joins=_joins(o, made)) for o in made)
    else:
        _check_same_layers(spec, made, like)
        steps = tuple(like)
    return _Trace(made, steps, outputs).run()


def _joins(operation: Operation, made: Sequence[Operation]) -> bool:
    module = operation.module
    if isinstance(module, nn.Conv2d):
        return module.groups == module.in_channels == module.out_channels
    if operation.kind in SUMS:
        return len({made[source].channels for source in operation.inputs}) == 1
    return False


def _check_same_layers(spec: AnySpec, made: Sequence[Operation], like: Sequence[Step]) -> None:
    ours, theirs = ([(each.kind, each.path) for each in steps] for steps in (made, like))
    if ours == theirs:
        return
    pairs = zip([*ours, ("end", "")], [*theirs, ("end", "")], strict=False)
    index = next(index for index, (own, other) in enumerate(pairs) if own != other)
    before = next((path for _, path in reversed(theirs[:index]) if path), "the input")
    found, expected = ([*steps, ("nothing", "")][index] for steps in (ours, theirs))
    raise ConfigError(
        f"{spec.label} has other layers: {' '.join(found).strip()} behind {before}; expected "
        f"{' '.join(expected).strip()}. Equal widths can add a shortcut or take an expansion away."
    )


@dataclass(slots=True)
class _Trace:
    """One walk along the operations."""

    made: Sequence[Operation]
    steps: Sequence[Step]
    outputs: Sequence[int]  # places in `made`
    parents: list[int] = field(default_factory=list)
    axes: list[Axis] = field(default_factory=list)
    sources: list[tuple[Place, int]] = field(default_factory=list)  # of slots no tensor tells apart
    means: dict[int, int] = field(default_factory=dict)
    written: dict[str, tuple[int, ...]] = field(default_factory=dict)  # by a layer run twice
    tensors: list[tuple[int, ...]] = field(default_factory=list)

    def run(self) -> ChannelMap:
        norms = {o.inputs[0]: o.path for o in self.made if o.kind == "norm"}
        gates = _gates(self.made)
        for index, operation in enumerate(self.made):
            inputs = [self.tensors[source] for source in operation.inputs]
            module = operation.module
            if isinstance(module, nn.Conv2d | nn.Linear) and not self.steps[index].joins:
                norm = norms.get(index, "")
                slots = self.layer(operation.path, module, inputs[0], norm, index in gates)
            else:
                slots = self.passed(index, operation, inputs)
            self.tensors.append(slots)
        for place in self.outputs:
            self.mark(f"output {place}", self.tensors[place])
        return self.result()

    def layer(
        self,
        path: str,
        module: nn.Conv2d | nn.Linear,
        inputs: tuple[int, ...],
        norm: str,
        gate: bool,
    ) -> tuple[int, ...]:
        """A layer that mixes channels."""
        if path in self.written:
            read = next(a for a in self.axes if a.role == "reads" and a.tensor == f"{path}.weight")
            assert read.slots == inputs, f"{path} reads other channels the second time"
            return self.written[path]
        groups = module.groups if isinstance(module, nn.Conv2d) else 1
        slots, weight = self.new(module.weight.shape[0]), f"{path}.weight"
        self.axes += [
            Axis(
                tensor=weight,
                axis=0,
                slots=slots,
                groups=groups,
                role="writes",
                norm=norm,
                gate=gate,
            ),
            Axis(tensor=weight, axis=1, slots=inputs, groups=groups, role="reads"),
        ]
        if module.bias is not None:
            self.follow(f"{path}.bias", slots)
        self.written[path] = slots
        return slots

    def passed(
        self, index: int, operation: Operation, inputs: list[tuple[int, ...]]
    ) -> tuple[int, ...]:
        """Everything else."""
        path, number = operation.path, operation.number
        match operation.kind:
            case "input":
                return self.mark("input", self.new(operation.channels))
            case "channel_mean" | "channel_max":
                return self.summary(f"{operation.kind} {index}", inputs[0], operation.kind)
            case "concatenate":
                return tuple(slot for slots in inputs for slot in slots)
            case "halve":
                half = operation.channels
                return inputs[0][number * half : (number + 1) * half]
            case "shuffle":
                n = operation.channels // number  # channel i * n + j goes to place j * g + i
                return tuple(inputs[0][i * n + j] for j in range(n) for i in range(number))
            case "add" | "multiply":
                if self.steps[index].joins:
                    self.tie(*inputs)
                return max(inputs, key=len)
            case "norm":
                for name in NORM_TENSORS:
                    self.follow(f"{path}.{name}", inputs[0])
            case "conv":
                assert isinstance(operation.module, nn.Conv2d)
                weight = f"{path}.weight"
                self.axes.append(Axis(tensor=weight, axis=0, slots=inputs[0], role="keeps"))
                if operation.module.bias is not None:
                    self.follow(f"{path}.bias", inputs[0])
        return inputs[0]

    def summary(self, name: str, inputs: tuple[int, ...], kind: Kind) -> tuple[int, ...]:
        """One map made of all."""
        self.sources += [((f"{name} reads", 1, 0), slot) for slot in inputs]
        slots = self.mark(name, self.new(1))
        if kind == "channel_mean":
            self.means[slots[0]] = len(inputs)
        return slots

    def follow(self, tensor: str, slots: tuple[int, ...]) -> None:
        self.axes.append(Axis(tensor=tensor, axis=0, slots=slots, role="follows"))

    def mark(self, name: str, slots: tuple[int, ...]) -> tuple[int, ...]:
        """None of them can stand for another."""
        self.sources += [((name, 0, number), slot) for number, slot in enumerate(slots)]
        return slots

    def new(self, count: int) -> tuple[int, ...]:
        first = len(self.parents)
        self.parents += range(first, first + count)
        return tuple(range(first, first + count))

    def root(self, slot: int) -> int:
        while self.parents[slot] != slot:
            slot = self.parents[slot]
        return slot

    def tie(self, one: Sequence[int], other: Sequence[int]) -> None:
        for pair in zip(one, other, strict=True):
            low, high = sorted(self.root(slot) for slot in pair)
            self.parents[high] = low

    def result(self) -> ChannelMap:
        roots = [self.root(slot) for slot in range(len(self.parents))]
        axes = tuple(
            replace(axis, slots=tuple(roots[slot] for slot in axis.slots)) for axis in self.axes
        )
        places: list[list[Place]] = [[] for _ in roots]
        for axis in axes:
            if axis.role != "follows":  # else it is where the layer is that it stands behind
                for group, slots in enumerate(axis.by_group()):
                    place = (axis.tensor, axis.axis, group)
                    for slot in slots:
                        places[slot].append(place)
        for place, slot in self.sources:
            places[roots[slot]].append(place)
        return ChannelMap(
            axes=axes,
            places={slot: tuple(found) for slot, found in enumerate(places) if found},
            means={roots[slot]: count for slot, count in self.means.items()},
            steps=tuple(self.steps),
        )


def _gates(made: Sequence[Operation]) -> set[int]:
    """The layers whose outputs, or sums of them, go into a sigmoid."""
    found: set[int] = set()
    waiting = [source for o in made if o.kind in GATES for source in o.inputs]
    while waiting:
        index = waiting.pop()
        if made[index].kind == "add":
            waiting += made[index].inputs
        elif isinstance(made[index].module, nn.Conv2d | nn.Linear):
            found.add(index)
    return found
