"""SSDLite: the maps behind a body, and what every place of a map says of its anchors.

Source: Sandler et al., MobileNetV2, section 6.2; Liu et al., SSD, section 2; Howard et al.,
MobileNetV3, section 6.3. Widths of the extra maps as in the authors' and torchvision's code.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pocketvision.errors import ConfigError, at_least, in_range
from pocketvision.nn.conv import BatchNormSpec, ConvSpec
from pocketvision.nn.layer import Layer, Size

EXTRA_WIDTHS = (512, 256, 256, 128)
LEAST_EXTRA_WIDTH = 16
# torchvision has a momentum of 0.03, whose statistics lag behind all but very long trainings.
SSD_NORM = BatchNormSpec(eps=1e-3, momentum=0.1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtraSpec:
    """A map of half the size: 1x1 to half the width, a depthwise 3x3 of stride 2, 1x1."""

    kind: Literal["ssd_extra"] = "ssd_extra"
    c_in: int
    c_out: int
    norm: BatchNormSpec = SSD_NORM

    @property
    def convolutions(self) -> tuple[ConvSpec, ConvSpec, ConvSpec]:
        """In order."""
        half = max(1, self.c_out // 2)
        return (
            ConvSpec(c_in=self.c_in, c_out=half, kernel=1, norm=self.norm),
            ConvSpec(c_in=half, c_out=half, groups=half, stride=2, norm=self.norm),
            ConvSpec(c_in=half, c_out=self.c_out, kernel=1, norm=self.norm),
        )

    def build(self) -> nn.Sequential:
        """(N, c_in, H, W) -> (N, c_out, ceil(H / 2), ceil(W / 2))."""
        return nn.Sequential(*(conv.build() for conv in self.convolutions))

    def out_size(self, size: Size) -> Size:
        """Height and width of the output."""
        return self.convolutions[1].out_size(size)

    def layers(self, size: Size) -> tuple[Layer, ...]:
        """All convolutions as arithmetic, in order."""
        reduce, depthwise, expand = self.convolutions
        return reduce.layer(size), depthwise.layer(size), expand.layer(self.out_size(size))


@dataclass(frozen=True, kw_only=True, slots=True)
class AnchorSpec:
    """The boxes that every place of every map predicts from.

    On map k of m, the side is least + (most - least) k / (m - 1) of the image's. Each place has a
    square of that side, one of its geometric mean with the next map's side (behind the last: 1),
    and for every ratio an upright and a lying box of the first square's area.

    Source: Liu et al., SSD, section 2.2.
    Raises: ConfigError: a field outside what is allowed.
    """

    least: float = 0.2
    most: float = 0.95
    ratios: tuple[float, ...] = (2.0, 3.0)

    def __post_init__(self) -> None:
        in_range("least", self.least, 0.01, 1.0)
        in_range("most", self.most, self.least, 1.0)
        for ratio in self.ratios:
            in_range("ratio", ratio, 1.0, 100.0)

    @property
    def per_place(self) -> int:
        """Anchors of one place."""
        return 2 + 2 * len(self.ratios)

    def sides(self, maps: int) -> list[tuple[list[float], list[float]]]:
        """Widths and heights of the anchors of each map, at most 1."""
        steps = max(1, maps - 1)
        scales = [self.least + (self.most - self.least) * k / steps for k in range(maps)] + [1.0]
        found = []
        for side, following in itertools.pairwise(scales):
            mean = math.sqrt(side * following)
            pairs = [(side, side), (mean, mean)]
            for ratio in self.ratios:
                long, short = side * math.sqrt(ratio), side / math.sqrt(ratio)
                pairs += [(long, short), (short, long)]
            widths, heights = zip(*((min(w, 1.0), min(h, 1.0)) for w, h in pairs), strict=True)
            found.append((list(widths), list(heights)))
        return found

    def boxes(self, sizes: tuple[Size, ...]) -> Tensor:
        """(M, 4) float32: centre x, centre y, width, height; by map, row, column, anchor."""
        parts = []
        for (rows, columns), (widths, heights) in zip(sizes, self.sides(len(sizes)), strict=True):
            y = (torch.arange(rows, dtype=torch.float32) + 0.5) / rows
            x = (torch.arange(columns, dtype=torch.float32) + 0.5) / columns
            extents = torch.tensor([widths, heights]).T  # (A, 2)
            centres = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)  # (R, C, 2)
            shape = rows, columns, len(widths), 2
            parts.append(
                torch.cat(
                    [
                        centres[:, :, None].expand(shape),
                        extents[None, None].expand(shape),
                    ],
                    -1,
                ).reshape(-1, 4)
            )
        return torch.cat(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class SsdLiteSpec:
    """Extra maps behind the body's, and for each of them a separable convolution to scores and one
    to boxes.

    c_maps: channels of the body's maps, the last of which the extra maps follow. extras: widths of
    these. num_classes: the background, class 0, counts.

    Raises: ConfigError: a field outside what is allowed.
    """

    kind: Literal["ssdlite"] = "ssdlite"
    c_maps: tuple[int, ...]
    num_classes: int
    extras: tuple[int, ...] = EXTRA_WIDTHS
    anchors: AnchorSpec = AnchorSpec()
    norm: BatchNormSpec = SSD_NORM

    def __post_init__(self) -> None:
        if not self.c_maps:
            raise ConfigError("c_maps=() is not allowed; expected the channels of a map or more.")
        for channels in (*self.c_maps, *self.extras):
            at_least("channels", channels, 1)
        if self.num_classes < 2:
            raise ConfigError(
                f"num_classes={self.num_classes} is not allowed; expected 2 or more: the "
                "background is one."
            )

    @property
    def channels(self) -> tuple[int, ...]:
        """Of all maps, the extra ones behind those of the body."""
        return (*self.c_maps, *self.extras)

    @property
    def extra_maps(self) -> tuple[ExtraSpec, ...]:
        """Each made from the one before."""
        chain = itertools.pairwise((self.c_maps[-1], *self.extras))
        return tuple(ExtraSpec(c_in=c_in, c_out=c_out, norm=self.norm) for c_in, c_out in chain)

    def depthwise(self, channels: int) -> ConvSpec:
        """The first half of the separable convolution that predicts from a map."""
        return ConvSpec(c_in=channels, c_out=channels, groups=channels, norm=self.norm)

    def sizes(self, sizes: tuple[Size, ...]) -> tuple[Size, ...]:
        """Of all maps, given those of the body."""
        found = list(sizes)
        for extra in self.extra_maps:
            found.append(extra.out_size(found[-1]))
        return tuple(found)

    def build(self) -> SsdLite:
        """The module, newly initialised."""
        return SsdLite(self)

    def layers(self, sizes: tuple[Size, ...]) -> tuple[Layer, ...]:
        """All convolutions as arithmetic, in order, for maps of the body of these sizes."""
        every = self.sizes(sizes)
        layers: list[Layer] = []
        for extra, size in zip(self.extra_maps, every[len(sizes) - 1 :], strict=False):
            layers += extra.layers(size)
        for values in (self.num_classes, 4):
            for channels, size in zip(self.channels, every, strict=True):
                layers.append(self.depthwise(channels).layer(size))
                layers.append(
                    Layer(
                        kind="conv",
                        c_in=channels,
                        c_out=self.anchors.per_place * values,
                        bias=True,
                        in_size=size,
                        out_size=size,
                    )
                )
        return tuple(layers)


class SsdLite(nn.Module):
    """Scores and box codes of all anchors.

    Shape:  maps of the body -> (N, M, num_classes) logits and (N, M, 4) codes; M anchors in the
            order of `AnchorSpec.boxes`.
    """

    def __init__(self, spec: SsdLiteSpec) -> None:
        super().__init__()
        self.num_classes = spec.num_classes
        self.extras = nn.ModuleList(extra.build() for extra in spec.extra_maps)
        self.scores = _predictors(spec, spec.num_classes)
        self.codes = _predictors(spec, 4)

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        maps = list(maps)
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        logits = _of_all_maps(self.scores, maps, self.num_classes)
        return logits, _of_all_maps(self.codes, maps, 4)


def _predictors(spec: SsdLiteSpec, values: int) -> nn.ModuleList:
    """For each map a depthwise 3x3 and a 1x1 to `values` numbers per anchor."""
    return nn.ModuleList(
        nn.Sequential(
            spec.depthwise(channels).build(),
            nn.Conv2d(channels, spec.anchors.per_place * values, 1),
        )
        for channels in spec.channels
    )


def _of_all_maps(predictors: nn.ModuleList, maps: list[Tensor], values: int) -> Tensor:
    """(N, M, values)."""
    found = []
    for predict, features in zip(predictors, maps, strict=True):
        found.append(by_anchor(predict(features), values))
    return torch.cat(found, 1)


def by_anchor(predicted: Tensor, values: int) -> Tensor:
    """(N, A * values, H, W) -> (N, H * W * A, values), the anchors of a place side by side."""
    places = predicted.permute(0, 2, 3, 1)
    return places.reshape(places.shape[0], -1, values)


def initialise_ssd(module: nn.Module) -> None:
    """New weights of the extra maps and predictors; for `nn.Module.apply`. Source: torchvision."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.03)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        module.reset_parameters()
