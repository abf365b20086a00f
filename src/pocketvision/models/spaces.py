"""The search spaces that are built in, those that users write, and which member a network is."""

from __future__ import annotations

import itertools
import json
import tomllib
from dataclasses import replace
from functools import partial
from pathlib import Path

from pocketvision.errors import ConfigError, choice
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec, BlockSpec
from pocketvision.models.space import (
    BOTH,
    EXPANSIONS,
    BlockChoice,
    Member,
    SearchSpace,
    StageSpace,
)
from pocketvision.nn.blocks import InvertedResidualSpec
from pocketvision.nn.conv import DEFAULT_NORM, Act, ConvSpec, make_divisible
from pocketvision.storage import from_json

RELU: tuple[Act, ...] = ("relu",)
RELU6: tuple[Act, ...] = ("relu6",)
RESOLUTIONS = (96, 128, 160, 192, 224)

V3_LARGE = SearchSpace(
    name="v3_large",
    stages=(
        StageSpace(
            c_out=16, stride=1, depths=(1,), expansions=(1.0,), attention=(False,), acts=RELU
        ),
        StageSpace(c_out=24, stride=2),
        StageSpace(c_out=40, stride=2),
        # MobileNetV3-Large has 200 and 184 channels inside blocks of 80.
        StageSpace(c_out=80, stride=2, expansions=(2.3, 2.5, *EXPANSIONS)),
        StageSpace(c_out=112, stride=1),
        StageSpace(c_out=160, stride=2),
    ),
    last=960,
    hidden=1280,
    acts=BOTH,
    resolutions=RESOLUTIONS,
)

V3_SMALL = SearchSpace(
    name="v3_small",
    family="mobilenet_v3_small",
    stages=(
        StageSpace(c_out=16, stride=2, depths=(1,), expansions=(1.0,), acts=RELU),
        # MobileNetV3-Small has 72 channels inside a block of 16, and 88 inside one of 24.
        StageSpace(c_out=24, stride=2, expansions=(3.0, 3.67, 4.5, 6.0)),
        StageSpace(c_out=40, stride=2),
        StageSpace(c_out=48, stride=1),
        StageSpace(c_out=96, stride=2),
    ),
    last=576,
    hidden=1024,
    acts=BOTH,
    resolutions=RESOLUTIONS,
)

_V2 = partial(
    StageSpace, kernels=(3,), expansions=(2.0, 3.0, 4.0, 6.0), attention=(False,), acts=RELU6
)
# MobileNetV2 is the largest member, so that all others are slices of its weights.
V2 = SearchSpace(
    name="v2",
    family="mobilenet_v2",
    stem=32,
    stages=(
        _V2(c_out=16, stride=1, depths=(1,), expansions=(1.0,)),
        _V2(c_out=24, stride=2, depths=(1, 2)),
        _V2(c_out=32, stride=2, depths=(1, 2, 3)),
        _V2(c_out=64, stride=2, depths=(1, 2, 3, 4)),
        _V2(c_out=96, stride=1, depths=(1, 2, 3)),
        _V2(c_out=160, stride=2, depths=(1, 2, 3)),
        _V2(c_out=320, stride=1, depths=(1,)),
    ),
    last=1280,
    acts=RELU6,
    resolutions=RESOLUTIONS,
)

SPACES = {space.name: space for space in (V3_LARGE, V3_SMALL, V2)}


def tightened(space: SearchSpace) -> SearchSpace:
    """The space without kernels and depths that the network of its family has no use for, which
    cost most to train. In every stage, two depths stay at least.

    The network of its family, if it is a member, stays one.
    """
    usual = registry.spec(space.family, resolution=max(RESOLUTIONS))
    plain = replace(space, widths=(1.0,), resolutions=(usual.resolution,))
    kept = member_of(plain, usual)
    if kept is None:
        return space
    largest_kernel = max(block.kernel for stage in kept.stages for block in stage)
    stages = tuple(
        replace(
            stage,
            kernels=tuple(kernel for kernel in stage.kernels if kernel <= largest_kernel),
            depths=tuple(
                depth
                for depth in stage.depths
                if depth <= max(len(blocks), *sorted(stage.depths)[:2])
            ),
        )
        for stage, blocks in zip(space.stages, kept.stages, strict=True)
    )
    return replace(space, name=f"{space.name}_tightened", stages=stages)


def resized(space: SearchSpace, name: str) -> SearchSpace:
    """The space with attention and activations as the network of that name has them in each stage:
    depths, expansions and kernels, which decide how much work there is, are left to choose.

    The network, if it is a member, stays one; if it is none, the space stays as it is.
    """
    width, resolution = space.widths[0], space.resolutions[0]  # the same blocks at all of them
    kept = like(space, name, width, resolution)
    if kept is None:
        return space
    stages = tuple(
        replace(
            stage,
            attention=tuple(dict.fromkeys(block.attention for block in blocks)),
            acts=tuple(dict.fromkeys(block.act for block in blocks)),
        )
        for stage, blocks in zip(space.stages, kept.stages, strict=True)
    )
    return replace(space, name=f"{space.name}_resized", stages=stages, acts=(kept.act,))


