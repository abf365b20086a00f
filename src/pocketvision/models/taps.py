"""Maps inside a network: where a head for segmentation or detection stands on it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self, get_args

from torch import Tensor, nn

from pocketvision.errors import ConfigError, check_shape, choice, in_range
from pocketvision.models.arch import ArchSpec, BlockSpec, Network
from pocketvision.nn.blocks import InvertedResidual, InvertedResidualSpec
from pocketvision.nn.dense_heads import LrAsppSpec, RAsppSpec
from pocketvision.nn.layer import Layer, Size
from pocketvision.nn.ssdlite import SsdLiteSpec

At = Literal["output", "expansion"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tap:
    """A map inside a network. at: "expansion": behind the 1x1 expansion of an inverted residual."""

    block: int
    at: At = "output"

    def __post_init__(self) -> None:
        in_range("block", self.block, 0, math.inf)
        choice("at", self.at, get_args(At))


@dataclass(frozen=True, kw_only=True, slots=True)
class OnBackbone:
    """What networks that stand on the maps of a backbone have in common.

    backbone: its classifier is left away, and all behind the last map.
    """

    backbone: ArchSpec
    head: LrAsppSpec | RAsppSpec | SsdLiteSpec

    @property
    def width(self) -> float:
        """The multiplier of the backbone."""
        return self.backbone.width

    @property
    def in_chans(self) -> int:
        """Channels of the input."""
        return self.backbone.in_chans

    @property
    def resolution(self) -> int:
        """Side of the square input, pixels."""
        return self.backbone.resolution

    @property
    def num_classes(self) -> int:
        """Number of logits of each pixel, or of each anchor, of which the background is one."""
        return self.head.num_classes

    def at(self, resolution: int) -> Self:
        """The same network for another input size; weights fit both."""
        return dataclasses.replace(self, backbone=self.backbone.at(resolution))

    def with_classes(self, num_classes: int) -> Self:
        """The same network with another number of logits."""
        head = dataclasses.replace(self.head, num_classes=num_classes)
        return dataclasses.replace(self, head=head)


def channels_at(spec: ArchSpec, tap: Tap) -> int:
    """Channels of a map. Raises: ConfigError: the network has no such map."""
    block = _block(spec, tap)
    if tap.at == "output":
        return block.c_out
    assert isinstance(block, InvertedResidualSpec)
    return block.c_mid


def size_at(spec: ArchSpec, tap: Tap) -> Size:
    """Height and width of a map at the network's resolution. Raises: as `channels_at`."""
    _block(spec, tap)
    size: Size = (spec.resolution, spec.resolution)
    last = tap.block + (tap.at == "output")
    for block in spec.blocks[:last]:
        size = block.out_size(size)
    return size


def stride_at(spec: ArchSpec, tap: Tap) -> int:
    """Of a map, against the input. Raises: as `channels_at`."""
    _block(spec, tap)
    return math.prod(block.stride for block in spec.blocks[: tap.block + (tap.at == "output")])


def _block(spec: ArchSpec, tap: Tap) -> BlockSpec:
    if tap.block >= len(spec.blocks):
        raise ConfigError(
            f"{spec.label} has blocks 0 to {len(spec.blocks) - 1}; a map of block {tap.block} is "
            "not there."
        )
    block = spec.blocks[tap.block]
    if tap.at == "expansion" and not (isinstance(block, InvertedResidualSpec) and block.expand):
        raise ConfigError(f"Block {tap.block} of {spec.label} is {block.kind}, without expansion.")
    return block


def body_layers(spec: ArchSpec, taps: Sequence[Tap]) -> tuple[Layer, ...]:
    """All convolutions up to the last of the maps, as arithmetic; maps are kept until the end."""
    layers: list[Layer] = []
    size, kept = (spec.resolution, spec.resolution), 0
    for index, block in enumerate(spec.blocks[: last_block(taps) + 1]):
        layers += (dataclasses.replace(la, kept=la.kept + kept) for la in block.layers(size))
        size = block.out_size(size)
        for tap in taps:
            if tap.block == index:
                height, width = size_at(spec, tap)
                kept += channels_at(spec, tap) * height * width
    return tuple(layers)


def last_block(taps: Sequence[Tap]) -> int:
    """What lies behind it, no map needs."""
    return max(tap.block for tap in taps)


def tapped(blocks: nn.Sequential, taps: Sequence[Tap], x: Tensor) -> list[Tensor]:
    """(N, C, H, W) -> the maps of `taps`, in that order."""
    maps: dict[Tap, Tensor] = {}
    for index, block in enumerate(blocks):
        inside = Tap(block=index, at="expansion")
        if inside in taps:
            assert isinstance(block, InvertedResidual)
            maps[inside] = block.expanded(x)
            x = block.narrowed(maps[inside], x)
        else:
            x = block(x)
        if (output := Tap(block=index)) in taps:
            maps[output] = x
    return [maps[tap] for tap in taps]


def first_at(spec: ArchSpec, stride: int) -> Tap:
    """The first block whose output has a stride. Raises: ConfigError: none has."""
    return _at(spec, stride)[0]


def last_at(spec: ArchSpec, stride: int) -> Tap:
    """The last block whose output has a stride. Raises: ConfigError: none has."""
    return _at(spec, stride)[-1]


def _at(spec: ArchSpec, stride: int) -> list[Tap]:
    found, reached = [], 1
    for index, block in enumerate(spec.blocks):
        reached *= block.stride
        if reached == stride:
            found.append(Tap(block=index))
    if not found:
        raise ConfigError(
            f"{spec.label} has no map of stride {stride}; it has {sorted(spec.taps)}."
        )
    return found


class FeatureNetwork(nn.Module):
    """The body of a network alone: what a segmentation or detection head stands on.

    Shape:  (N, C, H, W) float, normalised -> a list of maps, one for each of `strides`.
    channels, strides: of the maps, in order. The last is the map before the pool, behind the last
    1x1 convolution where the network has one (timm leaves that out of some).
    """

    def __init__(self, network: Network, out_indices: tuple[int, ...]) -> None:
        super().__init__()
        self.spec = network.spec
        found = sorted(network.spec.taps.items())
        chosen = [found[index] for index in out_indices]
        self.strides = tuple(stride for stride, _ in chosen)
        self.taps = tuple(Tap(block=block) for _, block in chosen)
        self.channels = tuple(channels_at(network.spec, tap) for tap in self.taps)
        self.blocks = nn.Sequential(*list(network.blocks)[: last_block(self.taps) + 1])

    def forward(self, x: Tensor) -> list[Tensor]:
        check_shape("input", x.shape, (None, self.spec.in_chans, None, None))
        return tapped(self.blocks, self.taps, x)
