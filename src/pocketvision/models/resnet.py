"""He et al., Deep Residual Learning for Image Recognition, arXiv 1512.03385v1; with attention: Hu
et al., Squeeze-and-Excitation Networks, arXiv 1709.01507v4, and Woo et al., CBAM, arXiv
1807.06521v2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from pocketvision.errors import ConfigError
from pocketvision.models.arch import ArchSpec, BlockSpec, check_input
from pocketvision.nn.attention import REDUCTION, attention_spec
from pocketvision.nn.conv import DEFAULT_NORM, BatchNormSpec, ConvSpec, make_divisible
from pocketvision.nn.heads import ClassifierSpec
from pocketvision.nn.pool import PoolSpec
from pocketvision.nn.residual import BasicResidualSpec, BottleneckSpec, Position, StrideAt


class Row(NamedTuple):
    """The depth in the name, how many units conv2_x to conv5_x have, and which kind."""

    depth: int
    units: tuple[int, int, int, int]
    bottleneck: bool


RESNET_STEM = 64
RESNET_TABLE_1 = (
    #   depth  units         bottleneck
    Row(18, (2, 2, 2, 2), False),
    Row(34, (3, 4, 6, 3), False),
    Row(50, (3, 4, 6, 3), True),
    Row(101, (3, 4, 23, 3), True),
    Row(152, (3, 8, 36, 3), True),
)
EXPANSION = 4  # a bottleneck's output channels / its inner ones
CIFAR_STEM = 16

_PREFIXES = {"none": "", "se": "se_", "cbam": "cbam_"}


def resnet(
    *,
    depth: int,
    width: float = 1.0,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    dropout: float = 0.0,
    attention: str = "none",
    reduction: int = REDUCTION,
    attention_bias: bool | None = None,
    squeezed_multiple: int = 1,
    position: Position = "standard",
    stride_at: StrideAt = "3x3",
    norm: BatchNormSpec = DEFAULT_NORM,
) -> ArchSpec:
    """ResNet of Table 1. width: scales every channel count (rounded to multiples of 8).

    attention, reduction, attention_bias, squeezed_multiple: as `nn.attention.attention_spec`, for
    every unit (timm has biases and multiples of 8); position:
    where in it. stride_at: where a bottleneck (from depth 50 on) has its stride; the SENet paper's
    multiply-adds are those of "1x1".

    Raises: ConfigError: an option outside what is allowed.
    """
    check_input(width=width, in_chans=in_chans, resolution=resolution)
    row = _row(depth)
    channels = make_divisible(RESNET_STEM * width)
    blocks: list[BlockSpec] = [
        ConvSpec(c_in=in_chans, c_out=channels, kernel=7, stride=2, act="relu", norm=norm),
        PoolSpec(c_in=channels),
    ]
    for stage, units in enumerate(row.units):
        c_mid = make_divisible(RESNET_STEM * 2**stage * width)
        for index in range(units):
            stride = 2 if stage and index == 0 else 1
            block: BasicResidualSpec | BottleneckSpec = BasicResidualSpec(
                c_in=channels, c_out=c_mid, stride=stride, position=position, norm=norm
            )
            if row.bottleneck:
                block = BottleneckSpec(
                    c_in=channels,
                    c_mid=c_mid,
                    c_out=c_mid * EXPANSION,
                    stride=stride,
                    position=position,
                    stride_at=stride_at,
                    norm=norm,
                )
            blocks.append(
                _attending(block, attention, reduction, attention_bias, squeezed_multiple)
            )
            channels = block.c_out
    return ArchSpec(
        name=f"{_PREFIXES[attention]}resnet{depth}",
        variant=_variant(
            attention, reduction, attention_bias, position, stride_at if row.bottleneck else "3x3"
        ),
        width=width,
        in_chans=in_chans,
        resolution=resolution,
        blocks=tuple(blocks),
        head=ClassifierSpec(c_in=channels, num_classes=num_classes, dropout=dropout),
    )


def cifar_resnet(
    *,
    depth: int = 20,
    width: float = 1.0,
    resolution: int = 32,
    num_classes: int = 10,
    in_chans: int = 3,
    dropout: float = 0.0,
    attention: str = "none",
    reduction: int = REDUCTION,
    position: Position = "standard",
    norm: BatchNormSpec = DEFAULT_NORM,
) -> ArchSpec:
    """ResNet of section 4.2 for CIFAR: 6n + 2 layers, n units at each of 16, 32, 64 channels.

    Where the paper pads the shortcut with zeros (option A), this has a projection: 2,752 parameters
    more. The options are `resnet`'s.

    Raises: ConfigError: an option outside what is allowed.
    """
    check_input(width=width, in_chans=in_chans, resolution=resolution)
    n, rest = divmod(depth - 2, 6)
    if n < 1 or rest:
        raise ConfigError(
            f"depth={depth} is not allowed; expected 6n + 2, such as 20, 32, 44, 56 or 110."
        )
    channels = make_divisible(CIFAR_STEM * width)
    blocks: list[BlockSpec] = [ConvSpec(c_in=in_chans, c_out=channels, act="relu", norm=norm)]
    for stage in range(3):
        c_out = make_divisible(CIFAR_STEM * 2**stage * width)
        for index in range(n):
            block = BasicResidualSpec(
                c_in=channels,
                c_out=c_out,
                stride=2 if stage and index == 0 else 1,
                position=position,
                norm=norm,
            )
            blocks.append(_attending(block, attention, reduction, None, 1))
            channels = c_out
    return ArchSpec(
        name=f"{_PREFIXES[attention]}cifar_resnet{depth}",
        variant=_variant(attention, reduction, None, position, "3x3"),
        width=width,
        in_chans=in_chans,
        resolution=resolution,
        blocks=tuple(blocks),
        head=ClassifierSpec(c_in=channels, num_classes=num_classes, dropout=dropout),
    )


def _row(depth: int) -> Row:
    for row in RESNET_TABLE_1:
        if row.depth == depth:
            return row
    depths = [row.depth for row in RESNET_TABLE_1]
    raise ConfigError(f"depth={depth} is not allowed; expected one of {depths}.")


def _attending(
    block: BasicResidualSpec | BottleneckSpec,
    name: str,
    reduction: int,
    bias: bool | None,
    multiple: int,
) -> BasicResidualSpec | BottleneckSpec:
    attention = attention_spec(
        name, block.attention_channels, reduction, bias=bias, squeezed_multiple=multiple
    )
    return replace(block, attention=attention)


def _variant(
    attention: str, reduction: int, bias: bool | None, position: Position, stride_at: StrideAt
) -> str:
    """What is not the name's usual, in words."""
    words = [f"r={reduction}"] if reduction != REDUCTION else []
    words += [f"bias={bias}".lower()] if bias is not None else []
    words += [position] if position != "standard" else []
    words = words if attention != "none" else []
    return ", ".join([*words, *(["stride at 1x1"] if stride_at == "1x1" else [])])
