from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from pocketvision.errors import ConfigError
from pocketvision.measure.count import count
from pocketvision.models.arch import ArchSpec
from pocketvision.models.mobilenet_v3 import (
    mobilenet_v3_large,
    mobilenet_v3_small,
)
from pocketvision.nn.blocks import InvertedResidualSpec
from pocketvision.nn.conv import BatchNormSpec, ConvSpec

BUILDERS: dict[str, Callable[..., ArchSpec]] = {
    "large": mobilenet_v3_large,
    "small": mobilenet_v3_small,
}
AT_224 = [  # rule, size, width, parameters, million MACs
    ("paper", "large", 0.35, 2_131_832, 39.5),
    ("paper", "large", 0.5, 2_689_520, 69.2),
    ("paper", "large", 0.75, 3_993_528, 154.6),
    ("paper", "large", 1.0, 5_483_032, 216.6),
    ("paper", "large", 1.25, 7_551_976, 355.2),
    ("paper", "small", 0.35, 1_358_288, 12.8),
    ("paper", "small", 0.5, 1_592_704, 21.1),
    ("paper", "small", 0.75, 2_041_872, 43.4),
    ("paper", "small", 1.0, 2_542_856, 56.5),
    ("paper", "small", 1.25, 3_205_384, 90.8),
    ("torchvision", "large", 0.35, 997_064, 35.3),
    ("torchvision", "large", 0.5, 1_734_576, 65.0),
    ("torchvision", "large", 0.75, 3_377_576, 140.0),
    ("torchvision", "large", 1.0, 5_483_032, 216.6),
    ("torchvision", "large", 1.25, 8_164_744, 343.5),
    ("torchvision", "small", 0.35, 558_744, 11.2),
    ("torchvision", "small", 0.5, 917_264, 19.0),
    ("torchvision", "small", 0.75, 1_653_920, 39.1),
    ("torchvision", "small", 1.0, 2_542_856, 56.5),
    ("torchvision", "small", 1.25, 3_644_912, 88.2),
    ("timm", "large", 0.35, 2_132_216, 43.9),
    ("timm", "large", 0.5, 2_689_904, 73.7),
    ("timm", "large", 0.75, 3_993_528, 154.6),
    ("timm", "large", 1.0, 5_483_032, 216.6),
    ("timm", "large", 1.25, 7_551_976, 355.2),
    ("timm", "small", 0.35, 1_358_808, 16.0),
    ("timm", "small", 0.5, 1_593_224, 24.2),
    ("timm", "small", 0.75, 2_041_872, 43.4),
    ("timm", "small", 1.0, 2_542_856, 56.5),
    ("timm", "small", 1.25, 3_205_384, 90.8),
]
MILLION_MACS = {
    "large": {256: 281.7, 224: 216.6, 192: 160.2, 160: 112.5, 128: 73.4, 96: 43.1},
    "small": {256: 73.2, 224: 56.5, 192: 42.1, 160: 29.8, 128: 19.8, 96: 12.1},
}
# Kernel, expansion, out, squeeze-excite, activation, stride: written out a second time on purpose.
LARGE_ROWS = """
3 16 16 - relu 1 | 3 64 24 - relu 2 | 3 72 24 - relu 1 | 5 72 40 24 relu 2 | 5 120 40 32 relu 1 |
5 120 40 32 relu 1 | 3 240 80 - hswish 2 | 3 200 80 - hswish 1 | 3 184 80 - hswish 1 |
3 184 80 - hswish 1 | 3 480 112 120 hswish 1 | 3 672 112 168 hswish 1 | 5 672 160 168 hswish 2 |
5 960 160 240 hswish 1 | 5 960 160 240 hswish 1"""
SMALL_ROWS = """
3 16 16 8 relu 2 | 3 72 24 - relu 2 | 3 88 24 - relu 1 | 5 96 40 24 hswish 2 |
5 240 40 64 hswish 1 | 5 240 40 64 hswish 1 | 5 120 48 32 hswish 1 | 5 144 48 40 hswish 1 |
5 288 96 72 hswish 2 | 5 576 96 144 hswish 1 | 5 576 96 144 hswish 1"""


def acts(spec: ArchSpec) -> set[str]:
    return {b.act for b in spec.blocks if isinstance(b, ConvSpec | InvertedResidualSpec)}


