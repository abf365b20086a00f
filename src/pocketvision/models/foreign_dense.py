"""Names that torchvision gives the tensors of its LR-ASPP and SSDLite on MobileNetV3-Large."""

from __future__ import annotations

from torch import Tensor

from pocketvision.models.detector import DetectorSpec
from pocketvision.models.foreign import (
    Pairs,
    conv_pair,
    torchvision_v3_block,
    torchvision_v3_layer,
    torchvision_v3_layers,
)
from pocketvision.models.segmenter import SegmenterSpec
from pocketvision.nn.blocks import InvertedResidualSpec

LR_ASPP_MARK = "classifier.cbr.0.weight"
SSDLITE_MARK = "backbone.features.0.0.0.weight"
AUXILIARY = "aux_classifier."  # a second head, for training alone


def is_torchvision_lr_aspp(state: dict[str, Tensor]) -> bool:
    """True of a state dict of torchvision's LR-ASPP."""
    return LR_ASPP_MARK in state


def is_torchvision_ssdlite(state: dict[str, Tensor]) -> bool:
    """True of a state dict of torchvision's SSDLite."""
    return SSDLITE_MARK in state


def torchvision_lr_aspp(spec: SegmenterSpec) -> Pairs:
    """Modules here and there of `lraspp_mobilenet_v3_large`."""
    for index, block in enumerate(spec.body_blocks):
        yield from torchvision_v3_block(block, f"blocks.{index}", f"backbone.{index}")
    yield from conv_pair("head.project", "classifier.cbr")
    yield "head.gate", "classifier.scale.1"
    yield "head.low_classifier", "classifier.low_classifier"
    yield "head.high_classifier", "classifier.high_classifier"


def torchvision_ssdlite(spec: DetectorSpec) -> Pairs:
    """Modules here and there of `ssdlite320_mobilenet_v3_large`.

    There the body is two halves: up to the expansion of C4's block, and the rest of it.
    """
    split, features = spec.taps[0].block, "backbone.features"
    for index, block in enumerate(spec.body_blocks):
        ours = f"blocks.{index}"
        if index < split:
            yield from torchvision_v3_block(block, ours, f"{features}.0.{index}")
        elif index > split:
            yield from torchvision_v3_block(block, ours, f"{features}.1.{index - split}")
        else:
            assert isinstance(block, InvertedResidualSpec)
            for place, layer in enumerate(torchvision_v3_layers(block)):
                half = f"{features}.0.{split}" if place == 0 else f"{features}.1.0.{place}"
                yield from torchvision_v3_layer(block, layer, ours, half)
    for number, extra in enumerate(spec.head.extra_maps):
        for place, _ in enumerate(extra.convolutions):
            names = f"head.extras.{number}.{place}", f"backbone.extra.{number}.{place}"
            yield from conv_pair(*names)
    for ours, theirs in (("scores", "classification_head"), ("codes", "regression_head")):
        for number, _ in enumerate(spec.head.channels):
            there = f"head.{theirs}.module_list.{number}"
            yield from conv_pair(f"head.{ours}.{number}.0", f"{there}.0")
            yield f"head.{ours}.{number}.1", f"{there}.1"
