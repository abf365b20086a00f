"""Why the integers of a file may give other numbers on another processor."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pocketvision.fitting.checks import processor_check
from pocketvision.measure.device import machine
from pocketvision.record.timing import Machine

HERE = machine()
WITH = replace(HERE, architecture="x86_64", features=("avx2", "avx512_vnni"))
WITHOUT = replace(HERE, architecture="x86_64", features=("avx2",))
ARM = replace(HERE, architecture="aarch64", features=("neon", "asimddp"))


@pytest.mark.parametrize(
    ("recorded", "here", "bits", "note"),
    [
        (WITH, WITHOUT, 8, "sums of 8-bit products saturate here"),
        (WITHOUT, WITH, 7, "with VNNI here, weights of 8 bits would do"),
        (WITH, WITHOUT, 7, "weights of 7 bits do not saturate here"),
        (WITH, ARM, 8, "another architecture rounds in another order"),
    ],
)
def test_another_processor_is_named_with_the_reason(
    recorded: Machine, here: Machine, bits: int, note: str
) -> None:
    found = processor_check(recorded, here, bits)
    assert found is not None
    assert found.passed is None
    assert note in found.note
    assert found.recorded != found.found


@pytest.mark.parametrize("one", [WITH, WITHOUT, ARM])
def test_the_same_processor_needs_no_line(one: Machine) -> None:
    assert processor_check(one, one, 8) is None
