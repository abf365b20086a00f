"""Tan et al., MnasNet: Platform-Aware Neural Architecture Search for Mobile, arXiv 1807.11626v3."""

from __future__ import annotations

from typing import NamedTuple

from pocketvision.models.arch import ArchSpec, BlockSpec, check_input
from pocketvision.nn.attention import SqueezeExciteSpec
from pocketvision.nn.blocks import InvertedResidualSpec
from pocketvision.nn.conv import DEFAULT_NORM, BatchNormSpec, ConvSpec, make_divisible
from pocketvision.nn.heads import ClassifierSpec


class Row(NamedTuple):
    """n blocks of kernel k, expansion t, c output channels; the first has stride s, others 1.

    se: with squeeze-and-excitation.
    """

    k: int
    t: int
    se: bool
    c: int
    n: int
    s: int


A1_STEM = 32
A1_FIGURE_7 = (
    #   k  t     se  c   n  s
    Row(3, 6, False, 24, 2, 2),
    Row(5, 3, True, 40, 3, 2),
    Row(3, 6, False, 80, 4, 2),
    Row(3, 6, True, 112, 2, 1),
    Row(5, 6, True, 160, 3, 2),
    Row(3, 6, False, 320, 1, 1),
)
A1_SEPARABLE = 16  # channels of the block between the stem and the rows above
A1_LAST = 1280


def mnasnet_a1(
    *,
    width: float = 1.0,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    dropout: float = 0.2,
    norm: BatchNormSpec = DEFAULT_NORM,
) -> ArchSpec:
    """MnasNet-A1. width: scales every channel count but the last convolution's.

    Squeeze-and-excitation squeezes to a quarter of the channels that come into the block, before
    its expansion.

    Raises: ConfigError: an option outside what is allowed.
    """
    check_input(width=width, in_chans=in_chans, resolution=resolution)
    stem, channels = make_divisible(A1_STEM * width), make_divisible(A1_SEPARABLE * width)
    blocks: list[BlockSpec] = [
        ConvSpec(c_in=in_chans, c_out=stem, stride=2, act="relu", norm=norm),
        InvertedResidualSpec(
            c_in=stem, c_mid=stem, c_out=channels, act="relu", skip=False, norm=norm
        ),
    ]
    for row in A1_FIGURE_7:
        c_out = make_divisible(row.c * width)
        for index in range(row.n):
            blocks.append(_block(row, channels, c_out, row.s if index == 0 else 1, norm))
            channels = c_out
    blocks.append(ConvSpec(c_in=channels, c_out=A1_LAST, kernel=1, act="relu", norm=norm))
    return ArchSpec(
        name="mnasnet_a1",
        width=width,
        in_chans=in_chans,
        resolution=resolution,
        blocks=tuple(blocks),
        head=ClassifierSpec(c_in=A1_LAST, num_classes=num_classes, dropout=dropout),
    )


def _block(
    row: Row, c_in: int, c_out: int, stride: int, norm: BatchNormSpec
) -> InvertedResidualSpec:
    squeezed = c_in // 4  # c_in is a multiple of 8
    return InvertedResidualSpec(
        c_in=c_in,
        c_mid=c_in * row.t,
        c_out=c_out,
        kernel=row.k,
        stride=stride,
        act="relu",
        attention=SqueezeExciteSpec(squeezed=squeezed, gate="sigmoid") if row.se else None,
        norm=norm,
    )
