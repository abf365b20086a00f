"""Pooling between blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from pocketvision.errors import at_least, choice
from pocketvision.nn.conv import check_kernel_and_stride
from pocketvision.nn.layer import Layer, Size

Pooling = Literal["max", "mean"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolSpec:
    """A pool with "same" padding; what is padded does not count, in a mean either.

    c_in: channels. kernel: odd. stride: 1 or 2.

    Raises: ConfigError: a field outside what is allowed.
    """

    kind: Literal["pool"] = "pool"
    c_in: int
    pooling: Pooling = "max"
    kernel: int = 3
    stride: int = 2

    def __post_init__(self) -> None:
        at_least("c_in", self.c_in, 1)
        check_kernel_and_stride(self.kernel, self.stride)
        choice("pooling", self.pooling, get_args(Pooling))

    @property
    def c_out(self) -> int:
        """As many channels as come in."""
        return self.c_in

    def build(self) -> nn.Module:
        """(N, c_in, H, W) -> (N, c_in, ceil(H / stride), ceil(W / stride))."""
        padding = self.kernel // 2
        if self.pooling == "max":
            return nn.MaxPool2d(self.kernel, self.stride, padding)
        return nn.AvgPool2d(self.kernel, self.stride, padding, count_include_pad=False)

    def out_size(self, size: Size) -> Size:
        """Height and width of the output: the input's divided by the stride, rounded up."""
        return -(-size[0] // self.stride), -(-size[1] // self.stride)

    def layers(self, size: Size) -> tuple[Layer, ...]:
        """None: a pool multiplies nothing."""
        return ()
