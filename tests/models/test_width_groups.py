from dataclasses import replace

import pytest

from pocketvision.errors import ConfigError
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec
from pocketvision.models.narrow import check_narrows
from pocketvision.models.width_groups import WidthGroup, resized, width_groups
from pocketvision.models.widths import widths_of
from pocketvision.nn.blocks import InvertedResidualSpec
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.heads import ClassifierSpec
from pocketvision.nn.shuffle import ShuffleV1Spec, ShuffleV2Spec
from pocketvision.storage import from_json, to_json

NAMES = registry.list_models()


def is_large(name: str) -> bool:
    """Whether it has the blocks of a smaller one that is here."""
    return name.endswith(("101", "152", "v2_x1_5", "v2_x2_0", "resnet34"))


def called(spec: ArchSpec, name: str) -> WidthGroup:
    return next(group for group in width_groups(spec) if group.name == name)


def moved(spec: ArchSpec, name: str, width: int) -> ArchSpec:
    return resized(spec, called(spec, name), width)


def table(name: str, width: float | None = None) -> list[tuple[str, str, int]]:
    spec = registry.spec(name, width=width)
    return [(group.name, group.kind, group.width) for group in width_groups(spec)]


def outputs(spec: ArchSpec) -> list[int]:
    return [block.c_out for block in spec.blocks]


