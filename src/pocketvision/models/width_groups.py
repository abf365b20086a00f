"""The widths of a network that can be changed, each with all the others that must follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pocketvision.errors import ConfigError, at_least
from pocketvision.models.arch import ArchSpec, Attentive, BlockSpec
from pocketvision.models.narrow import check_narrows
from pocketvision.nn.blocks import InvertedResidualSpec
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.inception import InceptionSpec
from pocketvision.nn.pool import PoolSpec
from pocketvision.nn.residual import BottleneckSpec, ResidualSpec
from pocketvision.nn.shuffle import ShuffleV1Spec, ShuffleV2Spec

GroupKind = Literal["bottleneck", "stage", "stages", "expansion", "squeeze", "hidden"]
Shuffle = ShuffleV1Spec | ShuffleV2Spec
VARIANT = "narrowed"


@dataclass(frozen=True, kw_only=True, slots=True)
class WidthGroup:
    """A width, and the blocks that have it.

    name: unique in the network, and the same after widths have changed ("blocks.4-6.output").
    kind: "bottleneck", the output of one block, or of several that residual sums tie; "stage", the
    same of a ShuffleNet; "stages", all those of a ShuffleNetV1 with groups, which keep their ratio,
    rounded down to what groups allow; "expansion", inside a block; "squeeze", inside its attention;
    "hidden", inside the head.
    width: at present; of "stages" that of the first one.
    blocks: their indices; none for the head.
    """

    name: str
    kind: GroupKind
    width: int
    blocks: tuple[int, ...] = ()


def width_groups(spec: ArchSpec) -> tuple[WidthGroup, ...]:
    """All widths of `spec` that can be changed, from input to output.

    Left out: what an inception module reads, gives or has in its branches; blocks of grouped
    convolutions; what stands before a ShuffleNetV1 with groups, since each group reads its part.
    """
    outputs = [_output(spec, chain) for chain in _chains(spec) if _is_free(spec, chain)]
    inner = [group for index, block in enumerate(spec.blocks) for group in _inner(index, block)]
    groups = [*_joint(spec), *outputs, *inner]
    groups.sort(key=lambda group: group.blocks[0])  # what a block has inside follows its output
    if spec.head.hidden is not None:
        groups.append(WidthGroup(name="head.hidden", kind="hidden", width=spec.head.hidden))
    return tuple(groups)


def resized(spec: ArchSpec, group: WidthGroup, width: int) -> ArchSpec:
    """`spec` with another width for `group`, and for all that follows it.

    The units of a ShuffleNetV1 put their channels behind those that come in: as many as `group`
    loses, all later stages lose. Inverted residuals to which equal widths would give a shortcut
    are told to have none. width: 1 to the present one.

    Raises: ConfigError: a group that is not of `spec`; a width outside 1 to the present one; one
        that a block does not allow, that takes a layer away, or at which some channel would stand
        where none of the present ones does; with the nearest that is allowed.
    """
    check_member(spec, group)
    at_least("width", width, 1)
    if width > group.width:
        raise ConfigError(
            f"width={width} is more than {group.name} has in {spec.label}; expected 1 to "
            f"{group.width}."
        )
    try:
        changed = _changed(spec, group, width)
        if _deals_anew(spec, changed):
            check_narrows(spec, changed)
    except ConfigError as error:
        nearest = _nearest(spec, group, width)
        raise ConfigError(
            f"{group.name} cannot be {width} wide: {error} The nearest allowed width is {nearest}."
        ) from None
    return changed


def check_member(spec: ArchSpec, group: WidthGroup) -> None:
    """Raises: ConfigError: a group that is not of `spec`."""
    groups = width_groups(spec)
    if group not in groups:
        same = [each.width for each in groups if each.name == group.name]
        present = f"there it is {same[0]} wide" if same else "there is none of this name"
        raise ConfigError(
            f"{group.name} of width {group.width} is no group of {spec.label}: {present}; take one "
            "of width_groups(spec)."
        )


def is_allowed(spec: ArchSpec, group: WidthGroup, width: int) -> bool:
    """Whether `resized` takes a width, 1 to one less than the present."""
    try:
        changed = _changed(spec, group, width)
        if _deals_anew(spec, changed):
            check_narrows(*_differing(spec, changed))
    except ConfigError:
        return False
    return True


def _deals_anew(old: ArchSpec, new: ArchSpec) -> bool:
    """Whether channels can get places where there were none; else any can stand for any other."""
    pairs = zip(old.blocks, new.blocks, strict=True)
    return any(isinstance(before, Shuffle) and before.c_out != now.c_out for before, now in pairs)


def _differing(old: ArchSpec, new: ArchSpec) -> tuple[ArchSpec, ArchSpec]:
    """Networks of the blocks alone that differ, which are faster to look at."""
    pairs = enumerate(zip(old.blocks, new.blocks, strict=True))
    places = [index for index, (before, now) in pairs if before != now]
    first, last = places[0], places[-1]
    return _part(old, first, last), _part(new, first, last)


def _part(spec: ArchSpec, first: int, last: int) -> ArchSpec:
    blocks = spec.blocks[first : last + 1]
    head = replace(spec.head, c_in=blocks[-1].c_out)
    return replace(spec, in_chans=blocks[0].c_in, blocks=blocks, head=head)


def _nearest(spec: ArchSpec, group: WidthGroup, width: int) -> int:
    """The present one at the latest; of two as near, the wider."""
    others = sorted(range(1, group.width), key=lambda other: (abs(other - width), -other))
    near = (other for other in others if abs(other - width) < group.width - width)
    return next((other for other in near if is_allowed(spec, group, other)), group.width)


def _changed(spec: ArchSpec, group: WidthGroup, width: int) -> ArchSpec:
    if width == group.width:
        return spec
    blocks, head = list(spec.blocks), spec.head
    match group.kind:
        case "hidden":
            head = replace(head, hidden=width)
        case "expansion" | "squeeze":
            (index,) = group.blocks
            blocks[index] = _with_inner(blocks[index], group.kind, width)
        case _:
            blocks = _with_outputs(spec, _outputs(spec, group, width))
            head = replace(head, c_in=blocks[-1].c_out)
    _check_layers(spec.blocks, blocks)
    return replace(marked_narrowed(spec), blocks=tuple(blocks), head=head)


def says_narrowed(variant: str) -> bool:
    """True for the variant of a network that was narrowed."""
    return VARIANT in variant.split(", ")


def marked_narrowed(spec: ArchSpec) -> ArchSpec:
    """The network with a label that says it was narrowed."""
    words = [word for word in spec.variant.split(", ") if word not in ("", VARIANT)]
    return replace(spec, variant=", ".join([*words, VARIANT]))


def _with_inner(block: BlockSpec, kind: GroupKind, width: int) -> BlockSpec:
    if kind == "expansion":
        assert isinstance(block, InvertedResidualSpec | BottleneckSpec)
        return replace(block, c_mid=width)
    assert isinstance(block, Attentive)
    assert block.attention is not None
    return replace(block, attention=replace(block.attention, squeezed=width))


def _outputs(spec: ArchSpec, group: WidthGroup, width: int) -> list[int]:
    """Output channels of all blocks, `group` having `width`."""
    outputs: list[int] = []
    lost = 0  # by the output of the block before
    for index, block in enumerate(spec.blocks):
        if index in group.blocks:
            lost = block.c_out - _scaled(block, group.width, width)
        elif not isinstance(block, ShuffleV1Spec) and not _passes(block):
            lost = 0
        outputs.append(block.c_out - lost)
    return outputs


def _scaled(block: BlockSpec, old: int, new: int) -> int:
    """Output channels of a block of a group that goes from `old` to `new`."""
    if block.c_out == old:
        return new
    assert isinstance(block, ShuffleV1Spec)
    return block.c_out * new // old // (4 * block.groups) * 4 * block.groups


def _with_outputs(spec: ArchSpec, outputs: Sequence[int]) -> list[BlockSpec]:
    c_in, blocks = spec.in_chans, list[BlockSpec]()
    for block, c_out in zip(spec.blocks, outputs, strict=True):
        blocks.append(_with_ends(block, c_in, c_out))
        c_in = c_out
    return blocks


def _with_ends(block: BlockSpec, c_in: int, c_out: int) -> BlockSpec:
    match block:
        case InceptionSpec():
            return block
        case PoolSpec():
            return replace(block, c_in=c_in)
        case InvertedResidualSpec():
            c_mid = c_in if block.expand is None else block.c_mid
            changed = replace(block, c_in=c_in, c_mid=c_mid, c_out=c_out)
            return changed if changed.has_skip == block.has_skip else replace(changed, skip=False)
        case _:
            return replace(block, c_in=c_in, c_out=c_out)


def _check_layers(old: Sequence[BlockSpec], new: Sequence[BlockSpec]) -> None:
    for index, (before, now) in enumerate(zip(old, new, strict=True)):
        if (_passes(before), _expands(before)) != (_passes(now), _expands(now)):
            raise ConfigError(
                f"block {index} would lose its expansion or projection, since two of its widths "
                "would be equal."
            )


def _passes(block: BlockSpec) -> bool:
    """Whether its output has the channels of its input, some of them changed or added to."""
    match block:
        case PoolSpec():
            return True
        case InvertedResidualSpec():
            return block.has_skip
        case ResidualSpec():
            return block.projection is None
        case ShuffleV1Spec() | ShuffleV2Spec():
            return block.stride == 1
        case _:
            return False


def _expands(block: BlockSpec) -> bool:
    return isinstance(block, InvertedResidualSpec) and block.expand is not None


def _chains(spec: ArchSpec) -> list[list[int]]:
    """Blocks behind each other whose outputs have the same channels; not those of the input."""
    chains: list[list[int]] = [[]]
    for index, block in enumerate(spec.blocks):
        if not _passes(block):
            chains.append([])
        chains[-1].append(index)
    return chains[1:]


def _is_free(spec: ArchSpec, chain: Sequence[int]) -> bool:
    """Whether the outputs of the chain can be changed without those of other chains."""
    return not any(_is_rigid(block) or _is_grouped(block) for block in _meeting(spec, chain))


def _meeting(spec: ArchSpec, chain: Sequence[int]) -> tuple[BlockSpec, ...]:
    """The blocks of a chain and the one that reads its last output."""
    return spec.blocks[chain[0] : chain[-1] + 2]


def _is_rigid(block: BlockSpec) -> bool:
    return isinstance(block, InceptionSpec) or (isinstance(block, ConvSpec) and block.groups > 1)


def _is_grouped(block: BlockSpec) -> bool:
    return isinstance(block, ShuffleV1Spec) and block.groups > 1


def _output(spec: ArchSpec, chain: Sequence[int]) -> WidthGroup:
    first, last = chain[0], chain[-1]
    block = spec.blocks[first]
    return WidthGroup(
        name=f"blocks.{first}{f'-{last}' if last > first else ''}.output",
        kind="stage" if isinstance(block, Shuffle) else "bottleneck",
        width=block.c_out,
        blocks=tuple(chain),
    )


def _joint(spec: ArchSpec) -> tuple[WidthGroup, ...]:
    """All stages of a ShuffleNetV1 whose convolutions have groups; none of any other network."""
    units = [index for index, block in enumerate(spec.blocks) if isinstance(block, ShuffleV1Spec)]
    grouped = any(_is_grouped(spec.blocks[index]) for index in units)
    if not grouped or any(_is_rigid(block) for block in _meeting(spec, units)):
        return ()
    width = spec.blocks[units[0]].c_out
    name = f"blocks.{units[0]}-{units[-1]}.output"
    return (WidthGroup(name=name, kind="stages", width=width, blocks=tuple(units)),)


def _inner(index: int, block: BlockSpec) -> list[WidthGroup]:
    """What a block has inside."""
    groups: list[WidthGroup] = []
    place, blocks = f"blocks.{index}", (index,)
    if _expands(block) or isinstance(block, BottleneckSpec):
        assert isinstance(block, InvertedResidualSpec | BottleneckSpec)
        name = f"{place}.expansion"
        groups.append(WidthGroup(name=name, kind="expansion", width=block.c_mid, blocks=blocks))
    if isinstance(block, Attentive) and block.attention is not None:
        name, width = f"{place}.squeeze", block.attention.squeezed
        groups.append(WidthGroup(name=name, kind="squeeze", width=width, blocks=blocks))
    return groups
