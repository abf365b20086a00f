"""Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv 1801.04381v3."""

from __future__ import annotations

from typing import NamedTuple

from pocketvision.models.arch import ArchSpec, BlockSpec, check_input
from pocketvision.nn.blocks import InvertedResidualSpec
from pocketvision.nn.conv import DEFAULT_NORM, BatchNormSpec, ConvSpec, make_divisible
from pocketvision.nn.heads import ClassifierSpec


class Row(NamedTuple):
    """n blocks of expansion t and c output channels; the first has stride s, the others 1."""

    t: int
    c: int
    n: int
    s: int


V2_STEM = 32
V2_TABLE_2 = (
    #   t  c   n  s
    Row(1, 16, 1, 1),
    Row(6, 24, 2, 2),
    Row(6, 32, 3, 2),
    Row(6, 64, 4, 2),
    Row(6, 96, 3, 1),
    Row(6, 160, 3, 2),
    Row(6, 320, 1, 1),
)
V2_LAST = 1280


def mobilenet_v2(
    *,
    width: float = 1.0,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    dropout: float = 0.2,
    norm: BatchNormSpec = DEFAULT_NORM,
) -> ArchSpec:
    """MobileNetV2. width: scales every channel count, but the last convolution not below 1280 (§4).

    Raises: ConfigError: an option outside what is allowed.
    """
    check_input(width=width, in_chans=in_chans, resolution=resolution)
    channels = make_divisible(V2_STEM * width)
    blocks: list[BlockSpec] = [ConvSpec(c_in=in_chans, c_out=channels, stride=2, norm=norm)]
    for row in V2_TABLE_2:
        c_out = make_divisible(row.c * width)
        for index in range(row.n):
            blocks.append(
                InvertedResidualSpec(
                    c_in=channels,
                    c_mid=channels * row.t,
                    c_out=c_out,
                    stride=row.s if index == 0 else 1,
                    norm=norm,
                )
            )
            channels = c_out
    last = make_divisible(V2_LAST * max(1.0, width))
    blocks.append(ConvSpec(c_in=channels, c_out=last, kernel=1, norm=norm))
    return ArchSpec(
        name="mobilenet_v2",
        width=width,
        in_chans=in_chans,
        resolution=resolution,
        blocks=tuple(blocks),
        head=ClassifierSpec(c_in=last, num_classes=num_classes, dropout=dropout),
    )
