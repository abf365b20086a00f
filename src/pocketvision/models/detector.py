"""A network that finds objects, described as data: a body and SSDLite on its maps.

Source: Sandler et al., MobileNetV2, section 6.2; Howard et al., MobileNetV3, section 6.3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pocketvision.boxes import CODE_WEIGHTS, LARGEST_LOG
from pocketvision.errors import ConfigError, check_shape
from pocketvision.models.arch import ArchSpec, BlockSpec, initialise, new_module
from pocketvision.models.foreign import with_norm
from pocketvision.models.taps import (
    OnBackbone,
    Tap,
    body_layers,
    channels_at,
    last_at,
    last_block,
    size_at,
    tapped,
)
from pocketvision.nn.blocks import InvertedResidualSpec
from pocketvision.nn.layer import Layer, Size
from pocketvision.nn.ssdlite import SSD_NORM, AnchorSpec, SsdLiteSpec, initialise_ssd

FINE_STRIDE, COARSE_STRIDE = 16, 32  # of the body's maps, C4 and C5


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorSpec(OnBackbone):
    """A backbone up to its last map, and SSDLite on its maps.

    taps: where the maps are, finest first.

    Raises: ConfigError: a map that is not there, or of other channels than the head takes.
    """

    taps: tuple[Tap, ...]
    head: SsdLiteSpec

    def __post_init__(self) -> None:
        found = tuple(channels_at(self.backbone, tap) for tap in self.taps)
        if found != self.head.c_maps:
            raise ConfigError(
                f"The head takes maps of {self.head.c_maps} channels, but {self.backbone.label} "
                f"gives {found} there; set its c_maps to them."
            )

    def on(self, backbone: ArchSpec) -> DetectorSpec:
        """The same on another form of the backbone, whose maps may have other channels."""
        c_maps = tuple(channels_at(backbone, tap) for tap in self.taps)
        return replace(self, backbone=backbone, head=replace(self.head, c_maps=c_maps))

    @property
    def name(self) -> str:
        """Such as "ssdlite_mobilenet_v3_large"."""
        return f"ssdlite_{self.backbone.name}"

    @property
    def label(self) -> str:
        """For people, such as "ssdlite_mobilenet_v3_large (reduced tail) x1 @320"."""
        return f"ssdlite_{self.backbone.label}"

    @property
    def body_blocks(self) -> tuple[BlockSpec, ...]:
        """Up to the last map."""
        return self.backbone.blocks[: last_block(self.taps) + 1]

    @property
    def map_sizes(self) -> tuple[Size, ...]:
        """Of all maps that predict."""
        return self.head.sizes(tuple(size_at(self.backbone, tap) for tap in self.taps))

    @property
    def num_anchors(self) -> int:
        """At `resolution`."""
        return self.head.anchors.per_place * sum(rows * columns for rows, columns in self.map_sizes)

    def anchors(self) -> Tensor:
        """(M, 4) float32: centre x, centre y, width, height, in fractions of the image."""
        return self.head.anchors.boxes(self.map_sizes)

    def layers(self) -> tuple[Layer, ...]:
        """All convolutions in order, as arithmetic at `resolution`."""
        sizes = tuple(size_at(self.backbone, tap) for tap in self.taps)
        return (*body_layers(self.backbone, self.taps), *self.head.layers(sizes))

    def build(self, seed: int | None = None) -> Detector:
        """The module with new weights; seed: as that of `ArchSpec.build`."""
        return new_module(lambda: Detector(self), _fill, seed)


class Detector(nn.Module):
    """The module of a `DetectorSpec`; `DetectorSpec.build` makes one, with new weights.

    Shape:  (N, C, resolution, resolution) float, normalised -> (N, M, num_classes) logits and
            (N, M, 4) box codes of the M anchors of `spec.anchors`.
    Raises: ConfigError: an input with other than `spec.in_chans` channels.

    Names in the state dict are those of the backbone ("blocks.3.expand.conv.weight") and "head.".
    """

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.blocks = nn.Sequential(*(block.build() for block in spec.body_blocks))
        self.head = spec.head.build()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        check_shape("input", x.shape, (None, self.spec.in_chans, None, None))
        found: tuple[Tensor, Tensor] = self.head(tapped(self.blocks, self.spec.taps, x))
        return found


def _fill(new: Detector) -> None:
    new.blocks.apply(initialise)
    new.head.apply(initialise_ssd)


def decoded(codes: Tensor, anchors: Tensor) -> Tensor:
    """Boxes (..., M, 4) as corners, in fractions of the image, from codes and (M, 4) anchors.

    anchors: centre x, centre y, width, height. Source: Liu et al., SSD, section 2.2.
    """
    offsets = codes / codes.new_tensor(CODE_WEIGHTS)
    centres = offsets[..., :2] * anchors[:, 2:] + anchors[:, :2]
    halves = offsets[..., 2:].clamp(max=LARGEST_LOG).exp() * anchors[:, 2:] / 2
    return torch.cat([centres - halves, centres + halves], -1)


def encoded(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Codes (M, 4) of boxes (M, 4) as corners, each for the anchor of its row."""
    sides = boxes[:, 2:] - boxes[:, :2]
    shifts = ((boxes[:, :2] + boxes[:, 2:]) / 2 - anchors[:, :2]) / anchors[:, 2:]
    codes = torch.cat([shifts, (sides / anchors[:, 2:]).log()], -1)
    return codes * codes.new_tensor(CODE_WEIGHTS)


def ssdlite(
    backbone: ArchSpec, num_classes: int, *, anchors: AnchorSpec | None = None
) -> DetectorSpec:
    """SSDLite on a network: C4 at stride 16, C5 the last map, four extra maps.

    C4 is the expansion of the block that goes on to stride 32; where that has none, the last map of
    stride 16. num_classes: the background counts, as in torchvision. All batch norms have the
    constants of SSDLite. Half the channels from C4 to C5: `reduced_tail` of the backbone.

    Raises: ConfigError: a backbone without maps of stride 16 and 32, fewer than two classes.
    """
    body = with_norm(backbone, SSD_NORM)
    taps = (_fine(body), last_at(body, COARSE_STRIDE))
    head = SsdLiteSpec(
        c_maps=tuple(channels_at(body, tap) for tap in taps),
        num_classes=num_classes,
        anchors=anchors or AnchorSpec(),
    )
    return DetectorSpec(backbone=body, taps=taps, head=head)


def _fine(body: ArchSpec) -> Tap:
    """C4."""
    last = last_at(body, FINE_STRIDE)
    following = body.blocks[last.block + 1] if last.block + 1 < len(body.blocks) else None
    if isinstance(following, InvertedResidualSpec) and following.expand:
        return Tap(block=last.block + 1, at="expansion")
    return last
