"""A network that names the pixel at the centre of a window, described as data."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Annotated, Literal

import pydantic
import torch
from torch import Tensor, nn

from pocketvision.errors import ConfigError, at_least, check_shape, in_range
from pocketvision.nn.attention import Attention
from pocketvision.nn.blocks import InvertedResidualSpec
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.layer import Layer, Size
from pocketvision.nn.volume import VolumeSpec

PlaneSpec = Annotated[ConvSpec | InvertedResidualSpec, pydantic.Discriminator("kind")]

MAX_WINDOW = 101


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchHeadSpec:
    """From the last map of a window to class scores: attention, linear layers with ReLU, logits.

    size: side of the map. attention: over the window's map, so that each pixel has its own gates.
    hidden: widths between map and logits. dropout: behind each hidden layer, or before the logits
    where there is none; 0 to below 1.

    Raises: ConfigError: a field outside what is allowed.
    """

    kind: Literal["patch_head"] = "patch_head"
    c_in: int
    size: int
    num_classes: int
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    attention: Attention | None = None

    def __post_init__(self) -> None:
        for name in ("c_in", "size", "num_classes"):
            at_least(name, getattr(self, name), 1)
        for width in self.hidden:
            at_least("hidden", width, 1)
        in_range("dropout", self.dropout, 0.0, 0.99)

    @property
    def widths(self) -> tuple[int, ...]:
        """Of every linear layer's input, and of the logits."""
        return (self.c_in * self.size**2, *self.hidden, self.num_classes)

    def build(self) -> PatchHead:
        """The module, newly initialised."""
        return PatchHead(self)

    def layers(self) -> tuple[Layer, ...]:
        """Attention and linear layers as arithmetic, for one window."""
        side = (self.size, self.size)
        attention = self.attention.layers(self.c_in, side) if self.attention else ()
        linear = tuple(
            Layer(kind="linear", c_in=c_in, c_out=c_out, bias=True)
            for c_in, c_out in itertools.pairwise(self.widths)
        )
        return attention + linear


class PatchHead(nn.Module):
    """Shape: (N, c_in, size, size) float -> (N, num_classes) logits."""

    def __init__(self, spec: PatchHeadSpec) -> None:
        super().__init__()
        self.attention = spec.attention.build(spec.c_in) if spec.attention else None
        *widths, last = spec.widths
        self.hidden = nn.ModuleList(
            nn.Linear(c_in, c_out) for c_in, c_out in itertools.pairwise(widths)
        )
        self.act = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(widths[-1], last)

    def forward(self, windows: Tensor) -> Tensor:
        if self.attention is not None:
            windows = self.attention(windows)
        x = windows.flatten(1)
        if not self.hidden:
            x = self.dropout(x)
        for linear in self.hidden:
            x = self.dropout(self.act(linear(x)))
        logits: Tensor = self.classifier(x)
        return logits


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchSpec:
    """A patch classifier as data: 3-D convolutions, the fold of bands into channels, 2-D, head.

    bands: after reduction. window: side of the square input, odd, pixels. variant: in words, how it
    departs from the network of its name. Every convolution is without padding, and attention is the
    head's, so that a whole scene gives the same numbers as its windows one by one.

    Raises: ConfigError: a field outside what is allowed, widths or sizes that do not chain.
    """

    name: str
    bands: int
    window: int
    volumes: tuple[VolumeSpec, ...]
    planes: tuple[PlaneSpec, ...]
    head: PatchHeadSpec
    variant: str = ""

    def __post_init__(self) -> None:
        check_window(self.window)
        at_least("bands", self.bands, 1)
        channels, bands, size = 1, self.bands, (self.window, self.window)
        for volume in self.volumes:
            _check_chain("a 3-D convolution", volume.c_in, channels)
            channels, bands, size = volume.c_out, volume.out_bands(bands), volume.out_size(size)
        if bands < 1:
            need = self.bands - bands + 1
            raise ConfigError(f"{self.name} needs at least {need} bands; got {self.bands}.")
        channels *= bands
        for plane in self.planes:
            _check_chain("a 2-D block", plane.c_in, channels)
            _check_plane(plane)
            channels, size = plane.c_out, plane.out_size(size)
        _check_chain("the head", self.head.c_in, channels)
        if size != (self.head.size, self.head.size):
            need = self.window - size[0] + self.head.size
            raise ConfigError(
                f"window={self.window} leaves {self.name} a map of {size[0]}x{size[1]}, but its "
                f"head takes {self.head.size}x{self.head.size}; the window must be {need}."
            )

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return self.head.num_classes

    @property
    def label(self) -> str:
        """For people, such as "hybridsn 25x25x30"."""
        attention = f" + {self.head.attention.kind}" if self.head.attention else ""
        variant = f" ({self.variant})" if self.variant else ""
        return f"{self.name}{attention}{variant} {self.window}x{self.window}x{self.bands}"

    def layers(self) -> tuple[Layer, ...]:
        """All convolutions and linear layers as arithmetic, for one window."""
        return (*self.trunk_layers((self.window, self.window)), *self.head.layers())

    def trunk_layers(self, size: Size) -> tuple[Layer, ...]:
        """The convolutions as arithmetic, for an input of height x width."""
        layers: list[Layer] = []
        bands = self.bands
        for volume in self.volumes:
            layers.append(volume.layer(bands, size))
            bands, size = volume.out_bands(bands), volume.out_size(size)
        for plane in self.planes:
            layers += plane.layers(size)
            size = plane.out_size(size)
        return tuple(layers)

    def dense_macs(self, height: int, width: int) -> int:
        """Multiply-accumulates of a whole scene of height x width, border included."""
        size = (height + self.window - 1, width + self.window - 1)
        head = height * width * sum(layer.macs for layer in self.head.layers())
        return sum(layer.macs for layer in self.trunk_layers(size)) + head

    def with_classes(self, num_classes: int) -> PatchSpec:
        """The same network with another number of logits."""
        return dataclasses.replace(
            self, head=dataclasses.replace(self.head, num_classes=num_classes)
        )

    def build(self, seed: int | None = None) -> PatchNetwork:
        """The module with new weights; as `ArchSpec.build`."""
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.default_generator.manual_seed(seed)
            return PatchNetwork(self)


