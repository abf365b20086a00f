"""A latency table that whole networks set right, again and again."""

from __future__ import annotations

from collections.abc import Iterable

from pocketvision.measure.latency import middle_of_few
from pocketvision.measure.local_table import WHOLES, LocalTable
from pocketvision.models.networks import AnySpec
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.runtimes.runtime import Runtime

ODD_SHARE = 0.05  # of the sum: a measurement that is further from it is repeated
UNKNOWN = 0.0  # the scale, before a whole network was timed


class ScaledTable:
    """The table of this machine, scaled so that it is right for a network that was timed whole."""

    def __init__(self, runtime: Runtime, precision: Precision, threads: int) -> None:
        self.local = LocalTable(runtime, precision, threads)
        self.scale = UNKNOWN

    def ensure(self, specs: Iterable[AnySpec]) -> None:
        """Time the blocks that are new."""
        self.local.ensure(specs)

    def latency_ms(self, spec: AnySpec) -> float:
        """The sum of the blocks, scaled; blocks that are new are timed first."""
        self.local.ensure([spec])
        return self.scale * self.local.sums.sum_ms(spec)

    def meet(self, spec: AnySpec, latency: Latency) -> None:
        """From now on, `spec` takes by the table what it took when it was timed."""
        self.local.ensure([spec])
        self.scale = latency.median_ms / self.local.sums.sum_ms(spec)

    def timed_whole(self, spec: AnySpec) -> Latency:
        """An untrained file of the whole network, timed now; the median of a few, where the first
        is noisy or far from what the blocks make one expect.
        """
        return middle_of_few(lambda: self._timed(spec), lambda latency: self._is_odd(spec, latency))

    def _timed(self, spec: AnySpec) -> Latency:
        return self.local.time([spec], WHOLES)[0].latency

    def _is_odd(self, spec: AnySpec, latency: Latency) -> bool:
        if self.scale == UNKNOWN:
            return False
        return abs(latency.median_ms / self.latency_ms(spec) - 1) > ODD_SHARE
