"""Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications, arXiv 1704.04861v1.
"""

from __future__ import annotations

from typing import NamedTuple

from pocketvision.models.arch import ArchSpec, BlockSpec, check_input
from pocketvision.nn.blocks import SeparableSpec
from pocketvision.nn.conv import DEFAULT_NORM, Act, BatchNormSpec, ConvSpec, make_divisible
from pocketvision.nn.heads import ClassifierSpec


class Row(NamedTuple):
    """A depthwise convolution of stride s and the 1x1 convolution to n channels that follows."""

    n: int
    s: int


V1_STEM = 32
V1_TABLE_1 = (
    #   n     s
    Row(64, 1),
    Row(128, 2),
    Row(128, 1),
    Row(256, 2),
    Row(256, 1),
    Row(512, 2),
    Row(512, 1),
    Row(512, 1),
    Row(512, 1),
    Row(512, 1),
    Row(512, 1),
    Row(1024, 2),
    Row(1024, 1),  # printed as s2; the sizes in the table show that it is 1
)


V1_SHALLOW = tuple(row for row in V1_TABLE_1 if row != Row(512, 1))  # Table 5


def mobilenet_v1(
    *,
    width: float = 1.0,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    dropout: float = 0.0,
    act: Act = "relu",
    norm: BatchNormSpec = DEFAULT_NORM,
    separable: bool = True,
    shallow: bool = False,
) -> ArchSpec:
    """MobileNetV1. width: alpha, scales every channel count (rounded to multiples of 8).

    act: the authors' code and timm have "relu6". separable: False gives the twin with full 3x3
    convolutions (Table 4). shallow: without the five blocks of 512 channels (Table 5).

    Raises: ConfigError: an option outside what is allowed.
    """
    check_input(width=width, in_chans=in_chans, resolution=resolution)
    channels = make_divisible(V1_STEM * width)
    blocks: list[BlockSpec] = [
        ConvSpec(c_in=in_chans, c_out=channels, stride=2, act=act, norm=norm)
    ]
    unit = SeparableSpec if separable else ConvSpec
    for row in V1_SHALLOW if shallow else V1_TABLE_1:
        c_out = make_divisible(row.n * width)
        blocks.append(unit(c_in=channels, c_out=c_out, stride=row.s, act=act, norm=norm))
        channels = c_out
    return ArchSpec(
        name=f"mobilenet_v1{'_shallow' * shallow}{'_full' * (not separable)}",
        variant="" if act == "relu" else act,
        width=width,
        in_chans=in_chans,
        resolution=resolution,
        blocks=tuple(blocks),
        head=ClassifierSpec(c_in=channels, num_classes=num_classes, dropout=dropout),
    )
