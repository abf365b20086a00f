"""A narrower network that takes over the weights of the channels it keeps.

Source: Yang et al., NetAdapt: Platform-Aware Neural Network Adaptation for Mobile Applications,
arXiv 1804.03230v2, section 3.3 (choose which filters: those of the largest l2 norm stay).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from pocketvision.errors import ConfigError
from pocketvision.models.arch import ArchSpec
from pocketvision.models.channels import Axis, ChannelMap, Place, channel_map
from pocketvision.models.networks import AnyNetwork, AnySpec, module_of

# `skip` matters where input and output are equal in width; the operations tell whether it does.
WIDTH_FIELDS = ("c_in", "c_mid", "c_out", "squeezed", "skip")
HEAD_WIDTHS = ("c_low", "c_high", "c_maps", "filters", "extras")  # of segmenters and detectors

AnyKind = TypeVar("AnyKind", bound=AnyNetwork)


def narrow(network: AnyKind, spec: AnySpec) -> AnyKind:
    """The network of `spec`, which has fewer channels in places, with weights of `network`.

    It computes what `network` does with the channels that it lacks set to zero. A channel of it
    stands for one of `network` that occurs in the same places: written and read by the same layers,
    in the same groups of them. Of those that qualify, the ones with the largest norm stay, in
    their order. The kernel of CBAM that reads the mean over channels is scaled, as the mean is over
    fewer now.

    Where CBAM sees channels that can be negative (linear branches, h-swish), its maximum over
    channels is not always that of the masked network, whose zeros take part in it.

    spec: `network.spec` with smaller widths; see `widths_of`. The result is in the mode of
    `network`, has its dtype, and shares no memory with it.

    Raises: ConfigError: a spec that differs in more than widths, or has channels for which there
        are none left in `network`.
    """
    old, new = _maps(network.spec, spec)
    pairs = _pairs(old, new, squared_norms(network))
    return _rebuilt(network, spec, old, new, pairs)


def largest_first(network: AnyKind) -> AnyKind:
    """The network with its channels in another order: of those that qualify to stand for each
    other, as of `narrow`, the one with the largest norm is the first.

    It computes the same, and its first channels are those that `narrow` would keep. The result is
    in the mode of `network`, has its dtype, and shares no memory with it.

    Source: Cai et al., Once-for-All, section 3.3 (channels are sorted by the norm of their weights
    before a part of them is used).
    """
    found, norms = channel_map(network.spec), squared_norms(network)
    pairs = {
        slot: source
        for slots in _by_places(found).values()
        for slot, source in zip(slots, _ranked(slots, norms), strict=True)
    }
    return _rebuilt(network, network.spec, found, found, pairs)


def _rebuilt(
    network: AnyKind, spec: AnySpec, old: ChannelMap, new: ChannelMap, pairs: Mapping[int, int]
) -> AnyKind:
    """The network of `spec`; pairs: the old slot, whose weights it has, for each new one."""
    before = {(axis.tensor, axis.axis): axis for axis in old.axes}
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for axis in new.axes:
        name = axis.tensor
        state[name] = _taken(state[name], axis, before[name, axis.axis], pairs)
    _scale_means(state, old, new, pairs)
    with torch.device("meta"):
        rebuilt = cast(AnyKind, module_of(spec))
    rebuilt.load_state_dict(state, assign=True)
    rebuilt.train(network.training)
    return rebuilt


def check_narrows(old: AnySpec, new: AnySpec) -> None:
    """Whether `narrow` can make the network of `new` from that of `old`, whatever its weights.

    Raises: ConfigError: as `narrow`.
    """
    _maps(old, new)


def squared_norms(network: AnyNetwork) -> dict[int, float]:
    """For every slot of `channel_map(network.spec)`: the squared l2 norm of what writes it.

    That is the sum over all filters that write it, with the batch norms behind folded in; layers
    that write gates do not count, since a gate says how much of a channel passes, not how much is
    in it. Slots that nothing writes, such as the input's, have 0.
    """
    found = channel_map(network.spec)
    state, total = network.state_dict(), dict.fromkeys(found.places, 0.0)
    for axis in found.axes:
        if axis.role == "writes" and not axis.gate:
            rows = state[axis.tensor].detach().double().flatten(1).square().sum(1)
            if axis.norm:
                rows = rows * _squared_factors(network.get_submodule(axis.norm))
            for slot, value in zip(axis.slots, rows.tolist(), strict=True):
                total[slot] += value
    return total


def _squared_factors(norm: nn.Module) -> Tensor:
    """By what a batch norm multiplies every channel, squared."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    return norm.weight.detach().double().square() / (norm.running_var.double() + norm.eps)


