"""Accuracies on ImageNet that the papers and their authors' checkpoints report; no torch here.

MACs are this package's count at 1000 classes, so that a network can be placed between the figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from pocketvision.errors import ConfigError, choice
from pocketvision.record.files import Prior


class Point(NamedTuple):
    """One published network: width multiplier, input side, multiply-accumulates, top-1 (0..1)."""

    width: float
    resolution: int
    macs: int
    top1: float


# The authors' TensorFlow checkpoints of 2018-02-22 (float), up to 0.9 points off the paper.
V1_CHECKPOINTS = (
    #     width  res        MACs   top-1
    Point(1.0, 224, 568_740_352, 0.709),
    Point(1.0, 192, 418_121_728, 0.700),
    Point(1.0, 160, 290_675_200, 0.680),
    Point(1.0, 128, 186_400_768, 0.652),
    Point(0.75, 224, 325_400_448, 0.684),
    Point(0.75, 192, 239_273_472, 0.672),
    Point(0.75, 160, 166_396_800, 0.653),
    Point(0.75, 128, 106_770_432, 0.621),
    Point(0.5, 224, 149_497_088, 0.633),
    Point(0.5, 192, 109_970_432, 0.617),
    Point(0.5, 160, 76_524_800, 0.591),
    Point(0.5, 128, 49_160_192, 0.563),
    Point(0.25, 224, 41_030_272, 0.498),
    Point(0.25, 192, 30_212_608, 0.477),
    Point(0.25, 160, 21_059_200, 0.455),
    Point(0.25, 128, 13_570_048, 0.415),
)
V1_TABLE_4_FULL = (
    #     width  res        MACs   top-1
    Point(1.0, 224, 4_867_293_184, 0.717),
)
V1_TABLE_5_SHALLOW = (
    #     width  res        MACs   top-1
    Point(1.0, 224, 307_323_392, 0.653),
)
# The authors' TensorFlow checkpoints, one per width and resolution; the paper has 72.0 for 1.0
# and 74.7 for 1.4.
V2_CHECKPOINTS = (
    #     width  res        MACs   top-1
    Point(1.4, 224, 582_195_824, 0.750),
    Point(1.3, 224, 509_374_560, 0.744),
    Point(1.0, 224, 300_774_272, 0.718),
    Point(1.0, 192, 221_316_608, 0.707),
    Point(1.0, 160, 154_083_200, 0.688),
    Point(1.0, 128, 99_074_048, 0.653),
    Point(1.0, 96, 56_289_152, 0.603),
    Point(0.75, 224, 209_069_792, 0.698),
    Point(0.75, 192, 153_941_888, 0.687),
    Point(0.75, 160, 107_295_200, 0.664),
    Point(0.75, 128, 69_129_728, 0.632),
    Point(0.75, 96, 39_445_472, 0.588),
    Point(0.5, 224, 97_131_840, 0.654),
    Point(0.5, 192, 71_701_760, 0.639),
    Point(0.5, 160, 50_184_000, 0.610),
    Point(0.5, 128, 32_578_560, 0.577),
    Point(0.5, 96, 18_885_440, 0.512),
    Point(0.35, 224, 59_285_808, 0.603),
    Point(0.35, 192, 43_896_512, 0.582),
    Point(0.35, 160, 30_874_800, 0.557),
    Point(0.35, 128, 20_220_672, 0.508),
    Point(0.35, 96, 11_934_128, 0.455),
)
# Searching for MobileNetV3, arXiv 1905.02244v5, Table 9 (also for Small below).
V3_TABLE_9_LARGE = (
    #     width  res        MACs   top-1
    Point(1.25, 224, 355_221_920, 0.766),
    Point(1.0, 256, 281_663_360, 0.760),
    Point(1.0, 224, 216_589_760, 0.752),
    Point(1.0, 192, 160_192_640, 0.737),
    Point(1.0, 160, 112_472_000, 0.717),
    Point(1.0, 128, 73_427_840, 0.684),
    Point(1.0, 96, 43_060_160, 0.633),
    Point(0.75, 224, 154_560_624, 0.733),
    Point(0.5, 224, 69_247_600, 0.688),
    Point(0.35, 224, 39_472_336, 0.642),
)
V3_TABLE_9_SMALL = (
    #     width  res        MACs   top-1
    Point(1.25, 224, 90_800_864, 0.704),
    Point(1.0, 256, 73_175_040, 0.685),
    Point(1.0, 224, 56_510_400, 0.675),
    Point(1.0, 192, 42_067_712, 0.654),
    Point(1.0, 160, 29_846_976, 0.628),
    Point(1.0, 128, 19_848_192, 0.573),
    Point(1.0, 96, 12_071_360, 0.517),
    Point(0.75, 224, 43_399_344, 0.654),
    Point(0.5, 224, 21_052_560, 0.580),
    Point(0.35, 224, 12_815_840, 0.498),
)
# The authors' README of their checkpoints (also for Small below).
V3_LARGE_MINIMALISTIC = (
    #     width  res        MACs   top-1
    Point(1.0, 224, 209_136_704, 0.723),
)
V3_SMALL_MINIMALISTIC = (
    #     width  res        MACs   top-1
    Point(1.0, 224, 52_288_448, 0.619),
)

# Hu et al., Squeeze-and-Excitation Networks, arXiv 1709.01507v4: the authors' own training.
SENET_TABLE_2 = {
    #                        width  res            MACs   top-1
    "resnet50": (Point(1.0, 224, 4_089_184_256, 0.7520),),
    "resnet101": (Point(1.0, 224, 7_801_405_440, 0.7683),),
    "resnet152": (Point(1.0, 224, 11_513_626_624, 0.7758),),
    "se_resnet50": (Point(1.0, 224, 4_091_699_200, 0.7671),),
    "se_resnet101": (Point(1.0, 224, 7_806_148_608, 0.7762),),
    "se_resnet152": (Point(1.0, 224, 11_520_204_800, 0.7843),),
    "bn_inception": (Point(1.0, 224, 2_032_600_064, 0.7462),),
    "se_inception": (Point(1.0, 224, 2_033_239_424, 0.7577),),
}
# Woo et al., CBAM, arXiv 1807.06521v2; its other rows are networks of the table above.
CBAM_TABLE_4 = {
    #                        width  res            MACs   top-1
    "resnet18": (Point(1.0, 224, 1_814_073_344, 0.7040),),
    "resnet34": (Point(1.0, 224, 3_663_761_408, 0.7331),),
    "se_resnet18": (Point(1.0, 224, 1_814_160_384, 0.7059),),
    "se_resnet34": (Point(1.0, 224, 3_663_918_592, 0.7387),),
    "cbam_resnet18": (Point(1.0, 224, 1_815_063_764, 0.7073),),
    "cbam_resnet34": (Point(1.0, 224, 3_665_434_742, 0.7401),),
    "cbam_resnet50": (Point(1.0, 224, 4_095_573_110, 0.7734),),
    "cbam_resnet101": (Point(1.0, 224, 7_812_577_278, 0.7849),),
}

# Zhang et al., ShuffleNet, arXiv 1707.01083v2, Table 2; 1.5 and 2 with three groups: Table 5.
SHUFFLENET_TABLE_2 = {
    "shufflenet_v1_g1": (
        #     width  res        MACs   top-1
        Point(1.0, 224, 143_078_976, 0.664),
        Point(0.5, 224, 38_517_408, 0.549),
        Point(0.25, 224, 13_162_320, 0.429),
    ),
    "shufflenet_v1_g2": (
        #     width  res        MACs   top-1
        Point(1.0, 224, 140_836_512, 0.673),
        Point(0.5, 224, 38_914_784, 0.556),
        Point(0.25, 224, 14_226_936, 0.432),
    ),
    "shufflenet_v1_g3": (
        #     width  res        MACs   top-1
        Point(2.0, 224, 524_045_184, 0.737),
        Point(1.5, 224, 292_443_552, 0.715),
        Point(1.0, 224, 137_460_672, 0.674),
        Point(0.5, 224, 37_589_856, 0.568),
        Point(0.25, 224, 13_300_656, 0.450),
    ),
    "shufflenet_v1_g4": (
        #     width  res        MACs   top-1
        Point(1.0, 224, 134_339_776, 0.672),
        Point(0.5, 224, 37_943_936, 0.584),
        Point(0.25, 224, 14_609_008, 0.458),
    ),
    "shufflenet_v1_g8": (
        #     width  res        MACs   top-1
        Point(1.0, 224, 138_365_952, 0.676),
        Point(0.5, 224, 40_469_760, 0.577),
        Point(0.25, 224, 15_719_040, 0.473),
    ),
}
# Ma et al., ShuffleNet V2, arXiv 1807.11164v1, Table 8.
SHUFFLENET_V2_TABLE_8 = {
    #                             width  res          MACs   top-1
    "shufflenet_v2_x0_5": (Point(1.0, 224, 40_476_448, 0.603),),
    "shufflenet_v2_x1_0": (Point(1.0, 224, 144_907_992, 0.694),),
    "shufflenet_v2_x1_5": (Point(1.0, 224, 295_759_392, 0.726),),
    "shufflenet_v2_x2_0": (Point(1.0, 224, 583_253_464, 0.749),),
}
# Tan et al., MnasNet, arXiv 1807.11626v3, Table 1.
MNASNET_TABLE_1 = {
    #                     width  res          MACs   top-1
    "mnasnet_a1": (Point(1.0, 224, 311_579_072, 0.752),),
}

_PUBLISHED: dict[str, tuple[Point, ...]] = {
    **SHUFFLENET_TABLE_2,
    **SHUFFLENET_V2_TABLE_8,
    **MNASNET_TABLE_1,
    **SENET_TABLE_2,
    **CBAM_TABLE_4,
    "mobilenet_v1": V1_CHECKPOINTS,
    "mobilenet_v1_full": V1_TABLE_4_FULL,
    "mobilenet_v1_shallow": V1_TABLE_5_SHALLOW,
    "mobilenet_v2": V2_CHECKPOINTS,
    "mobilenet_v3_large": V3_TABLE_9_LARGE,
    "mobilenet_v3_large_minimalistic": V3_LARGE_MINIMALISTIC,
    "mobilenet_v3_small": V3_TABLE_9_SMALL,
    "mobilenet_v3_small_minimalistic": V3_SMALL_MINIMALISTIC,
}
PUBLISHED = dict(sorted(_PUBLISHED.items()))
_SIBLINGS = {  # whose curve stands in for a network with a single figure
    **dict.fromkeys([*SENET_TABLE_2, *CBAM_TABLE_4], "mobilenet_v1"),
    **dict.fromkeys([*SHUFFLENET_V2_TABLE_8, *MNASNET_TABLE_1], "mobilenet_v2"),
    "mobilenet_v1_full": "mobilenet_v1",
    "mobilenet_v1_shallow": "mobilenet_v1",
    "mobilenet_v3_large_minimalistic": "mobilenet_v3_large",
    "mobilenet_v3_small_minimalistic": "mobilenet_v3_small",
}
_LOWEST, _HIGHEST = 0.001, 0.999


def prior(name: str, macs: int, width: float, resolution: int) -> Prior:
    """The ImageNet top-1 to expect of a network.

    The published figure, where there is one for this width and resolution. Otherwise a line between
    the network's own figures over log MACs, through those that no cheaper network of the table
    beats, so that more MACs never give less. Outside their range the line of the two nearest goes
    on. A network with one figure follows its sibling's line, moved to meet that figure.

    macs: at 1000 classes; the width and resolution only look up published figures.
    Raises: ConfigError: an unknown name, macs below 1.
    """
    points = PUBLISHED[choice("model", name, PUBLISHED)]
    if macs < 1:
        raise ConfigError(f"macs={macs} is not allowed; expected a count above 0.")
    for point in points:
        if (point.width, point.resolution) == (width, resolution):
            return Prior(top1=point.top1, source="published")
    if name in _SIBLINGS:
        front = _front(PUBLISHED[_SIBLINGS[name]])
        own = points[0]
        top1 = own.top1 + _on_line(front, macs) - _on_line(front, own.macs)
        return Prior(top1=_clamp(top1), source="extrapolated")
    front = _front(points)
    inside = front[0].macs <= macs <= front[-1].macs
    return Prior(
        top1=_clamp(_on_line(front, macs)), source="interpolated" if inside else "extrapolated"
    )


def _front(points: Sequence[Point]) -> list[Point]:
    """Points by rising MACs, without those that a cheaper one equals or beats."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.macs, -point.top1)):
        if not front or point.top1 > front[-1].top1:
            front.append(point)
    return front


def _on_line(front: Sequence[Point], macs: int) -> float:
    """Top-1 on the line through `front` over log MACs; its end pieces go on without end."""
    right = next((i for i, point in enumerate(front) if point.macs >= macs), len(front) - 1)
    low, high = front[max(right, 1) - 1], front[max(right, 1)]
    share = math.log(macs / low.macs) / math.log(high.macs / low.macs)
    return low.top1 + share * (high.top1 - low.top1)


def _clamp(top1: float) -> float:
    return min(max(top1, _LOWEST), _HIGHEST)
