"""A network that names the class of every pixel, described as data: a body and a head on its maps.

Source: Howard et al., Searching for MobileNetV3, section 6.4; Sandler et al., MobileNetV2, 6.3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import pydantic
import torch.nn.functional as F
from torch import Tensor, nn

from pocketvision.errors import ConfigError, check_shape
from pocketvision.models.arch import ArchSpec, BlockSpec, initialise, new_module
from pocketvision.models.editing import with_output_stride
from pocketvision.models.taps import (
    OnBackbone,
    Tap,
    body_layers,
    channels_at,
    first_at,
    last_block,
    size_at,
    tapped,
)
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.dense_heads import LrAsppSpec, Pooling, RAsppSpec
from pocketvision.nn.layer import Layer

HeadSpec = Annotated[LrAsppSpec | RAsppSpec, pydantic.Discriminator("kind")]

OUTPUT_STRIDE, SKIP_STRIDE = 16, 8
PREFIXES = {"lr_aspp": "lraspp", "r_aspp": "raspp"}


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmenterSpec(OnBackbone):
    """A backbone up to its last map, and a head on one or two of its maps.

    output_stride: of that map: what of the backbone would reduce further is dilated. low: at stride
    8; None: the head has no skip. high: the last map.

    Raises: ConfigError: a map that is not there, or of other channels than the head takes; a
    backbone that cannot be dilated to that stride.
    """

    output_stride: int = OUTPUT_STRIDE
    low: Tap | None
    high: Tap
    head: HeadSpec

    def __post_init__(self) -> None:
        if (self.low is None) != isinstance(self.head, RAsppSpec):
            raise ConfigError(f"{self.head.kind} with low={self.low}; LR-ASPP alone has a low map.")
        self._check("c_high", self.high, self.head.c_high)
        if self.low is not None:
            assert isinstance(self.head, LrAsppSpec)
            self._check("c_low", self.low, self.head.c_low)

    def _check(self, name: str, tap: Tap, expected: int) -> None:
        found = channels_at(self.body, tap)
        if found != expected:
            raise ConfigError(
                f"The head takes {expected} channels, but block {tap.block} of "
                f"{self.backbone.label} gives {found}; set its {name} to {found}."
            )

    @property
    def body(self) -> ArchSpec:
        """The backbone as it stands here, with `output_stride`."""
        return with_output_stride(self.backbone, self.output_stride)

    @property
    def body_blocks(self) -> tuple[BlockSpec, ...]:
        """Up to the last map."""
        return self.body.blocks[: last_block(self.taps) + 1]

    @property
    def taps(self) -> tuple[Tap, ...]:
        """Low first."""
        return (self.high,) if self.low is None else (self.low, self.high)

    def on(self, backbone: ArchSpec) -> SegmenterSpec:
        """The same on another form of the backbone, whose maps may have other channels."""
        body, head = with_output_stride(backbone, self.output_stride), self.head
        c_high = channels_at(body, self.high)
        if self.low is None:
            return replace(self, backbone=backbone, head=replace(head, c_high=c_high))
        assert isinstance(head, LrAsppSpec)
        head = replace(head, c_low=channels_at(body, self.low), c_high=c_high)
        return replace(self, backbone=backbone, head=head)

    @property
    def name(self) -> str:
        """Such as "lraspp_mobilenet_v3_large"."""
        return f"{PREFIXES[self.head.kind]}_{self.backbone.name}"

    @property
    def label(self) -> str:
        """For people, such as "lraspp_mobilenet_v3_small x0.75 @192"."""
        usual = self.output_stride == OUTPUT_STRIDE
        stride = "" if usual else f", output stride {self.output_stride}"
        return f"{PREFIXES[self.head.kind]}_{self.backbone.label}{stride}"

    def layers(self) -> tuple[Layer, ...]:
        """All convolutions in order, as arithmetic at `resolution`."""
        body = self.body
        high = size_at(body, self.high)
        low = high if self.low is None else size_at(body, self.low)
        return (*body_layers(body, self.taps), *self.head.layers(low, high))

    def build(self, seed: int | None = None) -> Segmenter:
        """The module with new weights; seed: as that of `ArchSpec.build`."""
        return new_module(lambda: Segmenter(self), lambda new: new.apply(initialise), seed)


class Segmenter(nn.Module):
    """The module of a `SegmenterSpec`; `SegmenterSpec.build` makes one, with new weights.

    Shape:  (N, C, H, W) float, normalised -> (N, num_classes, H, W) logits; any H and W.
    Raises: ConfigError: an input with other than `spec.in_chans` channels.

    Names in the state dict are those of the backbone ("blocks.3.expand.conv.weight") and "head.".
    """

    def __init__(self, spec: SegmenterSpec) -> None:
        super().__init__()
        self.spec = spec
        self.blocks = nn.Sequential(*(block.build() for block in spec.body_blocks))
        self.head = spec.head.build()

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(
            self.coarse(x), size=x.shape[-2:], mode="bilinear", align_corners=False
        )

    def coarse(self, x: Tensor) -> Tensor:
        """The logits at the stride of the finest map the head sees: (N, num_classes, h, w)."""
        check_shape("input", x.shape, (None, self.spec.in_chans, None, None))
        maps = tapped(self.blocks, self.spec.taps, x)
        logits: Tensor = self.head(*maps)
        return logits


def lr_aspp(
    backbone: ArchSpec,
    num_classes: int,
    *,
    filters: int = 128,
    pooling: Pooling = "window",
    output_stride: int = OUTPUT_STRIDE,
) -> SegmenterSpec:
    """LR-ASPP on a network: its last map at `output_stride`, and the first of stride 8 as the skip.

    A last 1x1 convolution that only the classifier needs (MobileNetV2's 1280) is left away; that of
    MobileNetV3 stays. Half the channels in the last stage: `reduced_tail` of the backbone.

    Raises: ConfigError: a backbone that cannot be dilated to that stride, or has none of stride 8.
    """
    body = with_output_stride(backbone, output_stride)
    low, high = first_at(body, SKIP_STRIDE), _last_map(body)
    return SegmenterSpec(
        backbone=backbone,
        output_stride=output_stride,
        low=low,
        high=high,
        head=LrAsppSpec(
            c_low=channels_at(body, low),
            c_high=channels_at(body, high),
            num_classes=num_classes,
            filters=filters,
            pooling=pooling,
        ),
    )


def r_aspp(
    backbone: ArchSpec,
    num_classes: int,
    *,
    filters: int = 256,
    output_stride: int = OUTPUT_STRIDE,
) -> SegmenterSpec:
    """R-ASPP on the last map of a network. Raises: ConfigError: as `lr_aspp`."""
    body = with_output_stride(backbone, output_stride)
    high = _last_map(body)
    head = RAsppSpec(c_high=channels_at(body, high), num_classes=num_classes, filters=filters)
    return SegmenterSpec(
        backbone=backbone, output_stride=output_stride, low=None, high=high, head=head
    )


def _last_map(body: ArchSpec) -> Tap:
    last = body.blocks[-1]
    serves_classifier = isinstance(last, ConvSpec) and last.kernel == 1 and not body.head.hidden
    return Tap(block=len(body.blocks) - 1 - serves_classifier)
