"""SSDLite: published counts, anchors, codes, and where the maps are taken."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketvision.errors import ConfigError
from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec
from pocketvision.models.detector import Detector, decoded, encoded, ssdlite
from pocketvision.models.mobilenet_v3 import mobilenet_v3_large, mobilenet_v3_small
from pocketvision.models.taps import Tap
from pocketvision.models.weights import NetworkFile
from pocketvision.nn.blocks import InvertedResidual
from pocketvision.nn.ssdlite import AnchorSpec, SsdLiteSpec
from pocketvision.storage import from_json, to_json

BACKBONES = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")


def small(name: str) -> ArchSpec:
    return registry.spec(name, width=0.25, resolution=96)


def test_counts_are_torchvision_s() -> None:
    spec = ssdlite(mobilenet_v3_large(reduced_tail=True), 91).at(320)
    counted = count(spec)
    assert counted.parameters == 3_440_060
    assert counted.macs == pytest.approx(0.583e9, rel=1e-3)
    assert spec.num_anchors == 3234


@pytest.mark.parametrize(
    ("backbone", "tap"),
    [
        (mobilenet_v3_large(), Tap(block=13, at="expansion")),  # section 6.3
        (mobilenet_v3_small(), Tap(block=9, at="expansion")),
        (registry.spec("mobilenet_v2"), Tap(block=14, at="expansion")),  # the first of 160 channels
        (registry.spec("mobilenet_v1"), Tap(block=11)),  # the last of stride 16
    ],
)
def test_c4_is_where_the_papers_take_it(backbone: ArchSpec, tap: Tap) -> None:
    spec = ssdlite(backbone, 91)
    assert spec.taps == (tap, Tap(block=len(backbone.blocks) - 1))
    assert [size for size, _ in spec.at(320).map_sizes] == [20, 10, 5, 3, 2, 1]


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_every_anchor_gets_logits_and_a_code(name: str) -> None:
    spec = ssdlite(small(name), 5)
    network = spec.build(seed=0).eval()
    logits, codes = network(torch.randn(2, 3, 96, 96))
    assert logits.shape == (2, spec.num_anchors, 5)
    assert codes.shape == (2, spec.num_anchors, 4)
    assert spec.anchors().shape == (spec.num_anchors, 4)
    assert count(spec).parameters == sum(p.numel() for p in network.parameters())


@torch.no_grad()
def test_expansion_is_what_the_depthwise_convolution_sees() -> None:
    spec = ssdlite(small("mobilenet_v3_small"), 5)
    network: Detector = spec.build(seed=0).eval()
    seen: list[torch.Tensor] = []
    block = network.blocks[spec.taps[0].block]
    assert isinstance(block, InvertedResidual)
    block.depthwise.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    network.head.scores[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    network(torch.randn(1, 3, 96, 96))
    assert torch.equal(seen[0], seen[1])


def test_anchors_of_a_place_are_square_and_of_both_ratios() -> None:
    anchors = AnchorSpec().boxes(((2, 2), (1, 1)))
    assert anchors.shape == (30, 4)
    assert anchors[:6, :2].tolist() == [[0.25, 0.25]] * 6
    assert anchors[6:12, :2].tolist() == [[0.75, 0.25]] * 6  # columns first
    widths, heights = anchors[:6, 2], anchors[:6, 3]
    assert widths[0] == heights[0] == pytest.approx(0.2)
    assert widths[1] == heights[1] == pytest.approx((0.2 * 0.95) ** 0.5)
    torch.testing.assert_close(widths[2:] / heights[2:], torch.tensor([2, 1 / 2, 3, 1 / 3]))
    torch.testing.assert_close(widths[2:] * heights[2:], torch.full((4,), 0.04))
    assert anchors[24:, 2:].max() == 1  # none is larger than the image


@given(
    box=st.tuples(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.01, 0.5), st.floats(0.01, 0.5)),
    row=st.integers(0, 29),
)
def test_decoding_undoes_encoding(box: tuple[float, float, float, float], row: int) -> None:
    x, y, width, height = box
    boxes = torch.tensor([[x, y, x + width, y + height]])
    anchor = AnchorSpec().boxes(((2, 2), (1, 1)))[row : row + 1]
    torch.testing.assert_close(decoded(encoded(boxes, anchor), anchor), boxes, atol=1e-5, rtol=1e-4)


def test_code_of_zero_is_the_anchor_and_none_explodes() -> None:
    anchors = AnchorSpec().boxes(((2, 2),))
    still = decoded(torch.zeros(1, len(anchors), 4), anchors)[0]
    torch.testing.assert_close(still[:, 2:] - still[:, :2], anchors[:, 2:])
    assert decoded(torch.full((1, len(anchors), 4), 1e4), anchors).isfinite().all()


def test_specification_travels_as_json() -> None:
    spec = ssdlite(small("mobilenet_v3_small"), 3)
    file = NetworkFile(spec=spec, classes=("a", "b"))
    with pytest.raises(ConfigError, match=r"3 class names for 2 logits; .* \(the background has n"):
        NetworkFile(spec=spec, classes=("background", "a", "b"))
    assert from_json(NetworkFile, to_json(file), source="x") == file
    assert spec.label == "ssdlite_mobilenet_v3_small x0.25 @96"
    assert spec.with_classes(7).num_classes == 7


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ssdlite(small("mobilenet_v2"), 1), "num_classes=1 is not allowed.*background"),
        (lambda: SsdLiteSpec(c_maps=(), num_classes=2), r"c_maps=\(\) is not allowed"),
        (lambda: SsdLiteSpec(c_maps=(0,), num_classes=2), "channels=0 is not allowed"),
        (lambda: AnchorSpec(least=0), "least=0 is out of range"),
        (lambda: AnchorSpec(ratios=(0.5,)), "ratio=0.5 is out of range"),
        (
            lambda: replace(ssdlite(small("mobilenet_v2"), 2), taps=(Tap(block=0), Tap(block=1))),
            r"takes maps of \(144, 1280\) channels, but .* gives \(8, 8\) there",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make: type, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
