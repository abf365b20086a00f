"""A latency table that whole networks set right, again and again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pocketvision.measure.local_table import WHOLES, LocalTable
from pocketvision.models.arch import ArchSpec
from pocketvision.record import Latency, Precision
from pocketvision.runtimes.runtime import Runtime

ALONE = replace(WHOLES, span_s=3.0)  # nothing beside it tells what the machine does meanwhile
ODD_SHARE = 0.05  # of the sum: a measurement that is further from it is repeated
ATTEMPTS = 3
UNKNOWN = 0.0  # the scale, before a whole network was timed


class ScaledTable:
    """The table of this machine, scaled so that it is right for a network that was timed whole.

    Whole networks are timed in turns with that one, and the ratio counts: a machine that is slower
    for a minute, as one that shares its cores with others is, slows both.
    """

    def __init__(self, runtime: Runtime, precision: Precision, threads: int) -> None:
        self.local = LocalTable(runtime, precision, threads)
        self.scale = UNKNOWN
        self._met: tuple[ArchSpec, Latency] | None = None

    def ensure(self, specs: Iterable[ArchSpec]) -> None:
        """Time the blocks that are new."""
        self.local.ensure(specs)

    def latency_ms(self, spec: ArchSpec) -> float:
        """The sum of the blocks, scaled; blocks that are new are timed first."""
        self.local.ensure([spec])
        return self.scale * self.local.sums.sum_ms(spec)

    def meet(self, spec: ArchSpec, latency: Latency) -> None:
        """From now on, `spec` takes by the table what it took when it was timed."""
        self.local.ensure([spec])
        self.scale = latency.median_ms / self.local.sums.sum_ms(spec)
        self._met = spec, latency

    def timed_whole(self, spec: ArchSpec) -> Latency:
        """An untrained file of the whole network, timed now; the median of a few, where the first
        is noisy or far from what the blocks make one expect.
        """
        found = [self._timed(spec)]
        while len(found) < ATTEMPTS and (found[-1].noise or self._is_odd(spec, found[0])):
            found.append(self._timed(spec))
        return sorted(found, key=lambda latency: latency.median_ms)[(len(found) - 1) // 2]

    def _timed(self, spec: ArchSpec) -> Latency:
        if self._met is None or self._met[0] == spec:
            return self.local.time([spec], ALONE)[0].latency
        known, then = self._met
        now, found = (timed.latency for timed in self.local.time([known, spec], WHOLES))
        return _scaled(found, then.median_ms / now.median_ms)

    def _is_odd(self, spec: ArchSpec, latency: Latency) -> bool:
        if self.scale == UNKNOWN:
            return False
        return abs(latency.median_ms / self.latency_ms(spec) - 1) > ODD_SHARE


def _scaled(latency: Latency, ratio: float) -> Latency:
    """What is told of another speed of the machine."""
    return replace(
        latency,
        median_ms=ratio * latency.median_ms,
        p95_ms=ratio * latency.p95_ms,
        low_ms=ratio * latency.low_ms,
        high_ms=ratio * latency.high_ms,
    )
