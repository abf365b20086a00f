"""Units of the ShuffleNets: grouped 1x1 convolutions, and a shuffle that lets the groups talk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from pocketvision.errors import ConfigError, at_least
from pocketvision.nn.attention import Attention
from pocketvision.nn.conv import DEFAULT_NORM, BatchNormSpec, ConvSpec, check_kernel_and_stride
from pocketvision.nn.layer import Layer, Size
from pocketvision.nn.pool import PoolSpec


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Deal the channels out anew: view them as (g, n), transpose, flatten.

    Shape:  (N, g * n, H, W) -> same; channel i * n + j goes to place j * g + i.
    Raises: ConfigError: groups that do not divide the channels.
    Source: Zhang et al., ShuffleNet, section 3.1 and Fig. 1.
    """
    channels = x.shape[1]
    check_groups("channels", channels, groups)
    if torch.compiler.is_exporting():  # reshapes would write height and width into the file
        order = torch.arange(channels, device=x.device).view(groups, -1).T.flatten()
        return x.index_select(1, order)
    return functional.channel_shuffle(x, groups)


def check_groups(name: str, channels: int, groups: int) -> None:
    """Raises: ConfigError: groups below 1, or that do not divide the channels called `name`."""
    at_least("groups", groups, 1)
    if channels % groups:
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        raise ConfigError(
            f"groups={groups} does not divide {name}={channels}; expected one of {divisors}, or "
            f"{name}={-(-channels // groups) * groups}."
        )


