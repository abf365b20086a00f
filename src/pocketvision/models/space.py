"""A search space as data: which blocks a stage may be made of, how many, how wide, for which input.

Source: Howard et al., Searching for MobileNetV3, section 4 and Tables 1 and 2; the choices of
kernel, expansion and depth are those of Cai et al., Once-for-All, section 4.1.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, get_args

from pocketvision.errors import ConfigError, at_least, choice, in_range
from pocketvision.models.arch import MIN_RESOLUTION, ArchSpec, BlockSpec, check_input
from pocketvision.nn.attention import SqueezeExciteSpec
from pocketvision.nn.blocks import InvertedResidualSpec
from pocketvision.nn.conv import Act, ConvSpec, check_kernel_and_stride, make_divisible
from pocketvision.nn.heads import ClassifierSpec

DEPTHS, KERNELS, EXPANSIONS = (2, 3, 4), (3, 5, 7), (3.0, 4.0, 6.0)
BOTH: tuple[Act, ...] = ("relu", "hswish")
MAX_DEPTH, MAX_EXPANSION = 12, 12.0


@dataclass(frozen=True, kw_only=True, slots=True)
class StageSpace:
    """Inverted residuals of one output width; the first has the stride.

    c_out: at multiplier 1. stride: 1 or 2. depths: how many blocks. For each block: kernels, odd;
    expansions, c_mid / c_in, 1 for none; attention: without or with squeeze-and-excitation; acts.

    Raises: ConfigError: a field that is empty, or holds something else.
    """

    c_out: int
    stride: int
    depths: tuple[int, ...] = DEPTHS
    kernels: tuple[int, ...] = KERNELS
    expansions: tuple[float, ...] = EXPANSIONS
    attention: tuple[bool, ...] = (False, True)
    acts: tuple[Act, ...] = BOTH

    def __post_init__(self) -> None:
        at_least("c_out", self.c_out, 1)
        for name in ("depths", "kernels", "expansions", "attention", "acts"):
            _check_choices(name, getattr(self, name))
        for depth in self.depths:
            in_range("depths", depth, 1, MAX_DEPTH)
        for kernel in self.kernels:
            check_kernel_and_stride(kernel, self.stride)
        for expansion in self.expansions:
            in_range("expansions", expansion, 1.0, MAX_EXPANSION)
        for act in self.acts:
            choice("acts", act, get_args(Act))

    @property
    def blocks(self) -> int:
        """How many different blocks there are."""
        choices = (self.kernels, self.expansions, self.attention, self.acts)
        return math.prod(len(values) for values in choices)


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockChoice:
    """One block of a member."""

    kernel: int
    expansion: float
    attention: bool
    act: Act

    @property
    def described(self) -> str:
        """'k5 e6 SE hswish' for people."""
        attention = " SE" if self.attention else ""
        return f"k{self.kernel} e{self.expansion:g}{attention} {self.act}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One network of a space: multiplier, input side, and the choices of every stage. act: of the
    stem, the last convolution and the hidden layer.
    """

    width: float
    resolution: int
    stages: tuple[tuple[BlockChoice, ...], ...]
    act: Act = "hswish"

    @property
    def described(self) -> str:
        """'x1 @96 hswish: k3 e1 relu | k5 e6 SE hswish, k3 e4 relu | ...', a stage between bars."""
        stages = (", ".join(block.described for block in stage) for stage in self.stages)
        return f"x{self.width:g} @{self.resolution} {self.act}: {' | '.join(stages)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSpace:
    """Networks of the form of MobileNetV3: stem, stages, a last 1x1 convolution, a hidden layer; or
    of that of V2, which has no hidden layer.

    family: the registry's name of the network whose form they have, and whose published accuracies
    tell what to expect of them.
    stem, last, hidden: their channels at multiplier 1; hidden None: there is no such layer. acts:
    that all three may have. widths: multipliers of all channels but those of the hidden layer.
    resolutions: input sides, pixels.
    multiple: of all channels, what the device likes.

    Raises: ConfigError: a field outside what is allowed.
    """

    name: str
    family: str = "mobilenet_v3_large"
    stem: int = 16
    stages: tuple[StageSpace, ...]
    last: int
    hidden: int | None = None
    acts: tuple[Act, ...] = ("hswish",)
    widths: tuple[float, ...] = (1.0,)
    resolutions: tuple[int, ...]
    multiple: int = 8

    def __post_init__(self) -> None:
        for name in ("stem", "last", "hidden", "multiple"):
            if getattr(self, name) is not None:
                at_least(name, getattr(self, name), 1)
        for name in ("acts", "widths", "resolutions"):
            _check_choices(name, getattr(self, name))
        for act in self.acts:
            choice("acts", act, get_args(Act))
        if not self.stages:
            raise ConfigError(f"{self.name} has no stages; expected at least one.")
        for width in self.widths:
            check_input(width=width, in_chans=1)
        stride = 2 * math.prod(stage.stride for stage in self.stages)
        for resolution in self.resolutions:
            at_least("resolutions", resolution, max(stride, MIN_RESOLUTION))

    @property
    def members(self) -> int:
        """How many networks there are."""
        stages: list[int] = [
            sum(stage.blocks**depth for depth in stage.depths) for stage in self.stages
        ]
        others = (self.acts, self.widths, self.resolutions)
        return int(math.prod(stages)) * math.prod(len(values) for values in others)

    def spec(self, member: Member, num_classes: int, in_chans: int = 3) -> ArchSpec:
        """The network of a member. Raises: ConfigError: a member of another space."""
        self.check(member)
        c_in = self._channels(self.stem, member.width)
        blocks: list[BlockSpec] = [ConvSpec(c_in=in_chans, c_out=c_in, stride=2, act=member.act)]
        for stage, choices in zip(self.stages, member.stages, strict=True):
            c_out = self._channels(stage.c_out, member.width)
            for index, chosen in enumerate(choices):
                stride = 1 if index else stage.stride
                blocks.append(self._block(chosen, c_in, c_out, stride))
                c_in = c_out
        last = self._channels(self.last, member.width)
        blocks.append(ConvSpec(c_in=c_in, c_out=last, kernel=1, act=member.act))
        return ArchSpec(
            name=self.family,
            variant=f"member of {self.name}",
            width=member.width,
            in_chans=in_chans,
            resolution=member.resolution,
            blocks=tuple(blocks),
            head=ClassifierSpec(
                c_in=last,
                num_classes=num_classes,
                hidden=self.hidden,
                act="none" if self.hidden is None else member.act,
                dropout=0.2,
            ),
        )

    def sample(self, generator: random.Random) -> Member:
        """A member drawn evenly: first depths, then every block's choices."""
        return Member(
            width=generator.choice(self.widths),
            resolution=generator.choice(self.resolutions),
            stages=tuple(
                tuple(sample_block(stage, generator) for _ in range(generator.choice(stage.depths)))
                for stage in self.stages
            ),
            act=generator.choice(self.acts),
        )

    def smallest(self) -> Member:
        """The fewest, smallest blocks at the smallest multiplier and input."""
        return self._extreme(min)

    def largest(self) -> Member:
        """The most, largest blocks at the largest multiplier and input."""
        return self._extreme(max)

    def covering(self) -> list[Member]:
        """A few members in which every block of the space occurs, wherever it may."""
        rounds = max(len(self.acts), *(stage.blocks for stage in self.stages))
        return [
            Member(
                width=width,
                resolution=resolution,
                stages=tuple(
                    (block_at(stage, number),) * max(stage.depths) for stage in self.stages
                ),
                act=self.acts[number % len(self.acts)],
            )
            for width in self.widths
            for resolution in self.resolutions
            for number in range(rounds)
        ]

    def check(self, member: Member) -> None:
        """Raises: ConfigError: a choice that is not in this space; the message names it."""
        _check_in("width", member.width, self.widths)
        _check_in("resolution", member.resolution, self.resolutions)
        _check_in("the activation of the ends", member.act, self.acts)
        if len(member.stages) != len(self.stages):
            raise ConfigError(
                f"the member has {len(member.stages)} stages, {self.name} has {len(self.stages)}."
            )
        for number, (stage, choices) in enumerate(zip(self.stages, member.stages, strict=True)):
            _check_in(f"the depth of stage {number}", len(choices), stage.depths)
            for chosen in choices:
                _check_in(f"a kernel of stage {number}", chosen.kernel, stage.kernels)
                _check_in(f"an expansion of stage {number}", chosen.expansion, stage.expansions)
                _check_in(f"attention in stage {number}", chosen.attention, stage.attention)
                _check_in(f"an activation of stage {number}", chosen.act, stage.acts)

    def _channels(self, channels: int, width: float) -> int:
        return make_divisible(channels * width, self.multiple)

    def _block(
        self, chosen: BlockChoice, c_in: int, c_out: int, stride: int
    ) -> InvertedResidualSpec:
        expanded = make_divisible(chosen.expansion * c_in, self.multiple)
        c_mid = c_in if chosen.expansion == 1 else expanded
        return InvertedResidualSpec(
            c_in=c_in,
            c_mid=c_mid,
            c_out=c_out,
            kernel=chosen.kernel,
            stride=stride,
            act=chosen.act,
            attention=SqueezeExciteSpec.for_channels(c_mid) if chosen.attention else None,
            skip=stride == 1,
        )

    def _extreme(self, pick: Callable[[Iterable[Any]], Any]) -> Member:
        return Member(
            width=pick(self.widths),
            resolution=pick(self.resolutions),
            stages=tuple(
                pick(stage.depths)
                * (
                    BlockChoice(
                        kernel=pick(stage.kernels),
                        expansion=pick(stage.expansions),
                        attention=pick(stage.attention),
                        act=stage.acts[0],
                    ),
                )
                for stage in self.stages
            ),
            act=self.acts[0],
        )


def block_at(stage: StageSpace, number: int) -> BlockChoice:
    """One of a stage's blocks by number, from 0; it goes round behind the last."""
    choices = itertools.product(stage.kernels, stage.expansions, stage.attention, stage.acts)
    kernel, expansion, attention, act = list(choices)[number % stage.blocks]
    return BlockChoice(kernel=kernel, expansion=expansion, attention=attention, act=act)


def sample_block(stage: StageSpace, generator: random.Random) -> BlockChoice:
    """A block drawn evenly from those of a stage."""
    return BlockChoice(
        kernel=generator.choice(stage.kernels),
        expansion=generator.choice(stage.expansions),
        attention=generator.choice(stage.attention),
        act=generator.choice(stage.acts),
    )


def _check_choices(name: str, values: tuple[object, ...]) -> None:
    if not values:
        raise ConfigError(f"{name} is empty, so the space has no members; give at least one.")
    if len(set(values)) < len(values):
        raise ConfigError(f"{name}={list(values)} names a choice twice.")


def _check_in(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} is {value}; the space has {', '.join(map(str, allowed))}.")
