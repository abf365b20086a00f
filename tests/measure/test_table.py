"""Sums of blocks: exact where a machine is, checked where it is not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from pocketvision.compress.netadapt import narrowest
from pocketvision.errors import ConfigError
from pocketvision.measure.count import count
from pocketvision.measure.device import machine
from pocketvision.measure.table import (
    DeviceTable,
    LatencyTable,
    Timed,
    check_table,
    rank_correlation,
    terms,
)
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec
from pocketvision.models.detector import ssdlite
from pocketvision.models.networks import AnySpec, DenseSpec
from pocketvision.models.segmenter import lr_aspp, r_aspp
from pocketvision.models.spaces import V3_SMALL
from pocketvision.models.width_groups import resized, width_groups
from pocketvision.models.widths import widths_of
from pocketvision.nn.blocks import InvertedResidualSpec
from pocketvision.record.timing import Latency
from pocketvision.storage import from_json, to_json

SPACE = replace(V3_SMALL, resolutions=(96,))


def members(number: int, seed: int = 0) -> list[ArchSpec]:
    generator = random.Random(seed)
    return [SPACE.spec(SPACE.sample(generator), 10) for _ in range(number)]


def ideal_ms(spec: AnySpec) -> float:
    """On a machine where work takes its time and a call costs something of its own."""
    blocks = spec.blocks if isinstance(spec, ArchSpec) else spec.body_blocks
    return 0.05 + 1e-6 * count(spec).macs + 0.01 * len(blocks)


def timed(spec: AnySpec, ms: float) -> Timed:
    latency = Latency(median_ms=ms, p95_ms=ms, low_ms=ms, high_ms=ms, runs=9, threads=1)
    return Timed(network=spec, latency=latency)


def with_block(spec: ArchSpec, place: int, **changes: int) -> ArchSpec:
    """`spec` with fields of one inverted residual changed."""
    block = spec.blocks[place]
    assert isinstance(block, InvertedResidualSpec)
    changed = replace(block, **changes)  # type: ignore[arg-type]  # whole numbers alone
    return replace(spec, blocks=(*spec.blocks[:place], changed, *spec.blocks[place + 1 :]))


def table_of(specs: Sequence[AnySpec], wholes: list[Timed] | None = None) -> DeviceTable:
    carriers = dict.fromkeys(carrier for spec in specs for carrier in terms(spec))
    return DeviceTable(
        machine=machine(),
        runtime="onnxruntime",
        precision="f32",
        threads=1,
        carriers=tuple(timed(carrier, ideal_ms(carrier)) for carrier in carriers),
        wholes=tuple(wholes or ()),
    )


@pytest.mark.parametrize("name", registry.list_models())
def test_sum_is_exact_where_a_network_takes_what_its_blocks_take(name: str) -> None:
    spec = registry.spec(name, resolution=64, num_classes=10)
    assert LatencyTable(table_of([spec])).latency_ms(spec) == pytest.approx(ideal_ms(spec))


def test_terms_of_a_network_end_in_its_head_and_keep_every_block() -> None:
    spec = registry.spec("mobilenet_v3_small", resolution=64, num_classes=10)
    added = [c for c, times in terms(spec).items() if times > 0 and isinstance(c, ArchSpec)]
    blocks = [carrier.blocks[-1] for carrier in added]
    assert set(spec.blocks) <= set(blocks)
    assert any(carrier.head == spec.head for carrier in added)
    assert sum(terms(spec).values()) == 1  # one call, one empty head more than is taken off


@pytest.mark.parametrize(
    "spec",
    [
        lr_aspp(registry.spec("mobilenet_v3_small", resolution=104), 7),
        lr_aspp(registry.spec("shufflenet_v2_x0_5", resolution=96), 7, output_stride=32),
        r_aspp(registry.spec("mobilenet_v2", resolution=96), 7),
        ssdlite(registry.spec("mobilenet_v3_large", resolution=100, reduced_tail=True), 7),
        ssdlite(registry.spec("mobilenet_v1", resolution=96), 7),
    ],
    ids=lambda spec: spec.name,
)
def test_work_of_a_network_that_tells_places_is_that_of_its_carriers(spec: DenseSpec) -> None:
    found = terms(spec)
    assert sum(times * count(carrier).macs for carrier, times in found.items()) == count(spec).macs
    (head,) = (carrier for carrier in found if not isinstance(carrier, ArchSpec))
    assert (head.head, found[head]) == (spec.head, 1)
    assert LatencyTable(table_of([spec])).latency_ms(spec) == pytest.approx(ideal_ms(spec))


def test_head_that_was_never_timed_is_named() -> None:
    spec = lr_aspp(registry.spec("mobilenet_v2", resolution=64), 7)
    table = LatencyTable(table_of([registry.spec("mobilenet_v2", resolution=64)]))
    with pytest.raises(ConfigError, match=r"holds no (lr_aspp|inverted_residual) of this form"):
        table.latency_ms(spec)


def test_table_goes_through_json() -> None:
    table = table_of(members(2), [timed(spec, 1.0) for spec in members(2)])
    assert from_json(DeviceTable, to_json(table), source="a test") == table


def test_widths_between_lie_on_the_line_through_the_nearest() -> None:
    spec = registry.spec("mobilenet_v2", resolution=64, num_classes=10)
    table = LatencyTable(table_of([with_block(spec, 3, c_mid=width) for width in (144, 64)]))
    between = with_block(spec, 3, c_mid=96)
    assert table.latency_ms(between) == pytest.approx(ideal_ms(between))


def test_widths_beyond_those_timed_are_no_faster_than_the_least_of_them() -> None:
    """A line through two noisy ones that are near each other would lead anywhere, to 0 ms too."""
    spec = registry.spec("mobilenet_v2", resolution=64, num_classes=10)
    table = table_of([with_block(spec, 3, c_mid=width) for width in (136, 144)])
    least = with_block(spec, 3, c_mid=136).blocks[3]
    lucky = tuple(
        timed(one.network, 0.5 * one.latency.median_ms)
        if isinstance(one.network, ArchSpec) and one.network.blocks[-1] == least
        else one
        for one in table.carriers
    )
    sums = LatencyTable(replace(table, carriers=lucky))
    ms = {width: sums.latency_ms(with_block(spec, 3, c_mid=width)) for width in (32, 136, 144, 192)}
    assert ms[32] == ms[136] < ms[144] < ms[192]


def test_block_of_a_form_that_was_never_timed_is_named() -> None:
    spec = registry.spec("mobilenet_v2", resolution=64, num_classes=10)
    table = LatencyTable(table_of([spec]))
    with pytest.raises(ConfigError, match=r"onnxruntime f32, 1 thread, on .* holds no conv of"):
        table.latency_ms(spec.at(96))
    with pytest.raises(ConfigError, match="no inverted_residual of this form at 16 px; profile"):
        table.latency_ms(with_block(spec, 3, kernel=7))


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "resnet18"])
def test_narrowed_networks_are_of_the_forms_of_their_widths(name: str) -> None:
    """So that a table made for `fit` tells of what `shrink` makes."""
    specs = [
        registry.spec(name, width=width, resolution=64, num_classes=10)
        for width in registry.widths(name)
    ]
    table = LatencyTable(table_of(specs))
    for spec in specs:
        for group in width_groups(spec):
            widths = widths_of(spec, group, 8)
            for width in {*widths[::4], *widths[-1:]}:
                assert table.latency_ms(resized(spec, group, width)) > 0
        assert table.latency_ms(narrowest(spec)) > 0


def test_scale_comes_from_whole_networks_and_the_check_leaves_its_own_out() -> None:
    specs = members(6)
    slower = [timed(spec, 1.1 * ideal_ms(spec)) for spec in specs]
    table = table_of(specs, slower)
    sums = LatencyTable(table)
    assert sums.latency_ms(specs[0]) == pytest.approx(1.1 * ideal_ms(specs[0]))
    assert sums.sum_ms(specs[0]) == pytest.approx(ideal_ms(specs[0]))
    found = check_table(table)
    assert found.n == 6
    assert found.worst_error == pytest.approx(0, abs=1e-9)
    assert found.rank_correlation == 1
    outlier = [timed(specs[0], 2.2 * ideal_ms(specs[0])), *slower[1:]]
    assert check_table(replace(table, wholes=tuple(outlier))).worst_error == pytest.approx(0.5)


def test_what_blocks_take_beyond_their_carriers_is_told_by_whole_networks() -> None:
    """One factor would be too much for those with much work, and too little for others."""
    specs = [
        registry.spec("mobilenet_v3_small", width=width, resolution=side, num_classes=10)
        for width in (0.35, 0.5, 0.75, 1.0)
        for side in (32, 48, 64)
    ]
    usual_ms = float(np.median([ideal_ms(spec) for spec in specs]))

    def cold_ms(spec: ArchSpec) -> float:
        return 1.2 * ideal_ms(spec) + 0.05 * usual_ms * len(spec.blocks)

    table = table_of(specs, [timed(spec, cold_ms(spec)) for spec in specs])
    factors = [cold_ms(spec) / ideal_ms(spec) for spec in specs]
    assert max(factors) / min(factors) > 1.5
    found = check_table(table)
    assert found.worst_error < 0.05
    assert found.rank_correlation == pytest.approx(1, abs=0.02)
    other = registry.spec("mobilenet_v3_small", width=0.5, resolution=64, num_classes=10)
    assert LatencyTable(table).latency_ms(other) == pytest.approx(cold_ms(other), rel=0.05)


def test_two_networks_check_nothing() -> None:
    specs = members(2)
    table = table_of(specs, [timed(spec, 1.0) for spec in specs])
    with pytest.raises(ConfigError, match="2 whole networks cannot check a table; measure three"):
        check_table(table)


def test_rank_correlation_is_spearmans() -> None:
    rising = np.array([1.0, 2.0, 5.0, 9.0])
    assert rank_correlation(rising, rising**2) == 1
    assert rank_correlation(rising, -rising) == -1
    assert rank_correlation(rising, np.array([2.0, 1.0, 3.0, 4.0])) == pytest.approx(0.8)


def test_equal_values_share_their_rank() -> None:
    """Otherwise the order in which equal ones happen to stand would be a figure."""
    tied = np.array([1.0, 1.0, 2.0, 3.0])
    assert rank_correlation(tied, tied) == 1
    first, second = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 1.0, 3.0, 4.0])
    assert rank_correlation(tied, first) == rank_correlation(tied, second)
    assert rank_correlation(tied, first) == pytest.approx(0.9487, abs=1e-4)


def test_two_different_values_have_no_rank_correlation() -> None:
    assert rank_correlation(np.array([1.0, 2.0, 2.0]), np.array([1.0, 2.0, 3.0])) is None
