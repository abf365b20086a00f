"""Budgets as text and numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketvision import budget
from pocketvision.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "ms"), [("5ms", 5.0), ("5 ms", 5.0), ("0.5s", 500.0), (".5ms", 0.5), ("900us", 0.9)]
)
def test_latency_reads_its_units(text: str, ms: float) -> None:
    assert budget.parse_latency(text) == pytest.approx(ms)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4MB", 4_000_000), ("4 mb", 4_000_000), ("1MiB", 1 << 20), ("512kB", 512_000)],
)
def test_size_reads_decimal_and_binary_units(text: str, size: int) -> None:
    assert budget.parse_size(text) == size


@pytest.mark.parametrize(("text", "s"), [("30m", 1800), ("90s", 90), ("1h30m", 5400), ("2h", 7200)])
def test_time_reads_its_units(text: str, s: float) -> None:
    assert budget.parse_time(text) == s


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", r"latency '5' has no unit; write it like 5ms \(units: us, µs, ms, s\)"),
        ("-1ms", "latency '-1ms' must be above zero"),
        ("0ms", "latency '0ms' must be above zero"),
        ("5 parsecs", "latency '5 parsecs' has the unknown unit 'parsecs'; units are: us"),
        ("fast", "latency 'fast' is not a number with a unit; write it like 5ms"),
        ("", "latency '' is not a number with a unit"),
        ("nanms", "latency 'nanms' is not a number with a unit"),
        ("1e400ms", "latency '1e400ms' is not a number with a unit"),
    ],
)
def test_bad_latency_is_answered_with_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        budget.parse_latency(text)


def test_bad_size_and_time_name_themselves() -> None:
    with pytest.raises(ConfigError, match="size '4' has no unit; write it like 4MB"):
        budget.parse_size("4")
    with pytest.raises(ConfigError, match="time '30 minutes' has the unknown unit 'minutes'"):
        budget.parse_time("30 minutes")


def test_memory_reads_the_units_of_sizes() -> None:
    assert (budget.parse_memory("2MB"), budget.parse_memory("1MiB")) == (2_000_000, 1 << 20)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2", r"memory '2' has no unit; write it like 20MB \(units: B, kB, MB, GB, KiB, MiB\)"),
        ("0MB", "memory '0MB' must be above zero"),
        ("2ms", "memory '2ms' has the unknown unit 'ms'; units are: B"),
        ("little", "memory 'little' is not a number with a unit; write it like 20MB"),
    ],
)
def test_bad_memory_is_answered_with_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        budget.parse_memory(text)


@given(st.floats(min_value=1e-3, max_value=1e6))
def test_formatted_latency_reads_back_within_its_precision(ms: float) -> None:
    number, unit = budget.format_latency(ms).split()
    text = f"{float(number):f}{unit}"
    assert math.isclose(budget.parse_latency(text), ms, rel_tol=5e-3, abs_tol=1e-6)


@given(st.integers(min_value=1, max_value=10**11))
def test_formatted_size_reads_back_within_its_precision(size: int) -> None:
    text = budget.format_size(size)
    number, unit = text.split()
    assert math.isclose(budget.parse_size(f"{float(number):f}{unit}"), size, rel_tol=6e-3)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5 s"), (119, "119 s"), (180, "3 m"), (5400, "90 m"), (9000, "2 h 30 m")],
)
def test_times_are_written_as_people_say_them(seconds: float, text: str) -> None:
    assert budget.format_time(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 layers"), (1, "1 layer"), (2, "2 layers"), (2000, "2,000 layers")]
)
def test_one_thing_is_no_plural(number: int, text: str) -> None:
    assert budget.count_of(number, "layer") == text


def test_figures_change_unit_before_they_need_exponents() -> None:
    assert budget.format_size(999_999) == "1 MB"
    assert budget.format_latency(1234.5) == "1.23 s"


def test_budget_says_what_it_limits() -> None:
    assert str(budget.Budget(latency_ms=5, size_bytes=4_000_000)) == "5 ms and 4 MB"
    assert str(budget.Budget(time_s=60)) == "no limit"
    assert budget.Budget(time_s=60).is_open
    assert not budget.Budget(size_bytes=1).is_open
    assert str(budget.Budget(latency_ms=5, memory_bytes=2_000_000)) == "5 ms and 2 MB of memory"
    assert not budget.Budget(memory_bytes=1).is_open