@pytest.mark.parametrize("last", [pytest.param(0, marks=pytest.mark.slow), -1])
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if is_large(name) else ()) for name in NAMES],
)
def test_every_network_can_be_narrowed_group_by_group(name: str, last: int) -> None:
    """To the widest or the narrowest that is allowed; the specification checks that all chains."""
    spec = narrower = registry.spec(name, width=min(registry.widths(name)), resolution=32)
    groups = width_groups(spec)
    names = [group.name for group in groups]
    assert names
    assert len(set(names)) == len(names)
    for each in groups:
        group = called(narrower, each.name)
        widths = widths_of(narrower, group, max(1, group.width // 6)) or widths_of(narrower, group)
        assert list(widths) == sorted(widths, reverse=True)
        if widths:  # narrow stages of eight groups have no other widths
            narrower = resized(narrower, group, widths[last])
            assert called(narrower, each.name) == replace(group, width=widths[last])
    assert [group.name for group in width_groups(narrower)] == names
    check_narrows(spec, narrower)
    assert narrower.label.count("narrowed") == 1 or name == "shufflenet_v1_g8"
    assert (narrower.name, narrower.width) == (spec.name, spec.width)
    assert from_json(ArchSpec, to_json(narrower), source="a test") == narrower


def test_groups_of_mobilenet_v2() -> None:
    groups = table("mobilenet_v2")
    assert groups[:6] == [
        ("blocks.0.output", "bottleneck", 32),
        ("blocks.1.output", "bottleneck", 16),  # whose block does not expand
        ("blocks.2-3.output", "bottleneck", 24),
        ("blocks.2.expansion", "expansion", 96),
        ("blocks.3.expansion", "expansion", 144),
        ("blocks.4-6.output", "bottleneck", 32),
    ]
    assert groups[-3:] == [
        ("blocks.17.output", "bottleneck", 320),
        ("blocks.17.expansion", "expansion", 960),
        ("blocks.18.output", "bottleneck", 1280),
    ]
    kinds = [kind for _, kind, _ in groups]
    assert (kinds.count("bottleneck"), kinds.count("expansion")) == (9, 16)


def test_groups_of_mobilenet_v3_have_attention_and_the_head() -> None:
    groups = table("mobilenet_v3_small")
    assert ("blocks.1.squeeze", "squeeze", 8) in groups
    assert ("blocks.4.squeeze", "squeeze", 24) in groups
    assert groups[-1] == ("head.hidden", "hidden", 1024)
    assert ("blocks.1.expansion", "expansion", 16) not in groups


def test_groups_of_resnets() -> None:
    assert table("cbam_resnet18")[:4] == [
        ("blocks.0-3.output", "bottleneck", 64),  # stem, pool, and two units without projection
        ("blocks.2.squeeze", "squeeze", 4),
        ("blocks.3.squeeze", "squeeze", 4),
        ("blocks.4-5.output", "bottleneck", 128),
    ]
    assert table("resnet50")[:5] == [
        ("blocks.0-1.output", "bottleneck", 64),
        ("blocks.2-4.output", "bottleneck", 256),
        ("blocks.2.expansion", "expansion", 64),
        ("blocks.3.expansion", "expansion", 64),
        ("blocks.4.expansion", "expansion", 64),
    ]


def test_groups_of_shufflenets() -> None:
    assert table("shufflenet_v2_x0_5") == [
        ("blocks.0-1.output", "bottleneck", 24),
        ("blocks.2-5.output", "stage", 48),
        ("blocks.6-13.output", "stage", 96),
        ("blocks.14-17.output", "stage", 192),
        ("blocks.18.output", "bottleneck", 1024),
    ]
    assert table("shufflenet_v1_g1") == [
        ("blocks.0-1.output", "bottleneck", 24),
        ("blocks.2-5.output", "stage", 144),
        ("blocks.6-13.output", "stage", 288),
        ("blocks.14-17.output", "stage", 576),
    ]
    assert table("shufflenet_v1_g3") == [("blocks.2-17.output", "stages", 240)]


def test_inception_modules_keep_their_widths() -> None:
    groups = table("se_inception")
    assert groups[:2] == [
        ("blocks.0-1.output", "bottleneck", 64),
        ("blocks.2.output", "bottleneck", 64),
    ]
    assert {kind for _, kind, _ in groups[2:]} == {"squeeze"}  # block 3 is read by one


def test_a_bottleneck_moves_all_that_it_meets() -> None:
    spec = registry.spec("mobilenet_v2")
    before, after = spec.blocks, moved(spec, "blocks.2-3.output", 16).blocks
    assert [index for index in range(len(before)) if before[index] != after[index]] == [2, 3, 4]
    assert [(block.c_in, block.c_out) for block in after[2:5]] == [(16, 16), (16, 16), (16, 32)]
    head = moved(spec, "blocks.18.output", 1000).head
    assert head == replace(spec.head, c_in=1000)


def test_a_block_without_expansion_follows_its_input() -> None:
    spec = moved(registry.spec("mobilenet_v2"), "blocks.0.output", 20)
    block = spec.blocks[1]
    assert isinstance(block, InvertedResidualSpec)
    assert (block.c_in, block.c_mid, block.expand) == (20, 20, None)


def test_what_is_inside_moves_alone() -> None:
    spec = registry.spec("mobilenet_v3_small")
    block = spec.blocks[4]
    assert isinstance(block, InvertedResidualSpec)
    assert block.attention
    squeezed = replace(block, attention=replace(block.attention, squeezed=10))
    for name, changed in (
        ("blocks.4.expansion", replace(block, c_mid=10)),
        ("blocks.4.squeeze", squeezed),
    ):
        assert moved(spec, name, 10).blocks == (*spec.blocks[:4], changed, *spec.blocks[5:])
    assert moved(spec, "head.hidden", 10).head == replace(spec.head, hidden=10)
    assert moved(spec, "head.hidden", 10).blocks == spec.blocks


def test_stages_of_a_shufflenet_v1_with_groups_keep_their_ratio() -> None:
    spec = registry.spec("shufflenet_v1_g3")
    widths = widths_of(spec, called(spec, "blocks.2-17.output"), 18)
    assert widths == (216, 180, 144, 108, 72)  # multiples of 12, too
    for width in (widths[0], widths[-1]):
        narrower = moved(spec, "blocks.2-17.output", width)
        stages = [width] * 4 + [2 * width] * 8 + [4 * width] * 4
        assert outputs(narrower) == [24, 24, *stages]


def test_later_stages_of_a_shufflenet_v1_lose_as_many_as_an_earlier_one() -> None:
    spec = registry.spec("shufflenet_v1_g1")
    stem = moved(spec, "blocks.0-1.output", 16)
    assert outputs(stem) == [16] * 2 + [136] * 4 + [280] * 8 + [568] * 4
    middle = moved(spec, "blocks.6-13.output", 200)
    assert outputs(middle) == [24] * 2 + [144] * 4 + [200] * 8 + [488] * 4
    narrowest = moved(spec, "blocks.6-13.output", 148)  # 4 of a branch behind 144
    assert outputs(narrowest)[6] == 148


def test_present_width_changes_nothing() -> None:
    spec = registry.spec("shufflenet_v2_x0_5")
    for group in width_groups(spec):
        assert resized(spec, group, group.width) == spec


def test_variant_says_narrowed_once_and_last() -> None:
    spec = registry.spec("mobilenet_v2", attention="se")
    once = moved(spec, "blocks.0.output", 16)
    assert once.variant == "se, narrowed"
    assert moved(once, "blocks.18.output", 640).label == "mobilenet_v2 (se, narrowed) x1 @224"


def test_allowed_widths_are_multiples_below_the_present_one() -> None:
    spec = registry.spec("mobilenet_v2")
    assert widths_of(spec, called(spec, "blocks.0.output"), 8) == (24, 16, 8)
    assert widths_of(spec, called(spec, "blocks.0.output"), 32) == ()
    assert widths_of(spec, called(spec, "blocks.17.expansion"), 400) == (800, 400)
    assert widths_of(spec, called(spec, "blocks.0.output")) == tuple(range(31, 0, -1))


def test_equal_widths_add_no_shortcut() -> None:
    spec = registry.spec("mobilenet_v2")
    narrower = moved(spec, "blocks.11-13.output", 64)  # behind 64 channels, at stride 1
    blocks = [block for block in narrower.blocks if isinstance(block, InvertedResidualSpec)]
    assert [block.has_skip for block in blocks[9:13]] == [True, False, True, True]
    assert blocks[10].c_in == blocks[10].c_out == 64
    again = moved(narrower, "blocks.7-10.output", 48)
    assert moved(again, "blocks.11-13.output", 48).blocks[11] == replace(
        blocks[10], c_in=48, c_out=48
    )


def test_widths_that_take_a_layer_away_are_not_allowed() -> None:
    spec = registry.spec("mobilenet_v2")
    with pytest.raises(
        ConfigError,
        match=r"blocks\.2\.expansion cannot be 16 wide: block 2 would lose its expansion or "
        r"projection, .* The nearest allowed width is 17\.",
    ):
        moved(spec, "blocks.2.expansion", 16)
    small = moved(spec, "blocks.4.expansion", 20)
    with pytest.raises(ConfigError, match=r"output cannot be 20 wide: block 4 .* width is 21\."):
        moved(small, "blocks.2-3.output", 20)
    resnet = registry.spec("resnet50")
    first = called(resnet, "blocks.2-4.output")
    assert widths_of(resnet, first, 32) == (224, 192, 160, 128, 96, 32)


def test_a_split_needs_halves_and_channels_read_by_the_same_units() -> None:
    spec = registry.spec("shufflenet_v2_x0_5")
    stage = called(spec, "blocks.6-13.output")
    with pytest.raises(ConfigError, match=r"cannot be 71 wide: c_out=71 is odd .* width is 72\."):
        resized(spec, stage, 71)
    with pytest.raises(
        ConfigError, match=r"64 wide: .*cannot take all its channels .* width is 66\."
    ):
        resized(spec, stage, 64)
    assert widths_of(spec, stage, 8) == (88, 80, 72, 32, 24, 16, 8)
    assert widths_of(spec, called(spec, "blocks.2-5.output"), 8) == (40, 32, 24, 16, 8)


def test_groups_allow_multiples_of_four_times_their_number() -> None:
    spec = registry.spec("shufflenet_v1_g3")
    stages = called(spec, "blocks.2-17.output")
    with pytest.raises(ConfigError, match=r"c_out=238 does not .* nearest allowed width is 240\."):
        resized(spec, stages, 238)
    uneven = registry.spec("shufflenet_v1_g2", width=0.25)  # 56, 104, 200
    narrower = moved(uneven, "blocks.2-17.output", 40)
    assert sorted({*outputs(narrower)}) == [12, 40, 72, 136]  # 74.3 and 142.9 rounded down
    ungrouped = registry.spec("shufflenet_v1_g1")
    with pytest.raises(
        ConfigError, match=r"leaves the branch no channels .* allowed width is 28\."
    ):
        moved(ungrouped, "blocks.2-5.output", 24)


def test_width_must_lie_between_one_and_the_present_one() -> None:
    spec = registry.spec("mobilenet_v2")
    with pytest.raises(
        ConfigError, match=r"width=0 is not allowed; expected a whole number from 1"
    ):
        moved(spec, "blocks.0.output", 0)
    with pytest.raises(
        ConfigError,
        match=r"width=33 is more than blocks\.0\.output has in mobilenet_v2 x1 @224; expected 1 to",
    ):
        moved(spec, "blocks.0.output", 33)
    with pytest.raises(ConfigError, match="multiple=0 is not allowed"):
        widths_of(spec, called(spec, "blocks.0.output"), 0)


def test_a_group_of_another_network_is_refused() -> None:
    spec = registry.spec("mobilenet_v2")
    group = called(spec, "blocks.0.output")
    narrower = resized(spec, group, 16)
    with pytest.raises(
        ConfigError,
        match=r"blocks\.0\.output of width 32 is no group of mobilenet_v2 \(narrowed\) x1 @224: "
        r"there it is 16 wide; take one of width_groups\(spec\)",
    ):
        resized(narrower, group, 8)
    with pytest.raises(ConfigError, match="there is none of this name"):
        widths_of(registry.spec("resnet18"), group, 8)


def test_blocks_of_grouped_convolutions_are_left_out() -> None:
    spec = ArchSpec(
        name="grouped",
        width=1.0,
        in_chans=3,
        resolution=32,
        blocks=(
            ConvSpec(c_in=3, c_out=8),
            ConvSpec(c_in=8, c_out=8, groups=2),
            ConvSpec(c_in=8, c_out=6),
        ),
        head=ClassifierSpec(c_in=6, num_classes=4),
    )
    assert [group.name for group in width_groups(spec)] == ["blocks.2.output"]


@pytest.mark.parametrize("kind", [ShuffleV1Spec, ShuffleV2Spec])
def test_units_tied_to_the_input_are_left_out(kind: type) -> None:
    groups = {"groups": 1} if kind is ShuffleV1Spec else {}
    spec = ArchSpec(
        name="tied",
        width=1.0,
        in_chans=8,
        resolution=32,
        blocks=(kind(c_in=8, c_out=8, **groups), ConvSpec(c_in=8, c_out=6)),
        head=ClassifierSpec(c_in=6, num_classes=4, hidden=3),
    )
    assert [group.name for group in width_groups(spec)] == ["blocks.1.output", "head.hidden"]