class ChannelShuffle(nn.Module):
    """`channel_shuffle` as a module."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return channel_shuffle(x, self.groups)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShuffleV1Spec:
    """A grouped 1x1 convolution, shuffle, a depthwise one, and a linear grouped 1x1 convolution.

    stride: 1 adds the branch to the input; 2 puts it behind the input's means (3x3, stride 2), so
    that it gives c_out - c_in channels. Inside are c_out / 4 channels.
    groups: g. first_grouped: False leaves the first convolution whole, as where the unit follows
    the stem. shuffle: False cuts the groups off from each other (Table 3).
    attention: on the branch, before the sum or concatenation.

    Raises: ConfigError: a field outside what is allowed; widths that do not divide into groups.
    """

    kind: Literal["shuffle_v1"] = "shuffle_v1"
    c_in: int
    c_out: int
    groups: int
    stride: int = 1
    first_grouped: bool = True
    shuffle: bool = True
    attention: Attention | None = None
    norm: BatchNormSpec = DEFAULT_NORM

    def __post_init__(self) -> None:
        check_kernel_and_stride(3, self.stride)
        at_least("c_in", self.c_in, 1)
        check_groups("c_in", self.c_in, self.groups)
        if self.c_out < 1 or self.c_out % (4 * self.groups):
            up = max(1, -(-self.c_out // (4 * self.groups))) * 4 * self.groups
            raise ConfigError(
                f"c_out={self.c_out} does not divide into groups={self.groups}; expected a "
                f"multiple of 4 x {self.groups}, such as {up}."
            )
        if self.stride == 1:
            _check_same(self.c_in, self.c_out)
        elif self.c_out <= self.c_in:
            raise ConfigError(
                f"c_out={self.c_out} leaves the branch no channels beside c_in={self.c_in}; "
                "expected more than c_in at stride 2."
            )

    @property
    def attention_channels(self) -> int:
        """Channels that attention sees: those of the branch."""
        return self.c_out if self.stride == 1 else self.c_out - self.c_in

    @property
    def c_mid(self) -> int:
        """Channels inside."""
        return self.c_out // 4

    @property
    def shortcut(self) -> PoolSpec:
        """What the branch stands beside at stride 2."""
        return PoolSpec(c_in=self.c_in, pooling="mean", stride=self.stride)

    @property
    def reduce(self) -> ConvSpec:
        """The first 1x1 convolution."""
        groups = self.groups if self.first_grouped else 1
        return _pointwise(self.c_in, self.c_mid, self.norm, groups)

    @property
    def depthwise(self) -> ConvSpec:
        """The convolution within channels."""
        return _depthwise(self.c_mid, self.stride, self.norm)

    @property
    def expand(self) -> ConvSpec:
        """The last 1x1 convolution; the activation comes after the sum or concatenation."""
        return ConvSpec(
            c_in=self.c_mid,
            c_out=self.attention_channels,
            kernel=1,
            groups=self.groups,
            act="none",
            norm=self.norm,
        )

    def build(self) -> nn.Module:
        """The module, newly initialised."""
        return ShuffleV1(self)

    def out_size(self, size: Size) -> Size:
        """Height and width of the output."""
        return self.depthwise.out_size(size)

    def layers(self, size: Size) -> tuple[Layer, ...]:
        """All convolutions as arithmetic, in order, for an input of height x width."""
        out = self.out_size(size)
        kept = self.c_in * out[0] * out[1]  # the input, or its means
        layers = (
            self.reduce.layer(size, kept=0 if self.stride == 1 else kept),
            self.depthwise.layer(size, kept=kept),
            self.expand.layer(out, kept=kept),
        )
        channels = self.attention_channels
        return layers + (self.attention.layers(channels, out, kept=kept) if self.attention else ())


class ShuffleV1(nn.Module):
    """ShuffleNet unit.

    Shape:  (N, c_in, H, W) float -> (N, c_out, ceil(H / stride), ceil(W / stride)).
    Source: Zhang et al., ShuffleNet, Fig. 2 (b) for stride 1, (c) for stride 2; with attention: Hu
            et al., Squeeze-and-Excitation Networks, Table 3.
    """

    def __init__(self, spec: ShuffleV1Spec) -> None:
        super().__init__()
        self.adds = spec.stride == 1
        self.shortcut = nn.Identity() if self.adds else spec.shortcut.build()
        self.reduce = spec.reduce.build()
        self.shuffle = ChannelShuffle(spec.groups) if spec.shuffle else nn.Identity()
        self.depthwise = spec.depthwise.build()
        self.expand = spec.expand.build()
        channels = spec.attention_channels
        self.attention = spec.attention.build(channels) if spec.attention else nn.Identity()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut(x)
        branch = self.attention(self.expand(self.depthwise(self.shuffle(self.reduce(x)))))
        out = shortcut + branch if self.adds else torch.cat([shortcut, branch], 1)
        activated: Tensor = self.act(out)
        return activated


@dataclass(frozen=True, kw_only=True, slots=True)
class ShuffleV2Spec:
    """Two halves of the channels: one passes, the other goes through three convolutions; shuffle.

    stride: 1 splits the input into halves; 2 gives both branches all of it, and the one that would
    pass a depthwise and a 1x1 convolution.
    attention: on the output of the branch with three convolutions.

    Raises: ConfigError: a field outside what is allowed; channels that cannot be halved.
    """

    kind: Literal["shuffle_v2"] = "shuffle_v2"
    c_in: int
    c_out: int
    stride: int = 1
    attention: Attention | None = None
    norm: BatchNormSpec = DEFAULT_NORM

    def __post_init__(self) -> None:
        check_kernel_and_stride(3, self.stride)
        for name in ("c_in", "c_out"):
            at_least(name, getattr(self, name), 1)
        if self.c_out % 2:
            raise ConfigError(
                f"c_out={self.c_out} is odd and cannot be split into halves; expected an even "
                f"number such as {self.c_out + 1}."
            )
        if self.stride == 1:
            _check_same(self.c_in, self.c_out)

    @property
    def attention_channels(self) -> int:
        """Channels that attention sees: those of the branch."""
        return self.c_out // 2

    @property
    def shortcut(self) -> tuple[ConvSpec, ...]:
        """Convolutions of the half that passes; none at stride 1."""
        if self.stride == 1:
            return ()
        return (
            _depthwise(self.c_in, self.stride, self.norm),
            _pointwise(self.c_in, self.c_out // 2, self.norm),
        )

    @property
    def branch(self) -> tuple[ConvSpec, ...]:
        """Convolutions of the other half."""
        half = self.c_out // 2
        return (
            _pointwise(half if self.stride == 1 else self.c_in, half, self.norm),
            _depthwise(half, self.stride, self.norm),
            _pointwise(half, half, self.norm),
        )

    def build(self) -> nn.Module:
        """The module, newly initialised."""
        return ShuffleV2(self)

    def out_size(self, size: Size) -> Size:
        """Height and width of the output."""
        return self.branch[1].out_size(size)

    def layers(self, size: Size) -> tuple[Layer, ...]:
        """All convolutions as arithmetic, in order, for an input of height x width."""
        out, half = self.out_size(size), self.c_out // 2
        passed = half * out[0] * out[1]
        layers: tuple[Layer, ...] = ()
        if self.shortcut:  # the input waits for the branch
            waiting = self.c_in * size[0] * size[1]
            depthwise, pointwise = self.shortcut
            layers = (depthwise.layer(size), pointwise.layer(out, kept=waiting))
        expand, depthwise, project = self.branch
        layers += (
            expand.layer(size, kept=passed),
            depthwise.layer(size, kept=passed),
            project.layer(out, kept=passed),
        )
        return layers + (self.attention.layers(half, out, kept=passed) if self.attention else ())


class ShuffleV2(nn.Module):
    """ShuffleNetV2 unit.

    Shape:  (N, c_in, H, W) float -> (N, c_out, ceil(H / stride), ceil(W / stride)).
    Source: Ma et al., ShuffleNet V2, Fig. 3 (c) for stride 1, (d) for 2; with attention: Table 8.
    """

    def __init__(self, spec: ShuffleV2Spec) -> None:
        super().__init__()
        self.splits = spec.stride == 1
        self.shortcut = nn.Sequential(*(conv.build() for conv in spec.shortcut))
        self.branch = nn.Sequential(*(conv.build() for conv in spec.branch))
        if spec.attention:
            self.branch.append(spec.attention.build(spec.attention_channels))

    def forward(self, x: Tensor) -> Tensor:
        passed, rest = x.chunk(2, 1) if self.splits else (self.shortcut(x), x)
        return channel_shuffle(torch.cat([passed, self.branch(rest)], 1), 2)


def _pointwise(c_in: int, c_out: int, norm: BatchNormSpec, groups: int = 1) -> ConvSpec:
    return ConvSpec(c_in=c_in, c_out=c_out, kernel=1, groups=groups, act="relu", norm=norm)


def _depthwise(channels: int, stride: int, norm: BatchNormSpec) -> ConvSpec:
    """Without activation, unlike in the MobileNets."""
    return ConvSpec(
        c_in=channels, c_out=channels, groups=channels, stride=stride, act="none", norm=norm
    )


def _check_same(c_in: int, c_out: int) -> None:
    if c_in != c_out:
        raise ConfigError(
            f"c_out={c_out} differs from c_in={c_in}; at stride 1 expected c_out={c_in}."
        )
