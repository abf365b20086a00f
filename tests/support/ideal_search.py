"""Searches on a machine whose latency is its work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pocketvision.measure.count import count
from pocketvision.models.arch import ArchSpec
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.runtimes.runtime import Runtime
from pocketvision.searching import fastest, search, search_rivals, search_start, shrink_start
from pocketvision.searching.search_config import SearchState
from pocketvision.storage import from_json

MACS_A_MS = 2_000


class IdealTable:
    """A machine whose latency is its work: members take 70 to 400 ms."""

    def __init__(self, runtime: Runtime, precision: Precision, threads: int) -> None:
        self.scale = 1.0

    def ensure(self, specs: Iterable[ArchSpec]) -> None:
        pass

    def latency_ms(self, spec: ArchSpec) -> float:
        return self.scale * self.work_ms(spec)

    def meet(self, spec: ArchSpec, latency: Latency) -> None:
        self.scale = latency.median_ms / self.work_ms(spec)

    def timed_whole(self, spec: ArchSpec) -> Latency:
        ms = self.beyond(spec) * self.work_ms(spec)
        return Latency(median_ms=ms, p95_ms=ms, low_ms=ms, high_ms=ms, runs=9, threads=1)

    def work_ms(self, spec: ArchSpec) -> float:
        """The sum of the blocks, unscaled."""
        return count(spec).macs / MACS_A_MS

    def beyond(self, spec: ArchSpec) -> float:
        """What a whole network takes, as a multiple of its blocks."""
        return 1.0


class CrookedTable(IdealTable):
    """Some networks take more than their blocks, so that limits are corrected again and again."""

    def beyond(self, spec: ArchSpec) -> float:
        return 1.0 + count(spec).macs % 7 / 20


def no_arms(*arguments: Any) -> None:
    pass


def state_of(out: Path) -> SearchState:
    path = out / "searching" / "search.json"
    return from_json(SearchState, path.read_bytes(), source=str(path))


@contextmanager
def ideal_machine() -> Iterator[None]:
    """What a search times is the work of networks; few candidates, the first offer the fastest."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (search_start, shrink_start, fastest):
            patch.setattr(module, "ScaledTable", IdealTable)
        patch.setattr(fastest, "best_in_turns", lambda spec, offers, threads: offers[0])
        patch.setattr(search_rivals, "MAX_CANDIDATES", 2)
        yield


@contextmanager
def without_arms() -> Iterator[None]:
    """A search without what comes behind it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "run_arms", no_arms)
        patch.setattr(search, "ship_best", no_arms)
        yield
