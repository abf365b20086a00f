"""The stacks of blocks by which ShuffleNetV2 derives its four guidelines.

Channel counts are multiples of 16 (per group), the block of ONNX Runtime's convolutions, so that
what differs between two rows is what the guideline is about.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from timing import Graph

from pocketvision.nn.conv import Act, ConvSpec
from pocketvision.nn.layer import Layer

BLOCKS = 10  # stacked, as in the paper


class Speeds(NamedTuple):
    """Batches/s on the paper's GPU, images/s on its ARM processor."""

    gpu: float
    arm: float


class Variant(NamedTuple):
    """Ten equal blocks. Convolutions follow each other, or are parallel and their outputs added.

    speeds: what the paper prints for its smallest networks; None where it has no such row.
    side: of the square map, pixels; nothing here has a stride.
    """

    name: str
    convolutions: tuple[ConvSpec, ...]
    speeds: Speeds | None = None
    side: int = 28
    parallel: bool = False
    shortcut: bool = False
    relu: bool = False  # after the last convolution and the shortcut


class Guideline(NamedTuple):
    """A table of the paper, and the same at fewer channels on a larger map.

    The first row of each is what its others are compared with.
    """

    name: str
    table: int
    claim: str
    has_formula: bool  # the paper gives the memory access cost (MAC)
    wide: tuple[Variant, ...]
    narrow: tuple[Variant, ...]


def pointwise(*channels: int, groups: int = 1) -> tuple[ConvSpec, ...]:
    """1x1 convolutions from each channel count to the next, without norm and activation."""
    return tuple(
        ConvSpec(c_in=c_in, c_out=c_out, kernel=1, groups=groups, act="none", norm=None)
        for c_in, c_out in itertools.pairwise(channels)
    )


def bottleneck(c: int, c_mid: int, act: Act) -> tuple[ConvSpec, ...]:
    """1x1, 3x3 and 1x1 convolution; the activation follows the first two."""
    return (
        ConvSpec(c_in=c, c_out=c_mid, kernel=1, act=act, norm=None),
        ConvSpec(c_in=c_mid, c_out=c_mid, act=act, norm=None),
        ConvSpec(c_in=c_mid, c_out=c, kernel=1, act="none", norm=None),
    )


_RELU, _PLAIN = bottleneck(256, 64, "relu"), bottleneck(256, 64, "none")
_THIN_RELU, _THIN_PLAIN = bottleneck(64, 16, "relu"), bottleneck(64, 16, "none")

