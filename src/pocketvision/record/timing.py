"""What was timed, where, and under which conditions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Time of one run of a session, the input being in memory.

    low_ms..high_ms is the 95 % bootstrap interval of the median. `noise` says why the figure cannot
    be trusted (empty: it can). No runs: nothing was measured, it is by the table of a device: a sum
    over its blocks, with low_ms..high_ms as far around it as such sums were off, and p95_ms as
    high_ms; or, of a segmenter or detector, what the untrained file took there.
    """

    median_ms: float
    p95_ms: float
    low_ms: float
    high_ms: float
    runs: int
    threads: int
    batch: int = 1
    noise: str = ""

    @property
    def is_by_table(self) -> bool:
        """True for what the table of a device says, and nothing measured."""
        return self.runs == 0


@dataclass(frozen=True, kw_only=True, slots=True)
class OnTarget:
    """What a file takes on a device that is not here, by a table of it.

    table: what it is of, such as "onnxruntime int8, 1 thread, on Cortex-A76".
    """

    table: str
    latency: Latency


@dataclass(frozen=True, kw_only=True, slots=True)
class Throughput:
    """Images a second with `latency.batch` of them in one run; low..high from its interval."""

    images_per_s: float
    low: float
    high: float
    latency: Latency


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """How quiet the machine was while it measured; None: the system does not say.

    load: 1-minute average when it began. governor: of the cores' frequency, such as "performance".
    steal: share of the cores' working time that a hypervisor gave to others. busy: share of all
    time of the cores that other processes took. throttled: events of thermal throttling. pinned:
    kept to as many cores as threads.
    """

    load: float | None
    governor: str | None
    steal: float | None
    busy: float | None
    throttled: int | None
    pinned: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Where the figures were measured. `features` are the instruction sets that matter here."""

    cpu: str
    architecture: str
    cores: int
    features: tuple[str, ...]
    memory_bytes: int
    system: str
    python: str
    versions: dict[str, str]
    load: float  # 1-minute load average when the record was made; -1 where unknown


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerTime:
    """What one operator of the shipped file takes, by the runtime's own profile."""

    name: str
    operator: str
    median_ms: float
    share: float  # of all operators
