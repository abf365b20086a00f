"""Blocks of the MobileNets: depthwise separable convolution, inverted residual."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from pocketvision.errors import at_least, choice
from pocketvision.nn.attention import Attention
from pocketvision.nn.conv import (
    DEFAULT_NORM,
    Act,
    BatchNormSpec,
    ConvSpec,
    Padding,
    check_kernel_and_stride,
)
from pocketvision.nn.layer import Layer, Size


@dataclass(frozen=True, kw_only=True, slots=True)
class SeparableSpec:
    """A depthwise and a 1x1 convolution, each with norm and activation; attention on the output.

    kernel, stride, dilation: of the depthwise convolution, odd, 1 or 2, from 1 up.

    Raises: ConfigError: a field outside what is allowed.
    """

    kind: Literal["separable"] = "separable"
    c_in: int
    c_out: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    act: Act = "relu"
    attention: Attention | None = None
    norm: BatchNormSpec = DEFAULT_NORM

    def __post_init__(self) -> None:
        for name in ("c_in", "c_out", "dilation"):
            at_least(name, getattr(self, name), 1)
        check_kernel_and_stride(self.kernel, self.stride)
        choice("act", self.act, get_args(Act))

    @property
    def attention_channels(self) -> int:
        """Channels that attention sees."""
        return self.c_out

    @property
    def depthwise(self) -> ConvSpec:
        """The convolution within channels."""
        return ConvSpec(
            c_in=self.c_in,
            c_out=self.c_in,
            groups=self.c_in,
            kernel=self.kernel,
            stride=self.stride,
            dilation=self.dilation,
            act=self.act,
            norm=self.norm,
        )

    @property
    def pointwise(self) -> ConvSpec:
        """The convolution across channels."""
        return ConvSpec(c_in=self.c_in, c_out=self.c_out, kernel=1, act=self.act, norm=self.norm)

    def build(self) -> nn.Module:
        """The module, newly initialised."""
        return Separable(self)

    def out_size(self, size: Size) -> Size:
        """Height and width of the output."""
        return self.depthwise.out_size(size)

    def layers(self, size: Size) -> tuple[Layer, ...]:
        """All convolutions as arithmetic, in order, for an input of height x width."""
        out = self.out_size(size)
        layers = (self.depthwise.layer(size), self.pointwise.layer(out))
        return layers + (self.attention.layers(self.c_out, out) if self.attention else ())


class Separable(nn.Sequential):
    """Depthwise separable convolution.

    Shape:  (N, c_in, H, W) float -> (N, c_out, ceil(H / stride), ceil(W / stride)).
    Source: Howard et al., MobileNets, section 3.1 and Fig. 3; with attention on the output: Hu et
            al., Squeeze-and-Excitation Networks, Table 3.
    """

    def __init__(self, spec: SeparableSpec) -> None:
        layers = {"depthwise": spec.depthwise.build(), "pointwise": spec.pointwise.build()}
        if spec.attention:
            layers["attention"] = spec.attention.build(spec.c_out)
        super().__init__(OrderedDict(layers))


@dataclass(frozen=True, kw_only=True, slots=True)
class InvertedResidualSpec:
    """A 1x1 expansion, a depthwise convolution, attention, and a linear 1x1 projection.

    c_mid: channels inside; equal to c_in means that there is no expansion layer.
    kernel, stride, dilation: of the depthwise convolution.
    norm: None gives the convolutions biases instead.
    skip: add the input to the output where both have the same shape. padding: of the depthwise
    convolution; with "valid" the middle of the input is added.

    Raises: ConfigError: a field outside what is allowed.
    """

    kind: Literal["inverted_residual"] = "inverted_residual"
    c_in: int
    c_mid: int
    c_out: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    act: Act = "relu6"
    attention: Attention | None = None
    skip: bool = True
    norm: BatchNormSpec | None = DEFAULT_NORM
    padding: Padding = "same"

    def __post_init__(self) -> None:
        for name in ("c_in", "c_mid", "c_out", "dilation"):
            at_least(name, getattr(self, name), 1)
        check_kernel_and_stride(self.kernel, self.stride)
        choice("act", self.act, get_args(Act))
        choice("padding", self.padding, get_args(Padding))

    @property
    def attention_channels(self) -> int:
        """Channels that attention sees."""
        return self.c_mid

    @property
    def has_skip(self) -> bool:
        """True where the input is added to the output: same channels, stride 1, and `skip`."""
        return self.skip and self.stride == 1 and self.c_in == self.c_out

    @property
    def expand(self) -> ConvSpec | None:
        """The expansion; None where there is nothing to expand."""
        if self.c_mid == self.c_in:
            return None
        return ConvSpec(c_in=self.c_in, c_out=self.c_mid, kernel=1, act=self.act, norm=self.norm)

    @property
    def depthwise(self) -> ConvSpec:
        """The convolution within channels."""
        return ConvSpec(
            c_in=self.c_mid,
            c_out=self.c_mid,
            groups=self.c_mid,
            kernel=self.kernel,
            stride=self.stride,
            dilation=self.dilation,
            act=self.act,
            norm=self.norm,
            padding=self.padding,
        )

    @property
    def project(self) -> ConvSpec:
        """The linear bottleneck."""
        return ConvSpec(c_in=self.c_mid, c_out=self.c_out, kernel=1, act="none", norm=self.norm)

    def build(self) -> nn.Module:
        """The module, newly initialised."""
        return InvertedResidual(self)

    def out_size(self, size: Size) -> Size:
        """Height and width of the output."""
        return self.depthwise.out_size(size)

    def layers(self, size: Size) -> tuple[Layer, ...]:
        """All convolutions as arithmetic, in order, for an input of height x width."""
        kept = self.c_in * size[0] * size[1] if self.has_skip else 0
        out = self.out_size(size)
        layers: tuple[Layer, ...] = ()
        if self.expand:  # its own input is the residual
            layers += (self.expand.layer(size),)
            layers += (self.depthwise.layer(size, kept=kept),)
        else:
            layers += (self.depthwise.layer(size),)
        if self.attention:
            layers += self.attention.layers(self.c_mid, out, kept=kept)
        return (*layers, self.project.layer(out, kept=kept))


class InvertedResidual(nn.Module):
    """Inverted residual with linear bottleneck.

    Shape:  (N, c_in, H, W) float -> (N, c_out, ceil(H / stride), ceil(W / stride)); with "valid"
            padding H and W are first reduced by what the depthwise kernel reaches.
    Source: Sandler et al., MobileNetV2, section 3.3 and Table 1; with attention after the
            depthwise convolution: Howard et al., Searching for MobileNetV3, Fig. 4.
    """

    def __init__(self, spec: InvertedResidualSpec) -> None:
        super().__init__()
        self.has_skip = spec.has_skip
        self.margin = spec.depthwise.reach if spec.padding == "valid" else 0
        self.expand = spec.expand.build() if spec.expand else None
        self.depthwise = spec.depthwise.build()
        self.attention = spec.attention.build(spec.c_mid) if spec.attention else None
        self.project = spec.project.build()

    def forward(self, x: Tensor) -> Tensor:
        return self.narrowed(self.expanded(x), x)

    def expanded(self, x: Tensor) -> Tensor:
        """(N, c_mid, H, W): what the depthwise convolution sees."""
        if self.expand is None:
            return x
        wide: Tensor = self.expand(x)
        return wide

    def narrowed(self, wide: Tensor, x: Tensor) -> Tensor:
        """The output, from what was expanded and the input."""
        wide = self.depthwise(wide)
        if self.attention is not None:
            wide = self.attention(wide)
        narrow: Tensor = self.project(wide)
        if not self.has_skip:
            return narrow
        inner = x if self.margin == 0 else F.pad(x, (-self.margin,) * 4)
        return inner + narrow
