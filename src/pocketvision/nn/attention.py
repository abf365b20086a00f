"""Attention inside a block: gates that scale the channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from pocketvision.errors import at_least
from pocketvision.nn.conv import make_divisible
from pocketvision.nn.layer import Layer, Size


@dataclass(frozen=True, kw_only=True, slots=True)
class SqueezeExciteSpec:
    """Squeeze-and-excitation; the block it sits in says over how many channels.

    squeezed: width of the hidden layer.

    Raises: ConfigError: squeezed below 1.
    """

    kind: Literal["squeeze_excite"] = "squeeze_excite"
    squeezed: int

    def __post_init__(self) -> None:
        at_least("squeezed", self.squeezed, 1)

    @classmethod
    def for_channels(cls, channels: int) -> SqueezeExciteSpec:
        """MobileNetV3's choice: a quarter of the channels, rounded to a multiple of 8."""
        return cls(squeezed=make_divisible(channels / 4))

    def build(self, channels: int) -> nn.Module:
        """The module over `channels`, newly initialised."""
        return SqueezeExcite(channels, self.squeezed)

    def layers(self, channels: int, size: Size, *, kept: int = 0) -> tuple[Layer, ...]:
        """Both 1x1 convolutions as arithmetic; the map they will scale is alive meanwhile.

        kept: elements of further tensors alive meanwhile.
        """
        alive = kept + channels * size[0] * size[1]
        return (
            Layer(kind="conv", c_in=channels, c_out=self.squeezed, bias=True, kept=alive),
            Layer(kind="conv", c_in=self.squeezed, c_out=channels, bias=True, kept=alive),
        )


class SqueezeExcite(nn.Module):
    """Scale every channel by a gate computed from the channel means.

    Shape:  (N, C, H, W) float -> same.
    Args:   channels: C. squeezed: width of the hidden layer, 1 or more.
    Source: Hu et al., Squeeze-and-Excitation Networks, Fig. 1 and eq. 3; the gate is the hard
            sigmoid, as in Howard et al., Searching for MobileNetV3, section 5.2.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.ReLU(inplace=True)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.gate(self.expand(self.act(self.reduce(self.pool(x)))))  # (N, C, 1, 1)
        return x * gate
