from dataclasses import replace
from typing import Any

import pytest
import torch

from pocketvision.errors import ConfigError
from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec
from pocketvision.models.editing import cifar_form, with_attention
from pocketvision.models.inception import bn_inception
from pocketvision.models.mobilenet_v1 import mobilenet_v1
from pocketvision.models.mobilenet_v2 import mobilenet_v2
from pocketvision.models.resnet import resnet
from pocketvision.nn.attention import CbamSpec, SqueezeExciteSpec
from pocketvision.nn.blocks import InvertedResidualSpec
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.pool import PoolSpec
from pocketvision.storage import from_json, to_json


def test_mobilenet_with_se_has_the_4_7_million_of_senet_table_3() -> None:
    plain, se = count(mobilenet_v1()), count(with_attention(mobilenet_v1(), "se"))
    assert se.parameters == 4_711_720
    assert se.parameters - plain.parameters == 479_744
    assert round(se.parameters / 1e6, 1) == 4.7
    assert round(plain.macs / 1e6) == 569
    assert se.macs == plain.macs + 479_744  # one product per weight; the table rounds up to 572


def test_mobilenet_with_cbam_is_ours() -> None:
    # CBAM's Table 5 has 5.07 M for both attentions, which a reduction of 16 does not give.
    result = count(with_attention(mobilenet_v1(), "cbam"))
    assert result.parameters == 4_719_318
    biases = sum(b.c_out + b.c_out // 16 for b in mobilenet_v1().blocks[1:])
    assert result.parameters == 4_711_720 + biases + 13 * 98


@pytest.mark.parametrize("name", ["mobilenet_v1", "resnet18", "bn_inception", "mobilenet_v2"])
@pytest.mark.parametrize("attention", ["se", "cbam"])
def test_every_block_that_can_gets_attention_where_none_has(name: str, attention: str) -> None:
    spec = registry.spec(name, width=0.25, resolution=64, attention=attention)
    blocks = [b for b in spec.blocks if not isinstance(b, ConvSpec | PoolSpec)]
    assert blocks
    for block in blocks:
        assert block.attention is not None
    assert spec.build(seed=0).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_attention_of_the_kind_asked_for_stays() -> None:
    for spec in (registry.spec("mobilenet_v3_small"), registry.spec("se_resnet18")):
        assert with_attention(spec, "se") == spec
        assert with_attention(spec, "se", 16).label.count("se") >= 1
    v3 = with_attention(registry.spec("mobilenet_v3_small"), "se", 16)
    assert v3.variant == "se"
    assert with_attention(registry.spec("mobilenet_v2"), "none") == registry.spec("mobilenet_v2")


def test_exchange_touches_the_blocks_alone_that_have_attention() -> None:
    spec = registry.spec("mobilenet_v3_small")
    changed = with_attention(spec, "cbam")
    for block, new in zip(spec.blocks, changed.blocks, strict=True):
        if not isinstance(block, InvertedResidualSpec) or block.attention is None:
            assert new == block
            continue
        squeezed = block.c_mid // 16
        assert new == replace(block, attention=CbamSpec(squeezed=squeezed))
    assert sum(a != b for a, b in zip(spec.blocks, changed.blocks, strict=True)) == 9


def test_exchange_gives_v3_the_gate_of_the_senet_paper() -> None:
    blocks = with_attention(registry.spec("mobilenet_v3_small"), "se", 8).blocks
    first = blocks[1]
    assert isinstance(first, InvertedResidualSpec)
    assert first.attention == SqueezeExciteSpec(squeezed=2, gate="sigmoid", bias=False)


@pytest.mark.parametrize(
    ("with_it", "without"),
    [
        (resnet(depth=50, attention="se"), resnet(depth=50)),
        (bn_inception(attention="cbam"), bn_inception()),
        (with_attention(mobilenet_v2(), "se"), mobilenet_v2()),
    ],
)
def test_none_takes_attention_away(with_it: ArchSpec, without: ArchSpec) -> None:
    assert with_attention(with_it, "none").blocks == without.blocks


def test_none_leaves_a_network_without_attention_as_it_is() -> None:
    assert with_attention(mobilenet_v2(), "none").blocks == mobilenet_v2().blocks


def test_given_afterwards_it_is_the_builder_s() -> None:
    for name in ("se", "cbam"):
        afterwards = with_attention(resnet(depth=18), name, 8)
        assert afterwards.blocks == resnet(depth=18, attention=name, reduction=8).blocks


@pytest.mark.parametrize(
    ("spec", "name", "reduction", "label"),
    [
        (mobilenet_v1(), "se", 16, "mobilenet_v1 (se) x1 @224"),
        (mobilenet_v1(), "cbam", 8, "mobilenet_v1 (cbam r=8) x1 @224"),
        (resnet(depth=50, stride_at="1x1"), "se", 16, "resnet50 (stride at 1x1, se) x1 @224"),
        (registry.spec("mobilenet_v3_small"), "none", 8, "mobilenet_v3_small (none) x1 @224"),
    ],
)
def test_label_says_which_attention(spec: ArchSpec, name: str, reduction: int, label: str) -> None:
    assert with_attention(spec, name, reduction).label == label


def test_edited_network_comes_back_from_json() -> None:
    spec = with_attention(bn_inception(width=0.25), "cbam")
    text = to_json(spec)
    assert '"kind": "cbam"' in text
    assert from_json(ArchSpec, text, source="a test") == spec


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "sse"}, r"attention='sse' is unknown; expected one of \['cbam', 'none', 'se'\]"),
        ({"name": "se", "reduction": 0}, "reduction=0 is not allowed; expected a whole number"),
    ],
)
def test_with_attention_refuses_what_is_not_allowed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_attention(mobilenet_v1(), **options)


def test_network_of_plain_convolutions_cannot_carry_attention() -> None:
    message = "mobilenet_v1_full x1 @224 has no block that can carry attention='se'"
    with pytest.raises(ConfigError, match=message):
        with_attention(mobilenet_v1(separable=False), "se")


@pytest.mark.parametrize(
    ("spec", "strides"),
    [
        (resnet(depth=18, num_classes=10), [2, 4, 8]),
        (mobilenet_v2(num_classes=10), [2, 4, 8, 16]),
    ],
)
def test_cifar_form_sees_32_pixels_at_stride_1(spec: ArchSpec, strides: list[int]) -> None:
    small = cifar_form(spec)
    stem = small.blocks[0]
    assert isinstance(stem, ConvSpec)
    assert (stem.kernel, stem.stride, small.resolution) == (3, 1, 32)
    assert not isinstance(small.blocks[1], PoolSpec)
    assert sorted(small.taps) == strides
    assert small.label == f"{spec.name} (CIFAR stem) x1 @32"
    assert small.build(seed=0).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_cifar_form_of_resnet18_has_the_usual_11_2_million() -> None:
    assert count(cifar_form(resnet(depth=18, num_classes=10))).parameters == 11_173_962


def test_edits_add_up_in_the_label() -> None:
    spec = with_attention(cifar_form(resnet(depth=18)), "se")
    assert spec.label == "resnet18 (CIFAR stem, se) x1 @32"


def test_cifar_form_refuses_a_network_without_a_stem() -> None:
    spec = mobilenet_v2()
    cut = replace(spec, in_chans=32, blocks=spec.blocks[1:])
    message = "mobilenet_v2 x1 @224 begins with inverted_residual; expected a convolution"
    with pytest.raises(ConfigError, match=message):
        cifar_form(cut)