def familiar(space: SearchSpace) -> list[Member]:
    """Members like the network of the space's family at every multiplier and input, and like its
    minimalistic form: with the smallest kernels, plain activations and no attention.
    """
    found: list[Member] = []
    for width, resolution in itertools.product(space.widths, space.resolutions):
        scaled = like(space, space.family, width, resolution)
        if scaled is not None:
            found += dict.fromkeys((scaled, _minimalistic(space, scaled)))
    return found


def like(space: SearchSpace, name: str, width: float, resolution: int) -> Member | None:
    """The member like the network of that name at this multiplier and input, but for how channels
    between them are rounded; None where the space does not have it.
    """
    unscaled = replace(space, widths=(1.0,), resolutions=(resolution,))
    usual = member_of(unscaled, registry.spec(name, resolution=resolution))
    if usual is None or width not in space.widths or resolution not in space.resolutions:
        return None
    return replace(usual, width=width)


def _minimalistic(space: SearchSpace, member: Member) -> Member:
    stages = tuple(
        tuple(
            replace(
                block,
                kernel=min(stage.kernels),
                attention=block.attention and False not in stage.attention,
                act="relu" if "relu" in stage.acts else block.act,
            )
            for block in blocks
        )
        for stage, blocks in zip(space.stages, member.stages, strict=True)
    )
    return replace(member, stages=stages, act="relu" if "relu" in space.acts else member.act)


def spaces_of(spec: ArchSpec) -> list[str]:
    """Names of the spaces that are built in and have a network, whatever its classes and input."""
    return [name for name, space in SPACES.items() if member_at_any_side(space, spec) is not None]


def member_at_any_side(space: SearchSpace, spec: ArchSpec) -> Member | None:
    """The member of the same blocks, whatever their classes and input sides; None: there is none.

    Constants of batch norms do not matter.
    """
    plain = replace(spec, blocks=tuple(map(_with_usual_norm, spec.blocks)))
    sides = (plain.at(side) for side in space.resolutions)
    return next((m for one in sides if (m := member_of(space, one)) is not None), None)


def _with_usual_norm(block: BlockSpec) -> BlockSpec:
    if isinstance(block, ConvSpec | InvertedResidualSpec) and block.norm is not None:
        return replace(block, norm=DEFAULT_NORM)
    return block


def find_space(name: str) -> SearchSpace:
    """The space of that name, or the one that a TOML file with its fields describes.

    Raises: ConfigError: no such name or file. ArtefactError: a file that describes no space.
    """
    if name in SPACES:
        return SPACES[name]
    path = Path(name)
    if path.suffix != ".toml":
        raise ConfigError(
            f"space={name!r} is not known; expected one of {', '.join(SPACES)}, or a .toml file."
        )
    try:
        fields = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"space={name!r} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"space={name!r} is not TOML: {error}.") from error
    space = from_json(SearchSpace, json.dumps(fields, default=str), source=name)
    choice("family", space.family, registry.MODELS)
    return space


def member_of(space: SearchSpace, spec: ArchSpec) -> Member | None:
    """The member that computes what `spec` does; None where the space does not have it."""
    inner = [block for block in spec.blocks if isinstance(block, InvertedResidualSpec)]
    last = spec.blocks[-1]
    if not isinstance(last, ConvSpec):
        return None
    if spec.width not in space.widths or spec.resolution not in space.resolutions:
        return None
    stages = []
    for stage in space.stages:
        c_out = make_divisible(stage.c_out * spec.width, space.multiple)
        choices: list[BlockChoice] = []
        while inner and inner[0].c_out == c_out and (inner[0].stride == 1 or not choices):
            chosen = _chosen(space, stage, inner.pop(0))
            if chosen is None:
                return None
            choices.append(chosen)
        stages.append(tuple(choices))
    member = Member(
        width=spec.width,
        resolution=spec.resolution,
        stages=tuple(stages),
        act=last.act,
    )
    try:
        found = space.spec(member, spec.num_classes, spec.in_chans)
    except ConfigError:
        return None
    same = found.head == spec.head and found.blocks == tuple(map(_as_in_spaces, spec.blocks))
    return member if same else None


def _as_in_spaces(block: BlockSpec) -> BlockSpec:
    """The block as spaces write it: without a shortcut past a stride, which is none anywhere."""
    if isinstance(block, InvertedResidualSpec) and block.stride > 1:
        return replace(block, skip=False)
    return block


def _chosen(
    space: SearchSpace, stage: StageSpace, block: InvertedResidualSpec
) -> BlockChoice | None:
    for expansion in stage.expansions:
        c_mid = make_divisible(expansion * block.c_in, space.multiple)
        if block.c_mid == (block.c_in if expansion == 1 else c_mid):
            return BlockChoice(
                kernel=block.kernel,
                expansion=expansion,
                attention=block.attention is not None,
                act=block.act,
            )
    return None
