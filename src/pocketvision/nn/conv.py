"""Convolution, batch norm, activation: the unit all blocks are made of."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from pocketvision.errors import ConfigError, at_least, choice, in_range
from pocketvision.nn.depthwise import DepthwiseConv5
from pocketvision.nn.layer import Layer, Size

Act = Literal["none", "relu", "relu6", "hswish"]
Padding = Literal["same", "valid"]  # zeros around the input, or none


def make_divisible(value: float, divisor: int = 8, minimum: int | None = None) -> int:
    """Round a channel count to a multiple of `divisor`, at most 10 % down.

    minimum: smallest result; None: `divisor`.

    Source: Sandler et al., MobileNetV2, the authors' code: v' = max(8, floor(v + 4) // 8 * 8),
    and 8 more where v' < 0.9 v.
    """
    rounded = max(minimum or divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchNormSpec:
    """The constants of a batch norm.

    momentum: share of the new batch in the running figures (PyTorch's sense), above 0 to 1.
    The defaults are the ones quantization-aware training tools take for granted.

    Warns: UserWarning: a momentum above 0.5, which looks like TensorFlow's, the share of the old.
    Raises: ConfigError: a field outside what is allowed.
    """

    eps: float = 1e-5
    momentum: float = 0.1

    def __post_init__(self) -> None:
        in_range("eps", self.eps, 1e-12, 1.0)
        in_range("momentum", self.momentum, 1e-6, 1.0)
        if self.momentum > 0.5:
            warnings.warn(
                f"momentum={self.momentum} looks like TensorFlow's, the share of the old figures; "
                f"here it is that of the new batch: {1 - self.momentum:.6g} would be the same.",
                stacklevel=3,
            )

    def build(self, channels: int) -> nn.BatchNorm2d:
        """The norm over `channels`."""
        return nn.BatchNorm2d(channels, eps=self.eps, momentum=self.momentum)


DEFAULT_NORM = BatchNormSpec()


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvSpec:
    """A 2-D convolution, its norm and its activation.

    kernel: odd. stride: 1 or 2. norm: None gives the convolution a bias instead. padding: "valid"
    leaves out the places where the kernel would look beyond the input.

    Raises: ConfigError: a field outside what is allowed.
    """

    kind: Literal["conv"] = "conv"
    c_in: int
    c_out: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    act: Act = "relu6"
    norm: BatchNormSpec | None = DEFAULT_NORM
    padding: Padding = "same"

    def __post_init__(self) -> None:
        for name in ("c_in", "c_out", "dilation", "groups"):
            at_least(name, getattr(self, name), 1)
        check_kernel_and_stride(self.kernel, self.stride)
        choice("act", self.act, get_args(Act))
        choice("padding", self.padding, get_args(Padding))
        if self.c_in % self.groups or self.c_out % self.groups:
            raise ConfigError(
                f"groups={self.groups} must divide c_in={self.c_in} and c_out={self.c_out}."
            )

    @property
    def reach(self) -> int:
        """How far the kernel looks to each side, in pixels."""
        return self.dilation * (self.kernel - 1) // 2

    def build(self) -> nn.Module:
        """The module, newly initialised."""
        return ConvNormAct(self)

    def out_size(self, size: Size) -> Size:
        """Height and width of the output: what the kernel may centre on, by the stride, rounded
        up."""
        lost = 0 if self.padding == "same" else 2 * self.reach
        height, width = size
        return -(-(height - lost) // self.stride), -(-(width - lost) // self.stride)

    def layers(self, size: Size) -> tuple[Layer, ...]:
        """The convolution as arithmetic, for an input of height x width."""
        return (self.layer(size),)

    def layer(self, size: Size, *, kept: int = 0) -> Layer:
        """As `layers`; kept: elements of other tensors alive meanwhile."""
        return Layer(
            kind="conv",
            c_in=self.c_in,
            c_out=self.c_out,
            kernel=self.kernel,
            groups=self.groups,
            bias=self.norm is None,
            norm=self.norm is not None,
            in_size=size,
            out_size=self.out_size(size),
            kept=kept,
        )


def check_kernel_and_stride(kernel: int, stride: int) -> None:
    """Raises: ConfigError: an even or non-positive kernel, a stride other than 1 or 2."""
    check_odd("kernel", kernel)
    if stride not in (1, 2):
        raise ConfigError(f"stride={stride} is not allowed; expected 1 or 2.")


def check_odd(name: str, value: int) -> None:
    """Raises: ConfigError: an even or non-positive extent of a kernel."""
    at_least(name, value, 1)
    if value % 2 == 0:
        raise ConfigError(f"{name}={value} is even; expected an odd number such as 3 or 5.")


def build_activation(act: Act) -> nn.Module:
    """The activation's module; it works in place, so it must own its input."""
    match act:
        case "none":
            return nn.Identity()
        case "relu":
            return nn.ReLU(inplace=True)
        case "relu6":
            return nn.ReLU6(inplace=True)
        case "hswish":
            return nn.Hardswish(inplace=True)


class ConvNormAct(nn.Sequential):
    """Convolution "conv" -> batch norm "norm" (or bias) -> activation "act" (if there is one).

    Shape: (N, c_in, H, W) float -> (N, c_out, ceil(H / stride), ceil(W / stride)); with "valid"
    padding H and W are first reduced by what the kernel reaches.
    """

    conv: nn.Conv2d
    norm: nn.BatchNorm2d
    act: nn.Module

    def __init__(self, spec: ConvSpec) -> None:
        depthwise = spec.groups == spec.c_in == spec.c_out > 1
        plain = spec.padding == "same" and spec.dilation == 1 and spec.norm is not None
        kind = DepthwiseConv5 if depthwise and plain and spec.kernel == 5 else nn.Conv2d
        conv = kind(
            spec.c_in,
            spec.c_out,
            spec.kernel,
            stride=spec.stride,
            padding=spec.reach if spec.padding == "same" else 0,
            dilation=spec.dilation,
            groups=spec.groups,
            bias=spec.norm is None,
        )
        layers: dict[str, nn.Module] = {"conv": conv}
        if spec.norm:
            layers["norm"] = spec.norm.build(spec.c_out)
        if spec.act != "none":
            layers["act"] = build_activation(spec.act)
        super().__init__(OrderedDict(layers))
