"""A convolution or linear layer as arithmetic: what counting and latency tables add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Size = tuple[int, int]  # height, width


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One layer at one input size. Element counts are for a batch of one.

    kept: elements of other tensors that stay alive while the layer runs: the input of a residual
    block, or the map that a gate will scale. The depths are those of 3-D convolutions.
    """

    kind: Literal["conv", "linear"]
    c_in: int
    c_out: int
    kernel: int = 1
    groups: int = 1
    bias: bool = False
    norm: bool = False  # followed by a batch norm with scale and shift
    in_size: Size = (1, 1)
    out_size: Size = (1, 1)
    kept: int = 0
    kernel_depth: int = 1
    in_depth: int = 1
    out_depth: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates; norm, bias and activation are not counted."""
        return self.out_elements * self.kernel_elements * self.c_in // self.groups

    @property
    def parameters(self) -> int:
        """Weights, bias, and the norm's scale and shift."""
        weights = self.c_out * self.kernel_elements * self.c_in // self.groups
        return weights + self.c_out * (self.bias + 2 * self.norm)

    @property
    def kernel_elements(self) -> int:
        """Weights between one channel and another."""
        return self.kernel_depth * self.kernel**2

    @property
    def in_elements(self) -> int:
        """c_in x depth x height x width."""
        return self.c_in * self.in_depth * self.in_size[0] * self.in_size[1]

    @property
    def out_elements(self) -> int:
        """c_out x depth x height x width."""
        return self.c_out * self.out_depth * self.out_size[0] * self.out_size[1]

    @property
    def alive_elements(self) -> int:
        """Everything in memory while the layer runs: input, output and what is kept for later."""
        return self.in_elements + self.out_elements + self.kept
