"""The table of a network against the papers' tables, and what must hold of any network."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pocketvision.measure.count import count
from pocketvision.measure.rows import Row, layer_rows, table_rows
from pocketvision.models import registry
from pocketvision.nn.blocks import InvertedResidualSpec
from pocketvision.nn.conv import ConvSpec


def details(name: str, blocks: str) -> str:
    rows = table_rows(registry.spec(name))
    return next(row.details for row in rows if row.blocks == blocks)


def test_v2_rows_are_the_papers_table_2() -> None:
    rows = table_rows(registry.spec("mobilenet_v2"))
    assert [(row.in_shape, row.details, row.c, row.n, row.s) for row in rows[:-1]] == [
        ((224, 224, 3), "k=3, relu6", 32, 1, 2),
        ((112, 112, 32), "t=1, k=3, relu6", 16, 1, 1),
        ((112, 112, 16), "t=6, k=3, relu6", 24, 2, 2),
        ((56, 56, 24), "t=6, k=3, relu6", 32, 3, 2),
        ((28, 28, 32), "t=6, k=3, relu6", 64, 4, 2),
        ((14, 14, 64), "t=6, k=3, relu6", 96, 3, 1),
        ((14, 14, 96), "t=6, k=3, relu6", 160, 3, 2),
        ((7, 7, 160), "t=6, k=3, relu6", 320, 1, 1),
        ((7, 7, 320), "k=1, relu6", 1280, 1, 1),
    ]
    assert rows[-1] == Row(
        blocks="head",
        in_shape=(7, 7, 1280),
        kind="classifier",
        details="dropout=0.2",
        c=1000,
        n=1,
        s=1,
        macs=1_280_000,
        parameters=1_281_000,
    )


def test_v1_rows_join_the_five_equal_layers_of_table_1() -> None:
    rows = table_rows(registry.spec("mobilenet_v1"))
    assert [(row.blocks, row.c, row.n, row.s) for row in rows[1:-1]] == [
        ("1", 64, 1, 1),
        ("2-3", 128, 2, 2),
        ("4-5", 256, 2, 2),
        ("6-11", 512, 6, 2),
        ("12-13", 1024, 2, 2),
    ]


def test_resnet50_stages_are_rows_of_3_4_6_3() -> None:
    rows = table_rows(registry.spec("resnet50"))
    stages = [(row.details, row.c, row.n, row.s) for row in rows if row.kind == "bottleneck"]
    assert stages == [
        ("c_mid=64", 256, 3, 1),
        ("c_mid=128", 512, 4, 2),
        ("c_mid=256", 1024, 6, 2),
        ("c_mid=512", 2048, 3, 2),
    ]


@pytest.mark.parametrize(
    ("name", "blocks", "words"),
    [
        ("mobilenet_v3_large", "0", "k=3, hswish"),
        ("mobilenet_v3_large", "8", "c_mid=200, k=3, hswish"),
        ("mobilenet_v3_large", "9-10", "c_mid=184, k=3, hswish"),
        ("mobilenet_v3_large", "5-6", "t=3, k=5, relu, SE 32 hsigmoid"),
        ("mobilenet_v3_large", "11-12", "t=6, k=3, hswish, SE 120/168 hsigmoid"),
        ("mobilenet_v3_large", "head", "hidden=1280, hswish, dropout=0.2"),
        ("se_resnet50", "2-4", "c_mid=64, SE 16 sigmoid bias=no"),
        ("cbam_resnet18", "2-3", "CBAM 4 k=7"),
        ("resnet18", "1", "max, k=3"),
        ("shufflenet_v1_g3", "2", "g=3, first_grouped=no"),
        (
            "se_inception",
            "5",
            "branches 64 | 64-64 | 64-96-96 | mean pool-32, SE 16 sigmoid bias=no",
        ),
    ],
)
def test_details_say_what_the_columns_do_not(name: str, blocks: str, words: str) -> None:
    assert details(name, blocks) == words


def test_a_linear_convolution_and_a_missing_shortcut_are_named() -> None:
    spec = registry.spec("mobilenet_v2")
    stem, first, *rest = spec.blocks
    assert isinstance(stem, ConvSpec)
    assert isinstance(rest[1], InvertedResidualSpec)
    rest[1] = replace(rest[1], skip=False, dilation=2)
    rows = table_rows(replace(spec, blocks=(replace(stem, act="none"), first, *rest)))
    assert rows[0].details == "k=3, linear"
    assert [(row.blocks, row.details) for row in rows[2:4]] == [
        ("2", "t=6, k=3, relu6"),
        ("3", "t=6, k=3, d=2, relu6, skip=no"),
    ]


def test_equal_convolutions_share_a_row() -> None:
    spec = registry.spec("mobilenet_v2")
    stem = ConvSpec(c_in=3, c_out=32, stride=2)
    twice = ConvSpec(c_in=32, c_out=32)
    rows = table_rows(replace(spec, blocks=(stem, twice, twice, *spec.blocks[1:])))
    assert [(row.blocks, row.n, row.s) for row in rows[:2]] == [("0-2", 3, 2), ("3", 1, 1)]


@pytest.mark.parametrize("resolution", [33, 224])
@pytest.mark.parametrize("name", registry.list_models())
def test_rows_hold_the_whole_network_in_order(name: str, resolution: int) -> None:
    spec = registry.spec(name, resolution=resolution)
    rows, counted = table_rows(spec), count(spec)
    assert sum(row.n for row in rows) == len(spec.blocks) + 1
    assert sum(row.macs for row in rows) == counted.macs
    assert sum(row.parameters for row in rows) == counted.parameters
    channels, side = 3, resolution
    for row in rows:
        assert row.in_shape == (side, side, channels)
        channels, side = row.c, -(-side // row.s)
    assert tuple(row.layer for row in layer_rows(spec)) == counted.layers


def test_layers_carry_their_blocks() -> None:
    rows = layer_rows(registry.spec("mobilenet_v2"))
    assert [row.block for row in rows[:7]] == ["0", "1", "1", "2", "2", "2", "3"]
    assert rows[-1].block == "head"
