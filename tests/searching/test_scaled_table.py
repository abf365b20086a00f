"""The table that whole networks set right."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec
from pocketvision.record.timing import Latency
from pocketvision.runtimes.onnxruntime import OnnxRuntime
from pocketvision.searching.scaled_table import ScaledTable

SMALL, LARGE = (
    registry.spec("mobilenet_v1", width=width, resolution=32, num_classes=2)
    for width in (0.25, 1.0)
)


def sum_ms(spec: ArchSpec) -> float:
    return 1e-6 * count(spec).macs


def taking(ms: float, noise: str = "") -> Latency:
    return Latency(median_ms=ms, p95_ms=ms, low_ms=ms, high_ms=ms, runs=9, threads=1, noise=noise)


def table_that_measures(latencies: Sequence[Latency]) -> tuple[ScaledTable, list[ArchSpec]]:
    """A table on a machine that times whole networks so, one after another; and what it timed."""
    waiting, timed = list(latencies), list[ArchSpec]()

    def time(specs: list[ArchSpec], protocol: object) -> list[SimpleNamespace]:
        timed.extend(specs)
        return [SimpleNamespace(latency=waiting.pop(0))]

    table = ScaledTable(OnnxRuntime(), "f32", 1)
    local: Any = SimpleNamespace(
        ensure=lambda specs: None, sums=SimpleNamespace(sum_ms=sum_ms), time=time
    )
    table.local = local
    return table, timed


def test_a_network_that_was_timed_sets_the_scale_of_all() -> None:
    table, _ = table_that_measures([])
    table.meet(SMALL, taking(3 * sum_ms(SMALL)))
    assert table.latency_ms(SMALL) == pytest.approx(3 * sum_ms(SMALL))
    assert table.latency_ms(LARGE) == pytest.approx(3 * sum_ms(LARGE))


def test_first_measurement_has_nothing_to_be_odd_beside() -> None:
    table, timed = table_that_measures([taking(5.0)])
    assert table.timed_whole(SMALL).median_ms == 5.0
    assert timed == [SMALL]


def test_noisy_and_odd_measurements_are_repeated_and_the_middle_one_counts() -> None:
    table, timed = table_that_measures([taking(5.0, "others"), taking(4.0), taking(9.0)])
    assert table.timed_whole(SMALL).median_ms == 4.0
    assert len(timed) == 2
    expected = sum_ms(LARGE)
    found = [taking(1.2 * expected), taking(1.01 * expected), taking(1.0 * expected)]
    table, timed = table_that_measures(found)
    table.meet(SMALL, taking(sum_ms(SMALL)))
    assert table.timed_whole(LARGE).median_ms == pytest.approx(1.01 * expected)
    assert len(timed) == 3
    table, timed = table_that_measures([taking(1.04 * expected)])
    table.meet(SMALL, taking(sum_ms(SMALL)))
    table.timed_whole(LARGE)
    assert len(timed) == 1
