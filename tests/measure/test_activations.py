"""Activation memory with expansions in slices: the paper's arithmetic, then laws."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from pocketvision.errors import ConfigError
from pocketvision.measure.activations import ActivationMemory, activation_memory
from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec, BlockSpec
from pocketvision.nn.attention import CbamSpec
from pocketvision.nn.blocks import InvertedResidualSpec
from pocketvision.nn.heads import ClassifierSpec
from pocketvision.nn.pool import PoolSpec


class Row(NamedTuple):
    """(channels, KB at 16 bits) of each network at one side in pixels, as printed."""

    side: int
    v1: tuple[int, int]
    v2: tuple[int, int]
    shufflenet: tuple[int, int]


# Sandler et al., MobileNetV2, Table 3, less the rows that print a bound ("1/O(1)") or a vector.
# fmt: off
TABLE_3 = (
    Row(side=56, v1=( 128, 800), v2=( 32, 200), shufflenet=(  48, 300)),
    Row(side=28, v1=( 256, 400), v2=( 64, 100), shufflenet=( 400, 600)),
    Row(side=14, v1=( 512, 200), v2=(160,  62), shufflenet=( 800, 310)),
    Row(side=7,  v1=(1024, 199), v2=(320,  32), shufflenet=(1600, 156)),
)
# fmt: on
MISPRINTS = {(7, 1024, 199): 100}  # twice the product


@pytest.mark.parametrize("row", TABLE_3, ids=lambda row: f"{row.side} px")
def test_rows_of_table_3_are_channels_by_pixels_by_two_bytes(row: Row) -> None:
    for channels, printed in row[1:]:
        kilobytes = MISPRINTS.get((row.side, channels, printed), printed)
        # Printed with one or two figures.
        assert channels * row.side**2 * 2 / 1000 == pytest.approx(kilobytes, rel=0.05)


def test_largest_rows_of_table_3_are_its_last_line() -> None:
    columns = zip(*(row[1:] for row in TABLE_3), strict=True)
    assert [max(kilobytes for _, kilobytes in column) for column in columns] == [800, 200, 600]


def v2(resolution: int = 224) -> ActivationMemory:
    return activation_memory(registry.spec("mobilenet_v2"), resolution)


def test_v2_at_16_bits_peaks_at_3562_kb_whole_and_1355_kb_in_five_slices() -> None:
    peaks = {t: peak / 1000 for t, peak in v2().peak_bytes.items()}
    assert peaks == {1: 3562.496, 2: 2057.216, 3: 1555.456, 4: 1404.928, 5: 1354.752}


def test_stem_and_first_block_of_v2_set_the_floor() -> None:
    stem, first = v2().blocks[:2]
    pixels = 112 * 112
    ends = 2 * (32 + 16) * pixels
    assert (round(ends / 1000), round(stem.bytes_by_slices[5] / 1000)) == (1204, 1104)
    assert first.bytes_by_slices[5] == ends + 2 * (32 // 5) * pixels  # nothing to expand
    assert v2().floor == ("block 1",)
    rest = [block.bytes_by_slices[5] for block in v2().blocks[2:]]
    assert max(rest) < stem.bytes_by_slices[5] + 50_000


def test_second_block_of_v2_sets_the_peak_of_the_whole() -> None:
    second = v2().blocks[2]
    assert second.bytes_by_slices[1] == v2().peak_bytes[1]
    assert second.bytes_by_slices[1] == 2 * (16 * 112**2 + 24 * 56**2 + 96 * (112**2 + 56**2))


def test_bytes_follow_the_element() -> None:
    spec = registry.spec("mobilenet_v2", resolution=96)
    half, single = activation_memory(spec), activation_memory(spec, bytes_per_element=4)
    assert single.peak_bytes == {t: 2 * n for t, n in half.peak_bytes.items()}
    assert (half.bytes_per_element, single.bytes_per_element) == (2, 4)


@pytest.mark.parametrize("name", registry.list_models())
def test_more_slices_never_take_more(name: str) -> None:
    memory = activation_memory(registry.spec(name), slices=range(1, 9))
    for block in memory.blocks:
        sizes = list(block.bytes_by_slices.values())
        assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2"])
def test_blocks_that_stay_whole_are_counted_by_their_layers(name: str) -> None:
    spec = registry.spec(name)
    blocks = activation_memory(spec, bytes_per_element=4).blocks
    for block in blocks:
        if block.kind != "inverted_residual":
            assert len(set(block.bytes_by_slices.values())) == 1
    layer_by_layer = count(spec).peak_activation_bytes
    if name == "mobilenet_v1":
        assert max(block.bytes_by_slices[1] for block in blocks) == layer_by_layer


def test_squeeze_excite_takes_two_passes() -> None:
    memory = activation_memory(registry.spec("mobilenet_v3_small"))
    assert [b.name for b in memory.blocks if b.two_passes][:2] == ["block 1", "block 4"]
    assert not any(block.two_passes for block in v2().blocks)


def small(*blocks: BlockSpec) -> ArchSpec:
    head = ClassifierSpec(c_in=blocks[-1].c_out, num_classes=2)
    return ArchSpec(
        name="small", width=1.0, in_chans=blocks[0].c_in, resolution=32, blocks=blocks, head=head
    )


def test_block_with_cbam_stays_whole() -> None:
    block = InvertedResidualSpec(c_in=3, c_mid=12, c_out=3, attention=CbamSpec(squeezed=2))
    found = activation_memory(small(block)).blocks[0]
    assert set(found.bytes_by_slices.values()) == {2 * (3 + 3 + 12 + 12) * 32 * 32}
    assert not found.two_passes


def test_pool_holds_its_input_and_output() -> None:
    found = activation_memory(small(PoolSpec(c_in=3))).blocks[0]
    assert found.bytes_by_slices[1] == 2 * 3 * (32 * 32 + 16 * 16)


@pytest.mark.parametrize(
    ("slices", "bytes_per_element", "message"),
    [
        ((), 2, "number of slices=0 is not allowed"),
        ((0,), 2, "slices=0 is out of range; expected 1 to"),
        ((1, 33), 2, "slices=33 is out of range; expected 1 to 32"),
        ((1,), 0, "bytes_per_element=0 is not allowed"),
    ],
)
def test_what_cannot_be_sliced_is_refused(
    slices: tuple[int, ...], bytes_per_element: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        activation_memory(registry.spec("mobilenet_v2"), None, bytes_per_element, slices)
