"""A network described once, as data, and the module built from it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import pydantic
import torch
from torch import Tensor, nn

from pocketvision.errors import ConfigError, at_least, check_shape, in_range
from pocketvision.nn.blocks import InvertedResidualSpec, SeparableSpec
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.heads import ClassifierSpec
from pocketvision.nn.inception import InceptionSpec
from pocketvision.nn.layer import Layer, Size
from pocketvision.nn.pool import PoolSpec
from pocketvision.nn.residual import BasicResidualSpec, BottleneckSpec
from pocketvision.nn.shuffle import ShuffleV1Spec, ShuffleV2Spec

Attentive = (  # blocks that can carry attention
    SeparableSpec
    | InvertedResidualSpec
    | BasicResidualSpec
    | BottleneckSpec
    | InceptionSpec
    | ShuffleV1Spec
    | ShuffleV2Spec
)
BlockSpec = Annotated[ConvSpec | PoolSpec | Attentive, pydantic.Discriminator("kind")]

Module = TypeVar("Module", bound=nn.Module)

MIN_RESOLUTION = 32  # below, the strides of these networks leave nothing to look at
MIN_WIDTH, MAX_WIDTH = 0.1, 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchSpec:
    """A classifier as data: input, blocks (the stem included), head. Derive with `replace`.

    name: the registry's name of what it was built as. width: the multiplier it was built with.
    variant: in words, what else differs from the network of that name. resolution: side of the
    square input, pixels, from the product of all strides up: that leaves the last map a place.

    Raises: ConfigError: a field outside what is allowed, widths that do not chain.
    """

    name: str
    variant: str = ""
    width: float
    in_chans: int
    resolution: int
    blocks: tuple[BlockSpec, ...]
    head: ClassifierSpec

    def __post_init__(self) -> None:
        check_input(width=self.width, in_chans=self.in_chans)
        if not self.blocks:
            raise ConfigError(f"{self.name} has no blocks; expected at least one.")
        at_least("resolution", self.resolution, math.prod(block.stride for block in self.blocks))
        channels, source = self.in_chans, "the input"
        for index, block in enumerate(self.blocks):
            _check_chain(f"block {index}", block.c_in, channels, source)
            channels, source = block.c_out, f"block {index}"
        _check_chain("the head", self.head.c_in, channels, source)

    @property
    def label(self) -> str:
        """For people, such as "mobilenet_v3_small x0.75 @96"."""
        variant = f" ({self.variant})" if self.variant else ""
        return f"{self.name}{variant} x{self.width:g} @{self.resolution}"

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return self.head.num_classes

    @property
    def taps(self) -> dict[int, int]:
        """For every stride above 1: the index of the last block whose output has it."""
        taps, stride = {}, 1
        for index, block in enumerate(self.blocks):
            stride *= block.stride
            taps[stride] = index
        return {stride: index for stride, index in taps.items() if stride > 1}

    @property
    def feature_channels(self) -> dict[int, int]:
        """Channels of each map that `Network.features` returns, by stride."""
        return {stride: self.blocks[index].c_out for stride, index in self.taps.items()}

    def at(self, resolution: int) -> ArchSpec:
        """The same network for another input size; weights fit both."""
        return dataclasses.replace(self, resolution=resolution)

    def layers(self) -> tuple[Layer, ...]:
        """All convolutions and linear layers in order, as arithmetic at `resolution`."""
        layers: list[Layer] = []
        size: Size = (self.resolution, self.resolution)
        for block in self.blocks:
            layers += block.layers(size)
            size = block.out_size(size)
        return (*layers, *self.head.layers(size))

    def build(self, seed: int | None = None) -> Network:
        """The module with new weights.

        seed: the same seed gives the same weights on the CPU, and leaves the global random state
        alone; None: the weights come from the global random state.
        """
        return new_module(lambda: Network(self), lambda new: new.apply(initialise), seed)

    def with_classes(self, num_classes: int) -> ArchSpec:
        """The same network with another number of logits."""
        return dataclasses.replace(
            self, head=dataclasses.replace(self.head, num_classes=num_classes)
        )


def check_input(*, width: float, in_chans: int, resolution: int = MIN_RESOLUTION) -> None:
    """Raises: ConfigError: a multiplier, channel count or input side outside what is allowed."""
    in_range("width", width, MIN_WIDTH, MAX_WIDTH)
    at_least("in_chans", in_chans, 1)
    at_least("resolution", resolution, MIN_RESOLUTION)


def _check_chain(name: str, c_in: int, channels: int, source: str) -> None:
    if c_in != channels:
        raise ConfigError(
            f"{name} takes {c_in} channels, but {source} gives {channels}; "
            f"set its c_in to {channels}."
        )


class Network(nn.Module):
    """The module of an `ArchSpec`; `ArchSpec.build` makes one, with new weights.

    Shape:  (N, C, H, W) float, normalised -> (N, num_classes) logits; any H and W.
    Raises: ConfigError: an input with other than `spec.in_chans` channels.

    Names in the state dict ("blocks.3.depthwise.conv.weight", "head.classifier.bias") are kept from
    version to version: saved weights depend on them.
    """

    def __init__(self, spec: ArchSpec) -> None:
        super().__init__()
        self.spec = spec
        self.blocks = nn.Sequential(*(block.build() for block in spec.blocks))
        self.head = spec.head.build()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.forward_features(x))
        return logits

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map, before the pool: (N, C, H, W)."""
        check_shape("input", x.shape, (None, self.spec.in_chans, None, None))
        features: Tensor = self.blocks(x)
        return features

    def features(self, x: Tensor) -> dict[int, Tensor]:
        """The last map of each stride: {2: (N, C, H / 2, W / 2), 4: ...}, sizes rounded up.

        Which strides there are, and their channels, is in `spec.feature_channels`.
        """
        check_shape("input", x.shape, (None, self.spec.in_chans, None, None))
        strides = {index: stride for stride, index in self.spec.taps.items()}
        features = {}
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in strides:
                features[strides[index]] = x
        return features

    def reset_classifier(self, num_classes: int) -> None:
        """Put a new head with `num_classes` logits in place; everything else stays.

        Raises: ConfigError: num_classes below 1.
        """
        self.spec = self.spec.with_classes(num_classes)
        place = self.head.classifier.weight
        head = self.spec.head.build().apply(initialise).to(place.device, place.dtype)
        kept = {k: v for k, v in self.head.state_dict().items() if not k.startswith("classifier.")}
        head.load_state_dict(kept, strict=False)
        self.head = head.train(self.training)


def new_module(
    make: Callable[[], Module], fill: Callable[[Module], object], seed: int | None
) -> Module:
    """A module with new weights, which are written once: its parts would draw some in vain.

    fill: writes them. seed: as that of `ArchSpec.build`.
    """
    with torch.device("meta"):
        module = make()
    module = module.to_empty(device="cpu")
    with contextlib.nullcontext() if seed is None else torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        fill(module)
    return module


def initialise(module: nn.Module) -> None:
    """New weights, as torchvision has them for the MobileNets; for `nn.Module.apply`."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.01)
    elif isinstance(module, nn.BatchNorm2d):
        module.reset_parameters()
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
