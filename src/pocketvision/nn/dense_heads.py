"""Heads that name the class of every pixel: LR-ASPP and R-ASPP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pocketvision.errors import at_least, choice
from pocketvision.nn.conv import DEFAULT_NORM, BatchNormSpec, ConvSpec
from pocketvision.nn.layer import Layer, Size

Pooling = Literal["window", "global"]
POOL_WINDOW, POOL_STRIDE = (49, 49), (16, 20)


@dataclass(frozen=True, kw_only=True, slots=True)
class LrAsppSpec:
    """LR-ASPP: a 1x1 convolution of the last map, gated by a pooled view of it, beside a skip.

    c_high: channels of the last map. c_low: of one at stride 8. filters: F of the paper.
    pooling: of the gate: "window", the paper's 49x49 at stride (16, 20), no larger than the map;
    "global", as torchvision has it.

    Raises: ConfigError: a field outside what is allowed.
    """

    kind: Literal["lr_aspp"] = "lr_aspp"
    c_low: int
    c_high: int
    num_classes: int
    filters: int = 128
    pooling: Pooling = "window"
    norm: BatchNormSpec = DEFAULT_NORM

    def __post_init__(self) -> None:
        for name in ("c_low", "c_high", "num_classes", "filters"):
            at_least(name, getattr(self, name), 1)
        choice("pooling", self.pooling, get_args(Pooling))

    @property
    def project(self) -> ConvSpec:
        """The 1x1 convolution of the last map."""
        return ConvSpec(c_in=self.c_high, c_out=self.filters, kernel=1, act="relu", norm=self.norm)

    def pooled_size(self, size: Size) -> Size:
        """Places of the gate for a last map of height x width."""
        return (1, 1) if self.pooling == "global" else windows_of(size)

    def build(self) -> LrAspp:
        """The module, newly initialised."""
        return LrAspp(self)

    def layers(self, low: Size, high: Size) -> tuple[Layer, ...]:
        """All convolutions as arithmetic, in order, for maps of height x width."""
        places, kept = self.pooled_size(high), self.filters * high[0] * high[1]
        return (
            self.project.layer(high),
            _pointwise(self.c_high, self.filters, places, bias=False, kept=kept),
            _pointwise(self.filters, self.num_classes, high),
            _pointwise(self.c_low, self.num_classes, low),
        )


class LrAspp(nn.Module):
    """Lite R-ASPP.

    Shape:  low (N, c_low, H, W), high (N, c_high, H', W') float -> (N, num_classes, H, W) logits.
    Source: Howard et al., Searching for MobileNetV3, section 6.4 and Fig. 10.
    """

    def __init__(self, spec: LrAsppSpec) -> None:
        super().__init__()
        self.pooling = spec.pooling
        self.project = spec.project.build()
        self.gate = nn.Conv2d(spec.c_high, spec.filters, 1, bias=False)
        self.high_classifier = nn.Conv2d(spec.filters, spec.num_classes, 1)
        self.low_classifier = nn.Conv2d(spec.c_low, spec.num_classes, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        windows = self.pooling == "window"
        pooled = window_means(high) if windows else F.adaptive_avg_pool2d(high, 1)
        gate = torch.sigmoid(self.gate(pooled))
        if windows:
            gate = resized(gate, high)
        # A 1x1 convolution and the resizing commute: so the classes are resized, not the filters.
        coarse = self.high_classifier(self.project(high) * gate)
        logits: Tensor = resized(coarse, low) + self.low_classifier(low)
        return logits


@dataclass(frozen=True, kw_only=True, slots=True)
class RAsppSpec:
    """R-ASPP: a 1x1 convolution of the last map and its global mean, mixed; no skip.

    c_high: channels of the last map. filters: of each branch.

    Raises: ConfigError: a field outside what is allowed.
    """

    kind: Literal["r_aspp"] = "r_aspp"
    c_high: int
    num_classes: int
    filters: int = 256
    norm: BatchNormSpec = DEFAULT_NORM

    def __post_init__(self) -> None:
        for name in ("c_high", "num_classes", "filters"):
            at_least(name, getattr(self, name), 1)

    @property
    def branch(self) -> ConvSpec:
        """The 1x1 convolution of the map, and that of its mean."""
        return ConvSpec(c_in=self.c_high, c_out=self.filters, kernel=1, act="relu", norm=self.norm)

    @property
    def mix(self) -> ConvSpec:
        """The 1x1 convolution over both branches."""
        return ConvSpec(
            c_in=2 * self.filters, c_out=self.filters, kernel=1, act="relu", norm=self.norm
        )

    def build(self) -> RAspp:
        """The module, newly initialised."""
        return RAspp(self)

    def layers(self, low: Size, high: Size) -> tuple[Layer, ...]:
        """All convolutions as arithmetic, in order, for a last map of height x width."""
        kept = self.filters * high[0] * high[1]
        return (
            self.branch.layer(high),
            self.branch.layer((1, 1), kept=kept),
            self.mix.layer(high),
            _pointwise(self.filters, self.num_classes, high),
        )


class RAspp(nn.Module):
    """Reduced ASPP: of the branches of ASPP the 1x1 convolution and the image's mean alone.

    Shape:  high (N, c_high, H, W) float -> (N, num_classes, H, W) logits.
    Source: Sandler et al., MobileNetV2, section 6.3; Howard et al., MobileNetV3, section 6.4.
    """

    def __init__(self, spec: RAsppSpec) -> None:
        super().__init__()
        self.branch = spec.branch.build()
        self.mean_branch = spec.branch.build()
        self.mix = spec.mix.build()
        self.classifier = nn.Conv2d(spec.filters, spec.num_classes, 1)

    def forward(self, high: Tensor) -> Tensor:
        mean = spread(self.mean_branch(F.adaptive_avg_pool2d(high, 1)), high)
        logits: Tensor = self.classifier(self.mix(torch.cat([self.branch(high), mean], 1)))
        return logits


def _pointwise(c_in: int, c_out: int, size: Size, *, bias: bool = True, kept: int = 0) -> Layer:
    return Layer(
        kind="conv", c_in=c_in, c_out=c_out, bias=bias, in_size=size, out_size=size, kept=kept
    )


def pool_window(size: Size) -> Size:
    """The paper's window, no larger than a map of height x width."""
    return min(POOL_WINDOW[0], size[0]), min(POOL_WINDOW[1], size[1])


def windows_of(size: Size) -> Size:
    """How many windows a map of height x width has, down and across."""
    rows, columns = pool_window(size)
    return (size[0] - rows) // POOL_STRIDE[0] + 1, (size[1] - columns) // POOL_STRIDE[1] + 1


# What follows is a function of its own for the sake of `nn.operations`, which sees each as a whole.


def window_means(x: Tensor) -> Tensor:
    """Means of the paper's window at its strides."""
    height, width = x.shape[-2:]
    return F.avg_pool2d(x, pool_window((height, width)), POOL_STRIDE)


def resized(small: Tensor, like: Tensor) -> Tensor:
    """Bilinear, to the height and width of another map."""
    return F.interpolate(small, size=like.shape[-2:], mode="bilinear", align_corners=False)


def spread(mean: Tensor, like: Tensor) -> Tensor:
    """(N, C, 1, 1) at every place of another map."""
    return mean.expand(-1, -1, *like.shape[-2:])
