"""Budgets as people write them ("5ms", "4MB", "30m") and as numbers, both ways."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pocketvision.errors import ConfigError

LATENCY_UNITS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}  # in milliseconds
SIZE_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20}  # in bytes
TIME_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}  # in seconds

_QUANTITY = re.compile(r"\s*([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)\s*([A-Za-zµ]*)\s*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What the shipped network may cost; None means no limit.

    latency_ms: upper 95 % bound of the median, batch 1. size_bytes: all files needed to run.
    memory_bytes: peak resident memory beyond an empty session. time_s: wall clock of the whole
    command.
    """

    latency_ms: float | None = None
    size_bytes: int | None = None
    time_s: float | None = None
    memory_bytes: int | None = None

    def __str__(self) -> str:
        parts = []
        if self.latency_ms is not None:
            parts.append(format_latency(self.latency_ms))
        if self.size_bytes is not None:
            parts.append(format_size(self.size_bytes))
        if self.memory_bytes is not None:
            parts.append(f"{format_size(self.memory_bytes)} of memory")
        return " and ".join(parts) or "no limit"

    @property
    def is_open(self) -> bool:
        """True when neither latency nor size nor memory is limited."""
        return self.latency_ms is None and self.size_bytes is None and self.memory_bytes is None

    def check_target(self, target: str | None) -> None:
        """Raises: ConfigError: there is a table of a device, and no latency to hold against it."""
        if target is not None and self.latency_ms is None:
            raise ConfigError(
                f"target={target!r} is a table of latencies, and no latency is asked for; "
                "give --latency, or leave --target away."
            )


def rounded_up(value: float) -> str:
    """To two figures, so that asking for it succeeds; 0 becomes 1."""
    if value <= 0:
        return "1"
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / step) * step:.10g}"


def parse_latency(text: str) -> float:
    """'5ms' -> 5.0 milliseconds. Raises: ConfigError."""
    return _parse("latency", text, LATENCY_UNITS, example="5ms")


def parse_size(text: str) -> int:
    """'4MB' -> 4000000 bytes. Raises: ConfigError."""
    return round(_parse("size", text, SIZE_UNITS, example="4MB"))


def parse_memory(text: str) -> int:
    """'20MB' -> 20000000 bytes. Raises: ConfigError."""
    return round(_parse("memory", text, SIZE_UNITS, example="20MB"))


def parse_time(text: str) -> float:
    """'30m' -> 1800.0 seconds; '1h30m' works too. Raises: ConfigError."""
    parts = re.findall(r"[^A-Za-z]+[A-Za-z]+", text)
    if len(parts) > 1 and "".join(parts) == text:
        return sum(_parse("time", part, TIME_UNITS, example="30m") for part in parts)
    return _parse("time", text, TIME_UNITS, example="30m")


def format_latency(latency_ms: float) -> str:
    """5.0 -> '5 ms'."""
    return f"{latency_ms:.3g} ms" if latency_ms < 1000 else f"{latency_ms / 1000:.3g} s"


def format_size(size_bytes: float) -> str:
    """4000000 -> '4 MB' (1 MB = 10^6 bytes)."""
    for unit in ("GB", "MB", "kB"):
        if size_bytes >= 0.9995 * SIZE_UNITS[unit]:  # 999,999 B is 1 MB, not 1e+03 kB
            return f"{size_bytes / SIZE_UNITS[unit]:.3g} {unit}"
    return f"{size_bytes:.0f} B"


def format_time(time_s: float) -> str:
    """5400 -> '1 h 30 m'."""
    if time_s < 120:
        return f"{time_s:.0f} s"
    minutes = round(time_s / 60)
    return f"{minutes} m" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} m"


def count_of(number: int, noun: str) -> str:
    """'1 image', '2,000 images'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _parse(name: str, text: str, units: dict[str, float] | dict[str, int], example: str) -> float:
    known = ", ".join(units)
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ConfigError(f"{name} {text!r} is not a number with a unit; write it like {example}.")
    number, unit = float(match[1]), match[2]
    if not unit:
        raise ConfigError(f"{name} {text!r} has no unit; write it like {example} (units: {known}).")
    factor = {u.lower(): f for u, f in units.items()}.get(unit.lower())
    if factor is None:
        raise ConfigError(f"{name} {text!r} has the unknown unit {unit!r}; units are: {known}.")
    if number <= 0:
        raise ConfigError(f"{name} {text!r} must be above zero; write it like {example}.")
    return number * factor
