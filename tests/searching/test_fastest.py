"""Which of the files of a network is fastest: timed in turns, then by its own table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pocketvision.models import registry
from pocketvision.record.timing import Latency
from pocketvision.searching import fastest
from pocketvision.searching.fastest import fastest_file

SPEC = registry.spec("mobilenet_v1", width=0.25, resolution=32, num_classes=2)


def taking(ms: float) -> Latency:
    return Latency(median_ms=ms, p95_ms=ms, low_ms=ms, high_ms=ms, runs=9, threads=1)


class Table:
    """One that always says the same."""

    def __init__(self, *_: object) -> None:
        pass

    def timed_whole(self, spec: object) -> Latency:
        return taking(5.0)


def test_the_fastest_in_turns_is_chosen_and_told_by_its_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def measured(runs: Mapping[str, Callable[[], object]], *_: Any) -> dict[str, Latency]:
        asked.append(len(runs))
        for run in runs.values():
            run()
        return {name: taking(9.0 - number) for number, name in enumerate(runs)}

    monkeypatch.setattr(fastest, "measure_latency", measured)
    monkeypatch.setattr(fastest, "ScaledTable", Table)
    assert fastest_file(SPEC, "onnxruntime", None, 1) == ("onnxruntime", "int8", taking(5.0))
    assert asked == [2]  # f32 and int8
    assert fastest_file(SPEC, "onnxruntime", "f32", 1) == ("onnxruntime", "f32", taking(5.0))
    assert asked == [2]  # nothing to choose
