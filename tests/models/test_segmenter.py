"""LR-ASPP and R-ASPP: published counts, shapes, and that each part is where the figure has it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from pocketvision.errors import ConfigError
from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec
from pocketvision.models.editing import with_output_stride
from pocketvision.models.mobilenet_v3 import mobilenet_v3_large, mobilenet_v3_small
from pocketvision.models.segmenter import Segmenter, SegmenterSpec, lr_aspp, r_aspp
from pocketvision.models.taps import Tap
from pocketvision.models.weights import NetworkFile
from pocketvision.nn.dense_heads import LrAsppSpec, RAsppSpec, window_means
from pocketvision.storage import from_json, to_json

BACKBONES = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small")


def small(name: str) -> ArchSpec:
    return registry.spec(name, width=0.25, resolution=64)


def test_counts_are_torchvision_s_for_its_variant() -> None:
    assert count(lr_aspp(mobilenet_v3_large(), 21, pooling="global")).parameters == 3_221_538
    assert count(lr_aspp(mobilenet_v3_large(), 19, pooling="global")).parameters == 3_221_198


def test_work_is_torchvision_s_less_what_resizing_the_classes_saves() -> None:
    spec = lr_aspp(mobilenet_v3_large(), 21, pooling="global").at(520)
    saved = 128 * 21 * (65**2 - 33**2)  # theirs classifies behind the resizing
    assert count(spec).macs + saved == pytest.approx(2.086e9, rel=1e-3)


@pytest.mark.parametrize(
    ("backbone", "parameters", "billions"),
    [(mobilenet_v3_large, 1_746_878, 9.92), (mobilenet_v3_small, 515_614, 2.83)],
)
def test_the_paper_s_form_read_from_its_figure(
    backbone: type, parameters: int, billions: float
) -> None:
    """Table 7 prints 1.51 M and 9.74 B, 0.47 M and 2.90 B; recipes/dense_counts.md says why."""
    spec = lr_aspp(backbone(reduced_tail=True), 19)
    counted = count(spec.at(1024))
    assert counted.parameters == parameters
    skipped = 128 * 19 * (128**2 - 64**2)  # the paper classifies behind the resizing
    assert 2 * (counted.macs + skipped) / 1e9 == pytest.approx(billions, rel=0.01)


def test_r_aspp_on_mobilenet_v2_has_the_paper_s_parameters() -> None:
    """Table 7 of MobileNetV3: 2.11 M with 19 classes."""
    assert round(count(r_aspp(registry.spec("mobilenet_v2"), 19)).parameters / 1e6, 2) == 2.11


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("head", [lr_aspp, r_aspp])
@pytest.mark.parametrize("stride", [16, 32])
@torch.no_grad()
def test_every_pixel_gets_logits_and_the_count_is_the_modules(
    name: str, head: type, stride: int
) -> None:
    spec = head(small(name), 5, output_stride=stride)
    network = spec.build(seed=0).eval()
    assert network(torch.randn(1, 3, 45, 70)).shape == (1, 5, 45, 70)
    assert count(spec).parameters == sum(p.numel() for p in network.parameters())


@torch.no_grad()
def test_last_map_has_the_output_stride() -> None:
    spec = lr_aspp(small("mobilenet_v2"), 5)
    network = spec.build(seed=0).eval()
    assert network.blocks(torch.zeros(1, 3, 64, 64)).shape[-2:] == (4, 4)
    assert spec.body_blocks[-1].c_out == spec.head.c_high  # without the classifier's 1x1


def test_dilation_keeps_the_weights() -> None:
    plain = small("mobilenet_v3_large")
    dilated = with_output_stride(plain, 16)
    assert dilated.build(seed=1).state_dict().keys() == plain.build(seed=1).state_dict().keys()
    assert dilated.blocks == mobilenet_v3_large(width=0.25, resolution=64, dilated=True).blocks
    assert with_output_stride(plain, 32) is plain
    deeper = with_output_stride(plain, 8)
    assert with_output_stride(dilated, 8).blocks == deeper.blocks  # dilations multiply
    assert dilations(deeper)[-2:] == [4, 1]


def dilations(spec: ArchSpec) -> list[int]:
    """Of every block; 1 of what has none."""
    return [getattr(block, "dilation", 1) for block in spec.blocks]


def test_full_convolutions_are_dilated_too() -> None:
    dilated = with_output_stride(small("mobilenet_v1_full"), 16)
    assert dilations(dilated)[-3:] == [1, 2, 2]
    assert dilated.build(seed=0).forward_features(torch.zeros(1, 3, 64, 64)).shape[-2:] == (4, 4)


@torch.no_grad()
def test_dilated_network_sees_as_far_as_the_strided_one() -> None:
    """Of a map that is computed at every place, the places the stride leaves are the same."""
    plain = small("mobilenet_v1")
    dilated = with_output_stride(plain, 16)
    one, other = plain.build(seed=0).eval(), dilated.build(seed=0).eval()
    x = torch.randn(1, 3, 128, 128)
    last_at_16 = plain.taps[16]
    maps = [net.blocks[: last_at_16 + 2](x) for net in (one, other)]
    torch.testing.assert_close(maps[0], maps[1][..., ::2, ::2], atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_window_that_covers_the_map_is_the_global_mean() -> None:
    spec = LrAsppSpec(c_low=4, c_high=6, num_classes=3, filters=8)
    window, world = spec.build().eval(), replace(spec, pooling="global").build().eval()
    world.load_state_dict(window.state_dict())
    low, high = torch.randn(2, 4, 16, 16), torch.randn(2, 6, 8, 8)
    torch.testing.assert_close(window(low, high), world(low, high))


@torch.no_grad()
def test_gate_is_pooled_in_windows_of_49_at_stride_16_and_20() -> None:
    spec = LrAsppSpec(c_low=4, c_high=6, num_classes=3, filters=8)
    assert spec.pooled_size((64, 128)) == (1, 4)  # of Cityscapes at full size
    assert spec.pooled_size((32, 64)) == (1, 1)
    high = torch.randn(1, 6, 64, 128)
    pooled = window_means(high)
    assert pooled.shape[-2:] == (1, 4)
    torch.testing.assert_close(pooled[0, :, 0, 1], high[0, :, :49, 20:69].mean((1, 2)))


@torch.no_grad()
def test_resizing_the_classes_is_resizing_the_filters() -> None:
    """As Fig. 10 draws it: the filters are resized, then classified."""
    head = LrAsppSpec(c_low=4, c_high=6, num_classes=3, filters=8, pooling="global").build().eval()
    low, high = torch.randn(2, 4, 16, 16), torch.randn(2, 6, 8, 8)
    gate = torch.sigmoid(head.gate(high.mean((2, 3), keepdim=True)))
    wide = F.interpolate(head.project(high) * gate, size=(16, 16), mode="bilinear")
    expected = head.high_classifier(wide) + head.low_classifier(low)
    torch.testing.assert_close(head(low, high), expected, atol=1e-5, rtol=1e-5)


def test_peak_counts_the_maps_that_wait_for_the_head() -> None:
    spec = lr_aspp(small("mobilenet_v2"), 5)
    assert isinstance(spec.head, LrAsppSpec)
    low = spec.head.c_low * 8 * 8
    assert [layer.kept >= low for layer in spec.layers()[-6:-4]] == [True, True]


@pytest.mark.parametrize("head", [lr_aspp, r_aspp])
def test_specification_travels_as_json(head: type) -> None:
    spec: SegmenterSpec = head(small("mobilenet_v3_small"), 5)
    file = NetworkFile(spec=spec, classes=tuple("abcde"))
    assert from_json(NetworkFile, to_json(file), source="x") == file
    assert spec.label.endswith("aspp_mobilenet_v3_small x0.25 @64")
    assert spec.at(96).resolution == 96
    assert spec.with_classes(7).build(seed=0)(torch.zeros(2, 3, 64, 64)).shape[1] == 7


def test_same_seed_gives_the_same_weights() -> None:
    spec = lr_aspp(small("mobilenet_v2"), 5)
    one, other = spec.build(seed=3).state_dict(), spec.build(seed=3).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: lr_aspp(registry.spec("shufflenet_v2_x0_5"), 5),
            "cannot be dilated: .*output_stride=32",
        ),
        (lambda: lr_aspp(small("mobilenet_v2"), 5, output_stride=4), "output_stride=4 is not"),
        (lambda: lr_aspp(small("mobilenet_v2"), 0), "num_classes=0 is not allowed"),
        (lambda: lr_aspp(small("mobilenet_v2"), 5, pooling="max"), "pooling='max' is"),  # type: ignore[arg-type]  # what is tested
        (
            lambda: replace(lr_aspp(small("mobilenet_v2"), 5), low=None),
            "LR-ASPP alone has a low map",
        ),
        (
            lambda: replace(lr_aspp(small("mobilenet_v2"), 5), high=Tap(block=99)),
            "a map of block 99 is not there",
        ),
        (
            lambda: replace(lr_aspp(small("mobilenet_v2"), 5), high=Tap(block=0)),
            "takes 80 channels, but block 0 .* gives 8; set its c_high to 8",
        ),
        (
            lambda: replace(lr_aspp(small("mobilenet_v2"), 5), high=Tap(block=0, at="expansion")),
            "is conv, without expansion",
        ),
        (lambda: RAsppSpec(c_high=0, num_classes=2), "c_high=0 is not allowed"),
    ],
)
def test_what_does_not_fit_is_refused(make: type, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_input_of_other_channels_is_refused() -> None:
    network: Segmenter = lr_aspp(small("mobilenet_v2"), 5).build(seed=0)
    with pytest.raises(ConfigError, match="input"):
        network(torch.zeros(1, 1, 64, 64))