def bottlenecks(spec: ArchSpec) -> list[InvertedResidualSpec]:
    return [block for block in spec.blocks if isinstance(block, InvertedResidualSpec)]


def row(block: InvertedResidualSpec) -> str:
    squeezed = block.attention.squeezed if block.attention else "-"
    return f"{block.kernel} {block.c_mid} {block.c_out} {squeezed} {block.act} {block.stride}"


@pytest.mark.parametrize(("rule", "size", "width", "parameters", "million_macs"), AT_224)
def test_mobilenet_v3_has_the_rule_s_parameters_and_macs(
    rule: str, size: str, width: float, parameters: int, million_macs: float
) -> None:
    result = count(BUILDERS[size](width=width, width_rule=rule))
    assert result.parameters == parameters
    assert round(result.macs / 1e6, 1) == million_macs


@pytest.mark.parametrize("size", ["large", "small"])
@pytest.mark.parametrize("resolution", [256, 224, 192, 160, 128, 96])
def test_mobilenet_v3_has_published_macs_at_every_resolution(size: str, resolution: int) -> None:
    macs = count(BUILDERS[size](), resolution).macs
    assert round(macs / 1e6, 1) == MILLION_MACS[size][resolution]


@pytest.mark.parametrize(("size", "rows"), [("large", LARGE_ROWS), ("small", SMALL_ROWS)])
def test_every_block_has_its_row_of_the_paper(size: str, rows: str) -> None:
    blocks = bottlenecks(BUILDERS[size]())
    assert [row(block) for block in blocks] == " ".join(rows.split()).split(" | ")


def test_minimalistic_networks_have_published_counts() -> None:
    large, small = mobilenet_v3_large(minimalistic=True), mobilenet_v3_small(minimalistic=True)
    assert (count(large).parameters, count(small).parameters) == (3_924_288, 2_044_736)
    assert round(count(large).macs / 1e6) == 209
    assert round(count(small).macs / 1e6, 1) == 52.3


@pytest.mark.parametrize("width", [0.35, 0.5, 0.75, 1.0, 1.25])
def test_minimalistic_networks_are_plain(width: float) -> None:
    for builder in BUILDERS.values():
        spec = builder(width=width, minimalistic=True)
        assert acts(spec) == {"relu"}
        assert all(block.kernel in (1, 3) for block in bottlenecks(spec))
        assert all(block.attention is None for block in bottlenecks(spec))
        assert spec.head.act == "relu"


def test_small_of_the_first_preprints_is_one_replace_away() -> None:
    spec = mobilenet_v3_small()
    assert count(replace(spec, head=replace(spec.head, hidden=1280))).parameters == 2_946_568


def test_last_convolution_is_scaled_by_itself_under_the_paper_rule() -> None:
    assert mobilenet_v3_small(width=0.35).head.c_in == 200
    assert mobilenet_v3_small(width=0.35, width_rule="torchvision").head.c_in == 6 * 32


@pytest.mark.parametrize(("width", "stem"), [(0.35, 8), (0.5, 8), (0.75, 16), (1.25, 24)])
def test_stem_is_scaled_but_for_timm_s_small_widths(width: float, stem: int) -> None:
    assert mobilenet_v3_large(width=width).blocks[0].c_out == stem
    pinned = 16 if width < 0.75 else stem
    assert mobilenet_v3_large(width=width, width_rule="timm").blocks[0].c_out == pinned


@pytest.mark.parametrize("size", ["large", "small"])
def test_dilated_keeps_stride_16_at_equal_cost_in_parameters(size: str) -> None:
    plain, dilated = BUILDERS[size](resolution=224), BUILDERS[size](resolution=224, dilated=True)
    assert max(dilated.taps) == 16
    assert [(b.dilation, b.stride) for b in bottlenecks(dilated)[-3:]] == [(2, 1)] * 3
    assert all(block.dilation == 1 for block in bottlenecks(dilated)[:-3])
    assert count(dilated).parameters == count(plain).parameters
    shortcuts = [[block.has_skip for block in bottlenecks(spec)] for spec in (plain, dilated)]
    assert shortcuts[0] == shortcuts[1]
    network = dilated.at(64).build(seed=0).eval()
    assert network.features(torch.zeros(1, 3, 64, 64))[16].shape[2:] == (4, 4)


