"""Ma et al., ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design,
arXiv 1807.11164v1.
"""

from __future__ import annotations

from typing import NamedTuple

from pocketvision.errors import ConfigError
from pocketvision.models.arch import ArchSpec, BlockSpec, check_input
from pocketvision.nn.conv import DEFAULT_NORM, BatchNormSpec, ConvSpec
from pocketvision.nn.heads import ClassifierSpec
from pocketvision.nn.pool import PoolSpec
from pocketvision.nn.shuffle import ShuffleV2Spec


class Column(NamedTuple):
    """Output channels of stages 2 to 4 and of the last convolution, at one complexity."""

    stage2: int
    stage3: int
    stage4: int
    conv5: int


SHUFFLENET_V2_STEM = 24
SHUFFLENET_V2_UNITS = (4, 8, 4)  # of stages 2 to 4; the first of each has stride 2
SHUFFLENET_V2_TABLE_5 = {
    #           s2   s3   s4  conv5
    0.5: Column(48, 96, 192, 1024),
    1.0: Column(116, 232, 464, 1024),
    1.5: Column(176, 352, 704, 1024),
    2.0: Column(244, 488, 976, 2048),
}


def shufflenet_v2(
    *,
    complexity: float = 1.0,
    width: float = 1.0,
    resolution: int = 224,
    num_classes: int = 1000,
    in_chans: int = 3,
    dropout: float = 0.0,
    norm: BatchNormSpec = DEFAULT_NORM,
) -> ArchSpec:
    """ShuffleNetV2. complexity: a column of Table 5; each is a network of its own name.

    width: 1, since the columns are no multiples of each other.

    Raises: ConfigError: an option outside what is allowed.
    """
    if complexity not in SHUFFLENET_V2_TABLE_5:
        raise ConfigError(
            f"complexity={complexity} is no column of Table 5; expected one of "
            f"{list(SHUFFLENET_V2_TABLE_5)}."
        )
    if width != 1.0:
        names = ", ".join(_name(column) for column in SHUFFLENET_V2_TABLE_5)
        raise ConfigError(
            f"width={width} is not allowed for {_name(complexity)}, whose widths are those of the "
            f"paper; expected 1, or another of its networks: {names}."
        )
    check_input(width=width, in_chans=in_chans, resolution=resolution)
    *stages, last = SHUFFLENET_V2_TABLE_5[complexity]
    channels = SHUFFLENET_V2_STEM
    blocks: list[BlockSpec] = [
        ConvSpec(c_in=in_chans, c_out=channels, stride=2, act="relu", norm=norm),
        PoolSpec(c_in=channels, pooling="max"),
    ]
    for c_out, units in zip(stages, SHUFFLENET_V2_UNITS, strict=True):
        for index in range(units):
            stride = 2 if index == 0 else 1
            blocks.append(ShuffleV2Spec(c_in=channels, c_out=c_out, stride=stride, norm=norm))
            channels = c_out
    blocks.append(ConvSpec(c_in=channels, c_out=last, kernel=1, act="relu", norm=norm))
    return ArchSpec(
        name=_name(complexity),
        width=width,
        in_chans=in_chans,
        resolution=resolution,
        blocks=tuple(blocks),
        head=ClassifierSpec(c_in=last, num_classes=num_classes, dropout=dropout),
    )


def _name(complexity: float) -> str:
    return f"shufflenet_v2_x{complexity:.1f}".replace(".", "_")