GUIDELINES = (
    Guideline(
        "G1",
        1,
        "equal channel width minimises memory access",
        True,
        (  # c1, c2: products equal within 0.7 %
            Variant("c1:c2 = 1:1, (384, 384)", pointwise(384, 384, 384), Speeds(1480, 76.2)),
            Variant("1:2, (272, 544)", pointwise(272, 544, 272), Speeds(1296, 72.9)),
            Variant("1:6, (160, 928)", pointwise(160, 928, 160), Speeds(876, 69.1)),
            Variant("1:12, (112, 1312)", pointwise(112, 1312, 112), Speeds(748, 57.6)),
        ),
        (
            Variant("narrow, 1:1, (64, 64)", pointwise(64, 64, 64), side=56),
            Variant("narrow, 1:4, (32, 128)", pointwise(32, 128, 32), side=56),
            Variant("narrow, 1:16, (16, 256)", pointwise(16, 256, 16), side=56),
        ),
    ),
    Guideline(
        "G2",
        2,
        "group convolution increases memory access",
        True,
        (  # c^2 / g: equal within 0.4 %
            Variant("g = 1, c = 544", pointwise(544, 544), Speeds(2451, 40.0)),
            Variant("g = 2, c = 768", pointwise(768, 768, groups=2), Speeds(1725, 35.0)),
            Variant("g = 4, c = 1088", pointwise(1088, 1088, groups=4), Speeds(1026, 32.9)),
            Variant("g = 8, c = 1536", pointwise(1536, 1536, groups=8), Speeds(634, 27.8)),
        ),
        (
            Variant("narrow, g = 1, c = 64", pointwise(64, 64), side=56),
            Variant("narrow, g = 4, c = 128", pointwise(128, 128, groups=4), side=56),
            Variant("narrow, g = 16, c = 256", pointwise(256, 256, groups=16), side=56),
        ),
    ),
    Guideline(
        "G3",
        3,
        "fragmentation reduces parallelism",
        False,
        (  # convolutions x c^2: equal within 0.4 %
            Variant("1 fragment, c = 384", pointwise(384, 384), Speeds(2446, 40.2)),
            Variant("2 in series, c = 272", pointwise(272, 272) * 2, Speeds(1790, 38.6)),
            Variant("4 in series, c = 192", pointwise(192, 192) * 4, Speeds(752, 38.4)),
            Variant(
                "2 in parallel, c = 272", pointwise(272, 272) * 2, Speeds(1537, 33.4), parallel=True
            ),
            Variant(
                "4 in parallel, c = 192", pointwise(192, 192) * 4, Speeds(691, 35.0), parallel=True
            ),
        ),
        (
            Variant("narrow, 1 fragment, c = 64", pointwise(64, 64), side=56),
            Variant("narrow, 4 in series, c = 32", pointwise(32, 32) * 4, side=56),
            Variant("narrow, 4 in parallel, c = 32", pointwise(32, 32) * 4, side=56, parallel=True),
        ),
    ),
    Guideline(
        "G4",
        4,
        "element-wise operations are not negligible",
        False,
        (
            Variant(
                "ReLU and shortcut, c = 256", _RELU, Speeds(2427, 56.7), shortcut=True, relu=True
            ),
            Variant("ReLU, no shortcut", _RELU, Speeds(2647, 61.9), relu=True),
            Variant("no ReLU, shortcut", _PLAIN, Speeds(2672, 57.3), shortcut=True),
            Variant("neither", _PLAIN, Speeds(2842, 66.3)),
        ),
        (
            Variant("narrow, both, c = 64", _THIN_RELU, side=56, shortcut=True, relu=True),
            Variant("narrow, ReLU, no shortcut", _THIN_RELU, side=56, relu=True),
            Variant("narrow, no ReLU, shortcut", _THIN_PLAIN, side=56, shortcut=True),
            Variant("narrow, neither", _THIN_PLAIN, side=56),
        ),
    ),
)


def layers(variant: Variant) -> tuple[Layer, ...]:
    """The convolutions of all blocks as arithmetic."""
    return tuple(one.layer((variant.side, variant.side)) for one in variant.convolutions) * BLOCKS


def macs(variant: Variant) -> int:
    """Multiply-accumulates of all blocks."""
    return sum(layer.macs for layer in layers(variant))


def memory_access(variant: Variant) -> int:
    """Elements read and written by 1x1 convolutions: hw(c1 + c2) + c1 c2 / g, summed.

    Source: Ma et al., ShuffleNet V2, section 2, eq. 1 and 2, where it is called MAC.
    """
    return sum(
        layer.in_elements + layer.out_elements + layer.c_in * layer.c_out // layer.groups
        for layer in layers(variant)
    )


def graph(variant: Variant) -> Graph:
    """The blocks, stacked on a convolution from one channel.

    Without it the first shortcut would bring the runtime out of the layout it convolves in, and all
    that follow with it.
    """
    made = Graph((1, 1, variant.side, variant.side))
    first = ConvSpec(c_in=1, c_out=variant.convolutions[0].c_in, kernel=1, act="none", norm=None)
    x = made.conv("x", first)
    for _ in range(BLOCKS):
        x = _block(made, x, variant)
    return made


def _block(made: Graph, x: str, variant: Variant) -> str:
    if variant.parallel:
        out, *others = (made.conv(x, one) for one in variant.convolutions)
        for other in others:
            out = made.op("Add", out, other)
        return out
    out = x
    for one in variant.convolutions:
        out = made.conv(out, one)
    if variant.shortcut:
        out = made.op("Add", out, x)
    return made.op("Relu", out) if variant.relu else out
