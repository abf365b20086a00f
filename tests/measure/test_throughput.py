"""Images a second, and a file timed whole."""

from __future__ import annotations

import pytest

from pocketvision.measure import throughput as module
from pocketvision.measure.latency import LatencyProtocol
from pocketvision.measure.throughput import as_throughput, measure_throughput, time_file
from pocketvision.record.timing import Latency, Throughput
from pocketvision.storage import from_json, to_json

BRIEF = LatencyProtocol(warmup_runs=1, rounds=2, min_runs=1, seconds=0, retries=0)


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FINAL", BRIEF)
    monkeypatch.setattr(module, "BATCHED", BRIEF)


def test_throughput_is_the_batch_over_the_time() -> None:
    """8 images in 4 ms are 2,000 a second; the slow end of one is the low end of the other."""
    latency = Latency(
        median_ms=4.0, p95_ms=9.0, low_ms=2.0, high_ms=5.0, runs=30, threads=2, batch=8
    )
    found = as_throughput(latency)
    assert (found.images_per_s, found.low, found.high) == (2000, 1600, 4000)
    assert found.latency == latency
    assert from_json(Throughput, to_json(found), source="record") == found


def test_no_time_at_all_is_no_division_by_zero() -> None:
    nothing = Latency(median_ms=0, p95_ms=0, low_ms=0, high_ms=0, runs=1, threads=1)
    assert as_throughput(nothing).images_per_s > 1e9


def test_sessions_are_timed_on_batches() -> None:
    seen: list[str] = []
    sessions = {name: lambda name=name: seen.append(name) for name in ("a", "b")}
    found = measure_throughput(sessions, 1, batch=16)
    assert {name: one.latency.batch for name, one in found.items()} == {"a": 16, "b": 16}
    assert seen.count("a") == seen.count("b") == 1 + 2 * 2


def test_file_is_timed_on_one_image_and_on_batches() -> None:
    seen: list[str] = []
    timing = time_file(lambda: seen.append("one"), lambda: seen.append("many"), threads=1, batch=4)
    assert timing.latency.batch == 1
    assert timing.throughput is not None
    assert timing.throughput.latency.batch == 4
    assert seen == ["one"] * 5 + ["many"] * 5
    assert (timing.decode_ms, timing.peak_bytes) == (None, None)
    assert time_file(lambda: None, None, threads=1).throughput is None
