"""Attention inside a block: gates that scale channels and places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import pydantic
import torch
from torch import Tensor, nn

from pocketvision.errors import ConfigError, at_least, choice
from pocketvision.nn.conv import make_divisible
from pocketvision.nn.layer import Layer, Size

Gate = Literal["hsigmoid", "sigmoid"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SqueezeExciteSpec:
    """Squeeze-and-excitation; the block it sits in says over how many channels.

    squeezed: width of the hidden layer. gate: the sigmoid of the SENet paper, or the hard one of
    MobileNetV3. bias: both layers have one; the SENet paper drops them in its ResNets (section 6).

    Raises: ConfigError: squeezed below 1, an unknown gate.
    """

    kind: Literal["squeeze_excite"] = "squeeze_excite"
    squeezed: int
    gate: Gate = "hsigmoid"
    bias: bool = True

    def __post_init__(self) -> None:
        at_least("squeezed", self.squeezed, 1)
        choice("gate", self.gate, get_args(Gate))

    @classmethod
    def for_channels(cls, channels: int) -> SqueezeExciteSpec:
        """MobileNetV3's choice: a quarter of the channels, rounded to a multiple of 8."""
        return cls(squeezed=make_divisible(channels / 4))

    def build(self, channels: int) -> nn.Module:
        """The module over `channels`, newly initialised."""
        return SqueezeExcite(channels, self)

    def layers(self, channels: int, size: Size, *, kept: int = 0) -> tuple[Layer, ...]:
        """Both 1x1 convolutions as arithmetic; the map they will scale is alive meanwhile.

        kept: elements of further tensors alive meanwhile.
        """
        alive = kept + channels * size[0] * size[1]
        return (
            Layer(kind="conv", c_in=channels, c_out=self.squeezed, bias=self.bias, kept=alive),
            Layer(kind="conv", c_in=self.squeezed, c_out=channels, bias=self.bias, kept=alive),
        )


class SqueezeExcite(nn.Module):
    """Scale every channel by a gate computed from the channel means.

    Shape:  (N, C, H, W) float -> same.
    Source: Hu et al., Squeeze-and-Excitation Networks, Fig. 1 and eq. 3; with the hard sigmoid:
            Howard et al., Searching for MobileNetV3, section 5.2.
    """

    def __init__(self, channels: int, spec: SqueezeExciteSpec) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, spec.squeezed, 1, bias=spec.bias)
        self.act = nn.ReLU(inplace=True)
        self.expand = nn.Conv2d(spec.squeezed, channels, 1, bias=spec.bias)
        self.gate = nn.Hardsigmoid() if spec.gate == "hsigmoid" else nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.gate(self.expand(self.act(self.reduce(self.pool(x)))))  # (N, C, 1, 1)
        return x * gate


@dataclass(frozen=True, kw_only=True, slots=True)
class CbamSpec:
    """Convolutional block attention: over channels, then over places.

    squeezed: width of the hidden layer that means and maxima share. kernel: odd, of the spatial
    part. bias: both layers of the channel part have one, as in the authors' code.

    Raises: ConfigError: squeezed below 1, a kernel that is not odd.
    """

    kind: Literal["cbam"] = "cbam"
    squeezed: int
    kernel: int = 7
    bias: bool = True

    def __post_init__(self) -> None:
        at_least("squeezed", self.squeezed, 1)
        at_least("kernel", self.kernel, 1)
        if self.kernel % 2 == 0:
            raise ConfigError(f"kernel={self.kernel} is even; expected an odd number such as 7.")

    def build(self, channels: int) -> nn.Module:
        """The module over `channels`, newly initialised."""
        return Cbam(channels, self)

    def layers(self, channels: int, size: Size, *, kept: int = 0) -> tuple[Layer, ...]:
        """All layers as arithmetic; the map they will scale is alive meanwhile.

        kept: elements of further tensors alive meanwhile.
        """
        alive, pooled = kept + channels * size[0] * size[1], (2, 1)  # one row of means, one of max
        squeezed, bias = self.squeezed, self.bias
        return (
            Layer(
                kind="conv",
                c_in=channels,
                c_out=squeezed,
                bias=bias,
                in_size=pooled,
                out_size=pooled,
                kept=alive,
            ),
            Layer(
                kind="conv",
                c_in=squeezed,
                c_out=channels,
                bias=bias,
                in_size=pooled,
                out_size=pooled,
                kept=alive,
            ),
            Layer(
                kind="conv",
                c_in=2,
                c_out=1,
                kernel=self.kernel,
                in_size=size,
                out_size=size,
                kept=alive,
            ),
        )


class Cbam(nn.Module):
    """Scale every channel by a gate from its mean and maximum, then every place likewise.

    Shape:  (N, C, H, W) float -> same.
    Source: Woo et al., CBAM, eq. 1 to 3 and Fig. 2; the spatial part is one plain convolution over
            two maps (the authors' code adds a batch norm that the paper does not have).
    """

    def __init__(self, channels: int, spec: CbamSpec) -> None:
        super().__init__()
        self.mean_pool = nn.AdaptiveAvgPool2d(1)
        self.max_pool = nn.AdaptiveMaxPool2d(1)  # its gradient is many times faster than amax's
        self.reduce = nn.Conv2d(channels, spec.squeezed, 1, bias=spec.bias)
        self.act = nn.ReLU(inplace=True)
        self.expand = nn.Conv2d(spec.squeezed, channels, 1, bias=spec.bias)
        self.spatial = nn.Conv2d(2, 1, spec.kernel, padding=spec.kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.sigmoid(self.shared(self.mean_pool(x)) + self.shared(self.max_pool(x)))
        maps = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)  # (N, 2, H, W)
        return x * torch.sigmoid(self.spatial(maps))

    def shared(self, pooled: Tensor) -> Tensor:
        """The layers that means and maxima share. (N, C, 1, 1) -> same."""
        out: Tensor = self.expand(self.act(self.reduce(pooled)))
        return out


Attention = Annotated[SqueezeExciteSpec | CbamSpec, pydantic.Discriminator("kind")]

REDUCTION = 16  # of the SENet and CBAM papers
ATTENTIONS = ("none", "se", "cbam")


def attention_spec(
    name: str,
    channels: int,
    reduction: int = REDUCTION,
    *,
    bias: bool | None = None,
    squeezed_multiple: int = 1,
) -> Attention | None:
    """The attention called `name`, one of `ATTENTIONS`, over `channels`, as its paper has it.

    reduction: channels / hidden width, r in the papers. squeezed_multiple: the hidden width is
    rounded to multiples of it and not below it. bias: None takes the paper's: none for "se", some
    for "cbam".

    Raises: ConfigError: an unknown name, a reduction or multiple below 1.
    """
    at_least("reduction", reduction, 1)
    at_least("squeezed_multiple", squeezed_multiple, 1)
    squeezed = make_divisible(max(1, channels // reduction), squeezed_multiple)
    match choice("attention", name, ATTENTIONS):
        case "se":
            return SqueezeExciteSpec(squeezed=squeezed, gate="sigmoid", bias=bool(bias))
        case "cbam":
            return CbamSpec(squeezed=squeezed, bias=bias is not False)
    return None
