"""Blocks of the ResNets, with attention in any of the places that the SENet paper tries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from pocketvision.errors import at_least, choice
from pocketvision.nn.attention import Attention
from pocketvision.nn.conv import DEFAULT_NORM, BatchNormSpec, ConvSpec, check_kernel_and_stride
from pocketvision.nn.layer import Layer, Size

Position = Literal["standard", "pre", "post", "identity"]
StrideAt = Literal["3x3", "1x1"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ResidualSpec(ABC):
    """What both blocks share: relu(branch(x) + shortcut(x)), and attention on one of the paths.

    stride: 1 or 2. position: where attention is: on the branch before the sum ("standard"), before
    the branch ("pre"), after sum and ReLU ("post"), or on the shortcut ("identity").

    Raises: ConfigError: a field outside what is allowed.
    """

    c_in: int
    c_out: int
    stride: int = 1
    attention: Attention | None = None
    position: Position = "standard"
    norm: BatchNormSpec = DEFAULT_NORM

    def __post_init__(self) -> None:
        for name in ("c_in", "c_out"):
            at_least(name, getattr(self, name), 1)
        check_kernel_and_stride(1, self.stride)
        choice("position", self.position, get_args(Position))

    @property
    @abstractmethod
    def branch(self) -> tuple[ConvSpec, ...]:
        """The convolutions in order; the last is linear."""

    @property
    def projection(self) -> ConvSpec | None:
        """The convolution on the shortcut; None where input and output have the same shape."""
        if self.stride == 1 and self.c_in == self.c_out:
            return None
        return ConvSpec(
            c_in=self.c_in,
            c_out=self.c_out,
            kernel=1,
            stride=self.stride,
            act="none",
            norm=self.norm,
        )

    @property
    def attention_channels(self) -> int:
        """Channels that attention sees."""
        return self.c_in if self.position == "pre" else self.c_out

    def build(self) -> nn.Module:
        """The module, newly initialised."""
        return Residual(self)

    def out_size(self, size: Size) -> Size:
        """Height and width of the output: the input's divided by the stride, rounded up."""
        return -(-size[0] // self.stride), -(-size[1] // self.stride)

    def layers(self, size: Size) -> tuple[Layer, ...]:
        """All convolutions as arithmetic, in order, for an input of height x width."""
        out = self.out_size(size)
        x, y = self.c_in * size[0] * size[1], self.c_out * out[0] * out[1]
        layers = self._attention_layers("pre", size)
        rescaled, between = bool(layers), size
        for index, conv in enumerate(
            self.branch
        ):  # the first reads x, unless attention rescaled it
            layers += (conv.layer(between, kept=x if index or rescaled else 0),)
            between = conv.out_size(between)
        layers += self._attention_layers("standard", out, kept=x)
        if self.projection:
            layers += (self.projection.layer(size, kept=y),)
        layers += self._attention_layers("identity", out, kept=y)
        return layers + self._attention_layers("post", out)

    def _attention_layers(
        self, position: Position, size: Size, *, kept: int = 0
    ) -> tuple[Layer, ...]:
        """None unless attention is at `position`."""
        if self.attention is None or self.position != position:
            return ()
        return self.attention.layers(self.attention_channels, size, kept=kept)


@dataclass(frozen=True, kw_only=True, slots=True)
class BasicResidualSpec(ResidualSpec):
    """Two 3x3 convolutions, the first with the stride, around them a shortcut.

    Raises: ConfigError: a field outside what is allowed.
    """

    kind: Literal["basic_residual"] = "basic_residual"

    @property
    def branch(self) -> tuple[ConvSpec, ...]:
        """3x3, 3x3."""
        c_in, c_out, norm = self.c_in, self.c_out, self.norm
        return (
            ConvSpec(c_in=c_in, c_out=c_out, stride=self.stride, act="relu", norm=norm),
            ConvSpec(c_in=c_out, c_out=c_out, act="none", norm=norm),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class BottleneckSpec(ResidualSpec):
    """A 1x1, a 3x3 and a 1x1 convolution, around them a shortcut.

    c_mid: channels of the 3x3 convolution. stride_at: the convolution with the stride: the 3x3, as
    torchvision and timm have it, or the first 1x1, as in the papers.

    Raises: ConfigError: a field outside what is allowed.
    """

    kind: Literal["bottleneck"] = "bottleneck"
    c_mid: int
    stride_at: StrideAt = "3x3"

    def __post_init__(self) -> None:
        ResidualSpec.__post_init__(self)
        at_least("c_mid", self.c_mid, 1)
        choice("stride_at", self.stride_at, get_args(StrideAt))

    @property
    def branch(self) -> tuple[ConvSpec, ...]:
        """1x1, 3x3, 1x1."""
        c_mid, norm = self.c_mid, self.norm
        first, second = (self.stride, 1) if self.stride_at == "1x1" else (1, self.stride)
        return (
            ConvSpec(c_in=self.c_in, c_out=c_mid, kernel=1, stride=first, act="relu", norm=norm),
            ConvSpec(c_in=c_mid, c_out=c_mid, stride=second, act="relu", norm=norm),
            ConvSpec(c_in=c_mid, c_out=self.c_out, kernel=1, act="none", norm=norm),
        )


class Residual(nn.Module):
    """Residual block, with attention where its specification says.

    Shape:  (N, c_in, H, W) float -> (N, c_out, ceil(H / stride), ceil(W / stride)).
    Source: He et al., Deep Residual Learning, Fig. 5 and eq. 2 (projections where shapes differ,
            option B); attention: Hu et al., Squeeze-and-Excitation Networks, Fig. 3 and 5; Woo et
            al., CBAM, Fig. 3.
    """

    def __init__(self, spec: ResidualSpec) -> None:
        super().__init__()
        self.position = spec.position
        self.branch = nn.Sequential(*(conv.build() for conv in spec.branch))
        self.attention = (
            spec.attention.build(spec.attention_channels) if spec.attention else nn.Identity()
        )
        self.shortcut = spec.projection.build() if spec.projection else nn.Identity()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor
        match self.position:
            case "standard":
                out = self.act(self.attention(self.branch(x)) + self.shortcut(x))
            case "pre":
                out = self.act(self.branch(self.attention(x)) + self.shortcut(x))
            case "post":
                out = self.attention(self.act(self.branch(x) + self.shortcut(x)))
            case "identity":
                out = self.act(self.branch(x) + self.attention(self.shortcut(x)))
        return out
