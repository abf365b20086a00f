"""Ioffe and Szegedy, Batch Normalization, arXiv 1502.03167v3; with attention: Hu et al.,
Squeeze-and-Excitation Networks, arXiv 1709.01507v4.
"""

from __future__ import annotations

from typing import NamedTuple

from pocketvision.models.arch import ArchSpec, BlockSpec, check_input
from pocketvision.nn.attention import REDUCTION, attention_spec
from pocketvision.nn.conv import DEFAULT_NORM, BatchNormSpec, ConvSpec, make_divisible
from pocketvision.nn.heads import ClassifierSpec
from pocketvision.nn.inception import Branch, InceptionSpec
from pocketvision.nn.pool import Pooling, PoolSpec


class Row(NamedTuple):
    """A module's widths; 0: there is no such layer. s: the stride.

    one: 1x1 branch. reduce_3, three: 3x3 branch. reduce_33, double_3: branch of two 3x3. pool,
    proj: the pooled branch and its 1x1 convolution.
    """

    one: int
    reduce_3: int
    three: int
    reduce_33: int
    double_3: int
    pool: Pooling
    proj: int
    s: int


BN_INCEPTION_STEM = (64, 64, 192)  # 7x7 of stride 2, pool, 1x1, 3x3, pool
BN_INCEPTION_FIG_5 = (
    #   1x1 reduce 3x3  reduce 2x3x3 pool   proj  s
    Row(64, 64, 64, 64, 96, "mean", 32, 1),
    Row(64, 64, 96, 64, 96, "mean", 64, 1),
    Row(0, 128, 160, 64, 96, "max", 0, 2),
    Row(224, 64, 96, 96, 128, "mean", 128, 1),
    Row(192, 96, 128, 96, 128, "mean", 128, 1),
    Row(160, 128, 160, 128, 160, "mean", 128, 1),  # printed: 96; 128 gives SENet's 2.03 G
    Row(96, 128, 192, 160, 192, "mean", 128, 1),  # likewise
    Row(0, 128, 192, 192, 256, "max", 0, 2),
    Row(352, 192, 320, 160, 224, "mean", 128, 1),
    Row(352, 192, 320, 192, 224, "max", 128, 1),
)


def bn_inception(
    *,
    width: float = 1.0,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    dropout: float = 0.0,
    attention: str = "none",
    reduction: int = REDUCTION,
    norm: BatchNormSpec = DEFAULT_NORM,
) -> ArchSpec:
    """BN-Inception of Fig. 5. width: scales every channel count (rounded to multiples of 8).

    attention, reduction: `nn.attention.attention_spec`'s, for every module.

    Raises: ConfigError: an option outside what is allowed.
    """
    check_input(width=width, in_chans=in_chans, resolution=resolution)
    first, second, channels = (make_divisible(c * width) for c in BN_INCEPTION_STEM)
    blocks: list[BlockSpec] = [
        ConvSpec(c_in=in_chans, c_out=first, kernel=7, stride=2, act="relu", norm=norm),
        PoolSpec(c_in=first),
        ConvSpec(c_in=first, c_out=second, kernel=1, act="relu", norm=norm),
        ConvSpec(c_in=second, c_out=channels, act="relu", norm=norm),
        PoolSpec(c_in=channels),
    ]
    for row in BN_INCEPTION_FIG_5:
        branches = _branches(row, channels, width, norm)
        channels = sum(branch[-1].c_out for branch in branches)
        gate = attention_spec(attention, channels, reduction)
        blocks.append(InceptionSpec(branches=branches, attention=gate))
    return ArchSpec(
        name="bn_inception" if attention == "none" else f"{attention}_inception",
        variant=f"r={reduction}" if reduction != REDUCTION and attention != "none" else "",
        width=width,
        in_chans=in_chans,
        resolution=resolution,
        blocks=tuple(blocks),
        head=ClassifierSpec(c_in=channels, num_classes=num_classes, dropout=dropout),
    )


def _branches(row: Row, c_in: int, width: float, norm: BatchNormSpec) -> tuple[Branch, ...]:
    """The four branches; without `one` or `proj` there is no 1x1 convolution in its place."""

    def conv(c_in: int, c_out: int, kernel: int, stride: int = 1) -> ConvSpec:
        return ConvSpec(c_in=c_in, c_out=c_out, kernel=kernel, stride=stride, act="relu", norm=norm)

    one, reduce_3, three, reduce_33, double_3, proj = (
        make_divisible(c * width) if c else 0
        for c in (row.one, row.reduce_3, row.three, row.reduce_33, row.double_3, row.proj)
    )
    pool = PoolSpec(c_in=c_in, pooling=row.pool, stride=row.s)
    return (
        *([(conv(c_in, one, 1),)] if one else []),
        (conv(c_in, reduce_3, 1), conv(reduce_3, three, 3, row.s)),
        (
            conv(c_in, reduce_33, 1),
            conv(reduce_33, double_3, 3),
            conv(double_3, double_3, 3, row.s),
        ),
        (pool, conv(c_in, proj, 1)) if proj else (pool,),
    )