def test_dilation_brings_no_shortcut_where_channels_happen_to_be_equal() -> None:
    spec = mobilenet_v3_small(width=0.5, dilated=True, reduced_tail=True)
    first = bottlenecks(spec)[-3]
    assert (first.c_in, first.c_out, first.stride) == (24, 24, 1)
    assert not first.has_skip


@pytest.mark.parametrize("size", ["large", "small"])
def test_reduced_tail_halves_the_last_stage(size: str) -> None:
    plain, reduced = BUILDERS[size](), BUILDERS[size](reduced_tail=True)
    pairs = list(zip(bottlenecks(plain), bottlenecks(reduced), strict=True))
    assert all(a == b for a, b in pairs[:-3])
    assert all(b.c_out == a.c_out // 2 for a, b in pairs[-3:])
    assert [b.c_mid * 2 == a.c_mid for a, b in pairs[-3:]] == [False, True, True]
    assert reduced.head.c_in == plain.head.c_in // 2
    assert plain.head.hidden is not None
    assert reduced.head.hidden == plain.head.hidden // 2


def test_batch_norm_constants_are_the_default_or_as_given() -> None:
    for norm in (BatchNormSpec(), BatchNormSpec(eps=1e-3, momentum=0.01)):
        blocks = mobilenet_v3_small(norm=norm).build().blocks
        norms = [module for module in blocks.modules() if isinstance(module, nn.BatchNorm2d)]
        assert {(module.eps, module.momentum) for module in norms} == {(norm.eps, norm.momentum)}
    assert mobilenet_v3_small() == mobilenet_v3_small(norm=BatchNormSpec())


def test_unknown_width_rule_names_the_known() -> None:
    with pytest.raises(
        ConfigError,
        match=r"width_rule='papre' is unknown; expected one of \['paper', 'timm', 'torchvision'\]. "
        "Did you mean 'paper'",
    ):
        mobilenet_v3_large(width_rule="papre")


def test_original_last_stage_costs_what_the_paper_saved() -> None:
    original = mobilenet_v3_large(last_stage="original")
    saved = count(original).macs - count(mobilenet_v3_large()).macs
    assert saved == 34_317_760  # the paper says 30 million
    *_, expand, last = original.blocks
    assert isinstance(expand, InvertedResidualSpec)
    assert (expand.c_in, expand.c_mid, expand.c_out, last.c_out) == (160, 960, 320, 1280)
    assert original.head.hidden is None


def test_wide_stem_costs_what_the_paper_saved() -> None:
    wide = mobilenet_v3_large(stem=32)
    assert (
        count(wide).macs - count(mobilenet_v3_large()).macs == 10_436_608
    )  # the paper: 10 million
    assert [block.c_out for block in wide.blocks[:2]] == [32, 16]
    assert isinstance(wide.blocks[1], InvertedResidualSpec)
    assert wide.blocks[1].expand is None


@pytest.mark.parametrize("builder", list(BUILDERS.values()))
def test_hswish_moves_without_a_change_of_cost(builder: Callable[..., ArchSpec]) -> None:
    everywhere, nowhere = builder(hswish="everywhere"), builder(hswish="nowhere")
    assert acts(everywhere) == {"hswish"}
    assert acts(nowhere) == {nowhere.head.act} == {"relu"}
    assert count(everywhere).macs == count(nowhere).macs == count(builder()).macs


def test_label_says_what_differs_from_the_paper_s_network() -> None:
    spec = mobilenet_v3_small(dilated=True, stem=32, hswish="nowhere", last_stage="original")
    assert spec.label == (
        "mobilenet_v3_small (dilated, original last stage, stem 32, h-swish nowhere) x1 @224"
    )


def test_label_names_the_width_rule_where_it_matters() -> None:
    assert "timm widths" in mobilenet_v3_small(width=0.5, width_rule="timm").label
    assert mobilenet_v3_small(width_rule="timm").variant == ""


def test_unknown_forms_are_refused() -> None:
    with pytest.raises(ConfigError, match="last_stage='old' is unknown; expected one of"):
        mobilenet_v3_large(last_stage="old")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="hswish='early' is unknown; expected one of"):
        mobilenet_v3_large(hswish="early")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="stem=0 is not allowed"):
        mobilenet_v3_large(stem=0)
