"""Zhang et al., ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices,
arXiv 1707.01083v2.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from pocketvision.errors import ConfigError
from pocketvision.models.arch import ArchSpec, BlockSpec, check_input
from pocketvision.nn.conv import DEFAULT_NORM, BatchNormSpec, ConvSpec
from pocketvision.nn.heads import ClassifierSpec
from pocketvision.nn.pool import PoolSpec
from pocketvision.nn.shuffle import ShuffleV1Spec


class Row(NamedTuple):
    """n units, the first of stride 2; output channels for each number of groups."""

    n: int
    g1: int
    g2: int
    g3: int
    g4: int
    g8: int

    def channels(self, groups: int) -> int:
        """The column of `groups`."""
        return self[1 + GROUPS.index(groups)]


GROUPS = (1, 2, 3, 4, 8)
SHUFFLENET_STEM = 24
SHUFFLENET_TABLE_1 = (
    #   n   g1   g2   g3    g4    g8
    Row(4, 144, 200, 240, 272, 384),
    Row(8, 288, 400, 480, 544, 768),
    Row(4, 576, 800, 960, 1088, 1536),
)


def shufflenet_v1(
    *,
    groups: int = 3,
    width: float = 1.0,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    dropout: float = 0.0,
    norm: BatchNormSpec = DEFAULT_NORM,
    shuffle: bool = True,
) -> ArchSpec:
    """ShuffleNet. groups: g, of the 1x1 convolutions. width: s, scales every channel count.

    Stage widths are rounded up to multiples of 4 g, so that the quarter inside a unit divides into
    groups. The stem scales by the highest power of 2 up to s, but not below 12 channels, rounded up
    to a multiple of g: the paper's complexities follow with 12, 12, 24, 24 and 48 channels at 0.25,
    0.5, 1, 1.5 and 2; the authors' code has those from 0.5 up.
    shuffle: False is the network of Table 3 without shuffle.

    Raises: ConfigError: an option outside what is allowed.
    """
    check_input(width=width, in_chans=in_chans, resolution=resolution)
    if groups not in GROUPS:
        raise ConfigError(
            f"groups={groups} has no widths in Table 1 of the paper; expected one of {GROUPS}."
        )
    channels = _round_up(max(0.5, 2.0 ** math.floor(math.log2(width))) * SHUFFLENET_STEM, groups)
    blocks: list[BlockSpec] = [
        ConvSpec(c_in=in_chans, c_out=channels, stride=2, act="relu", norm=norm),
        PoolSpec(c_in=channels, pooling="max"),
    ]
    for stage, row in enumerate(SHUFFLENET_TABLE_1):
        c_out = _round_up(row.channels(groups) * width, 4 * groups)
        for index in range(row.n):
            blocks.append(
                ShuffleV1Spec(
                    c_in=channels,
                    c_out=c_out,
                    groups=groups,
                    stride=2 if index == 0 else 1,
                    first_grouped=(stage, index) != (0, 0),  # few channels come from the stem
                    shuffle=shuffle,
                    norm=norm,
                )
            )
            channels = c_out
    return ArchSpec(
        name=f"shufflenet_v1_g{groups}",
        variant="" if shuffle else "no shuffle",
        width=width,
        in_chans=in_chans,
        resolution=resolution,
        blocks=tuple(blocks),
        head=ClassifierSpec(c_in=channels, num_classes=num_classes, dropout=dropout),
    )


def _round_up(channels: float, divisor: int) -> int:
    whole = math.ceil(round(channels, 6))  # 200 * 0.56 is a little above 112
    return -(-whole // divisor) * divisor