def check_window(window: int) -> None:
    """Raises: ConfigError: a window that is even, below 3 or above 101."""
    if not 3 <= window <= MAX_WINDOW or window % 2 == 0:
        raise ConfigError(
            f"window={window} is not allowed; expected an odd number of pixels, 3 to {MAX_WINDOW}."
        )


def _check_plane(plane: PlaneSpec) -> None:
    if plane.padding != "valid" or plane.stride != 1:
        raise ConfigError(
            f"a 2-D block has padding={plane.padding!r} and stride={plane.stride}; the blocks of a "
            "patch classifier have valid padding and stride 1."
        )
    if plane.norm is not None:
        raise ConfigError(
            "a 2-D block has a batch norm, whose statistics over a crop would take in pixels that "
            "no training window sees; set norm=None."
        )
    if isinstance(plane, InvertedResidualSpec) and plane.attention:
        raise ConfigError(
            f"a 2-D block has attention ({plane.attention.kind}), which would look at the whole "
            "scene instead of a window; give it to the head."
        )


def _check_chain(name: str, c_in: int, channels: int) -> None:
    if c_in != channels:
        raise ConfigError(f"{name} takes {c_in} channels, but gets {channels}.")


class PatchNetwork(nn.Module):
    """The module of a `PatchSpec`.

    Shape:  (N, bands, window, window) float -> (N, num_classes) logits of the window's centre.
    Raises: ConfigError: an input of another shape.
    """

    def __init__(self, spec: PatchSpec) -> None:
        super().__init__()
        self.spec = spec
        self.volumes = nn.Sequential(*(volume.build() for volume in spec.volumes))
        self.planes = nn.Sequential(*(plane.build() for plane in spec.planes))
        self.head = spec.head.build()
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        side = self.spec.window
        check_shape("input", x.shape, (None, self.spec.bands, side, side))
        logits: Tensor = self.head(self.trunk(x))
        return logits

    def trunk(self, x: Tensor) -> Tensor:
        """(N, bands, H, W), any H and W from the window up -> (N, C, H - s, W - s)."""
        if self.spec.volumes:
            x = self.volumes(x.unsqueeze(1)).flatten(1, 2)
        features: Tensor = self.planes(x)
        return features


def initialise(module: nn.Module) -> None:
    """New weights, so that activations keep their size from layer to layer; zero biases."""
    if isinstance(module, nn.Conv3d | nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