def _maps(old: AnySpec, new: AnySpec) -> tuple[ChannelMap, ChannelMap]:
    """Of both, checked: every channel of the new one can stand for one of the old one."""
    _check_widths_alone(old, new)
    theirs, ours = channel_map(old), channel_map(new, like=old)
    have = Counter(theirs.places.values())
    for places, wanted in Counter(ours.places.values()).items():
        if wanted > have[places]:
            raise ConfigError(
                f"{new.label} cannot take all its channels from {old.label}: it has {wanted}, but "
                f"there are {have[places]} that are at once in {_words(places)}. Take a width that "
                "`widths_of` gives for a group."
            )
    return theirs, ours


def _pairs(old: ChannelMap, new: ChannelMap, norms: Mapping[int, float]) -> dict[int, int]:
    """The old slot for each new one."""
    candidates, pairs = _by_places(old), dict[int, int]()
    for places, slots in _by_places(new).items():
        ranked = _ranked(candidates[places], norms)
        pairs.update(zip(slots, sorted(ranked[: len(slots)]), strict=True))
    return pairs


def _ranked(slots: Sequence[int], norms: Mapping[int, float]) -> list[int]:
    """The largest norm first; of equal ones the first."""
    return sorted(slots, key=lambda slot: -norms[slot])


def _by_places(found: ChannelMap) -> dict[tuple[Place, ...], list[int]]:
    slots: dict[tuple[Place, ...], list[int]] = {}
    for slot, places in found.places.items():
        slots.setdefault(places, []).append(slot)
    return slots


def _taken(tensor: Tensor, new: Axis, old: Axis, pairs: Mapping[int, int]) -> Tensor:
    """The indices of one axis that stay."""
    index = {slot: place for place, slot in enumerate(old.slots)}
    assert len(index) == len(old.slots), f"{old.tensor} has a channel twice"
    kept = torch.tensor([index[pairs[slot]] for slot in new.slots])
    if new.axis == 0:
        return tensor[kept]
    columns = (kept % tensor.shape[1]).chunk(new.groups)  # within the group; axis 0 is narrow now
    rows = tensor.chunk(new.groups)
    return torch.cat([part[:, chosen] for part, chosen in zip(rows, columns, strict=True)])


def _scale_means(
    state: dict[str, Tensor], old: ChannelMap, new: ChannelMap, pairs: Mapping[int, int]
) -> None:
    """Masked channels count in a mean."""
    for axis in new.axes:
        for index, slot in enumerate(axis.slots):
            if axis.role == "reads" and slot in new.means:
                state[axis.tensor][:, index] *= new.means[slot] / old.means[pairs[slot]]


def _check_widths_alone(old: AnySpec, new: AnySpec) -> None:
    for name, theirs, ours in _parts(old, new):
        if _without_widths(theirs) != _without_widths(ours):
            raise ConfigError(
                f"{new.label} is no narrower form of {old.label}: {name} differs in more than its "
                f"widths: {ours}; expected widths alone to differ from {theirs}."
            )


def _parts(old: AnySpec, new: AnySpec) -> Sequence[tuple[str, object, object]]:
    """What both are made of, side by side, with names."""
    theirs, ours = (_blocks_and_maps(spec) for spec in (old, new))
    blocks = zip(theirs[0], ours[0], strict=False)  # their numbers are compared first
    return (
        ("the number of blocks", len(theirs[0]), len(ours[0])),
        ("in_chans", old.in_chans, new.in_chans),
        *((f"block {index}", *pair) for index, pair in enumerate(blocks)),
        ("where the head stands", theirs[1], ours[1]),
        ("the head", old.head, new.head),
    )


def _blocks_and_maps(spec: AnySpec) -> tuple[Sequence[object], Sequence[object]]:
    """The blocks that run, and the maps of them that the head sees; a classifier sees the last."""
    return (spec.blocks, ()) if isinstance(spec, ArchSpec) else (spec.body_blocks, spec.taps)


def _without_widths(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(_without_widths(each) for each in value)
    if not dataclasses.is_dataclass(value):
        return value
    kept: list[object] = [type(value)]
    for field in dataclasses.fields(value):
        found = getattr(value, field.name)
        if field.name == "hidden":
            found = found is None
        if field.name not in (*WIDTH_FIELDS, *HEAD_WIDTHS):
            kept.append(_without_widths(found))
    return tuple(kept)


def _words(places: Sequence[Place]) -> str:
    named = [
        f"{tensor.removesuffix('.weight')} ({'outputs' if axis == 0 else 'inputs'}, group {group})"
        for tensor, axis, group in places
        if tensor.endswith(".weight")
    ]
    return ", ".join(named or [place[0] for place in places])
