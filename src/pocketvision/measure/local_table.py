"""The latency table of this machine: what is missing is timed when it is asked for, and kept.

All is timed beside one network, the anchor, so that what was timed today can be added to what was
timed yesterday, or in a slow minute.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from pocketvision.data.cache import cache_folder
from pocketvision.errors import ArtefactError
from pocketvision.measure.device import installed_version, machine, machine_key
from pocketvision.measure.latency import LatencyProtocol, Run, measure_beside, measure_latency
from pocketvision.measure.table import (
    SCHEMA_VERSION,
    DeviceTable,
    LatencyTable,
    Timed,
    TimedDense,
    terms,
)
from pocketvision.measure.untrained import build_files, noise, write_untrained
from pocketvision.models.arch import ArchSpec
from pocketvision.models.mobilenet_v3 import mobilenet_v3_small
from pocketvision.models.networks import AnySpec, DenseSpec
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision
from pocketvision.runtimes.runtime import Runtime
from pocketvision.storage import from_json, sha256_bytes, to_json, write_atomic

CHUNK = 40  # files whose sessions are open, and timed in turns, at once
DENSE_CHUNK = 4  # of whole segmenters and detectors, which are larger
CARRIERS = LatencyProtocol(rounds=20, min_runs=1, seconds=0.2)
WHOLES = LatencyProtocol(rounds=20, min_runs=1, seconds=0.5)
ANCHORING = LatencyProtocol(rounds=20, min_runs=1, seconds=1.0, span_s=5.0, retries=2)
ANCHOR = mobilenet_v3_small(resolution=64, num_classes=10)  # neither tiny nor slow anywhere
MAKERS = ("pocketvision", "torch", "onnx", "nncf")  # of the files, whose versions matter
SECONDS_PER_CARRIER = {"f32": 0.3, "bf16": 0.35, "int8": 0.5, "w8": 0.3}  # for forecasts

T = TypeVar("T", Timed, TimedDense)

Progress = Callable[[int, int], None]  # networks timed, networks in all


class LocalTable:
    """Latencies of networks on this machine, by the sum of their blocks."""

    def __init__(self, runtime: Runtime, precision: Precision, threads: int) -> None:
        self.runtime, self.precision, self.threads = runtime, precision, threads
        makers = [installed_version(name) for name in MAKERS]
        key = sha256_bytes(f"{machine_key()} {makers}".encode())[:16]
        self.path = cache_folder() / "tables" / f"{key}-{runtime.name}-{precision}-{threads}.json"
        self.sums = LatencyTable(self._read())

    def _read(self) -> DeviceTable:
        # A table of another version, or a damaged one, is only measured again.
        with contextlib.suppress(ArtefactError, OSError):
            table = from_json(DeviceTable, self.path.read_bytes(), source=str(self.path))
            if table.anchor_ms is not None:  # else from before there were anchors
                return table
        return DeviceTable(
            machine=machine(),
            runtime=self.runtime.name,
            precision=self.precision,
            threads=self.threads,
            carriers=(),
        )

    def ensure(self, specs: Iterable[AnySpec]) -> None:
        """Time the blocks of these networks that no run on this machine timed before."""
        self.ensure_carriers(dict.fromkeys(c for spec in specs for c in terms(spec)))

    def ensure_carriers(
        self, carriers: Iterable[AnySpec], progress: Progress | None = None
    ) -> None:
        """As `ensure`, for the carriers themselves."""
        unknown = self.unknown(carriers)
        heads = [carrier for carrier in unknown if not isinstance(carrier, ArchSpec)]
        blocks = [carrier for carrier in unknown if isinstance(carrier, ArchSpec)]
        done = 0
        for chunk in (*_chunks(blocks, CHUNK), *_chunks(heads, DENSE_CHUNK)):
            if progress is not None:
                progress(done, len(unknown))
            self._keep(carriers=self.time(chunk, CARRIERS))
            done += len(chunk)

    def unknown(self, carriers: Iterable[AnySpec]) -> list[AnySpec]:
        """Those that were never timed here."""
        return [carrier for carrier in carriers if carrier not in self.sums.medians_ms]

    def part(
        self,
        carriers: Iterable[AnySpec],
        wholes: Iterable[ArchSpec],
        dense: Iterable[DenseSpec] = (),
    ) -> DeviceTable:
        """The table of these alone, which must have been timed."""
        table, wanted, whole, places = self.sums.table, set(carriers), set(wholes), set(dense)
        return replace(
            table,
            carriers=tuple(timed for timed in table.carriers if timed.network in wanted),
            wholes=tuple(timed for timed in table.wholes if timed.network in whole),
            dense=tuple(timed for timed in table.dense if timed.network in places),
        )

    def check(self, specs: Sequence[AnySpec], progress: Progress | None = None) -> None:
        """Time these whole networks and their blocks; from then on they set the scale, too."""
        self.ensure(specs)
        known = {timed.network for timed in self.sums.table.wholes}
        unknown = [spec for spec in dict.fromkeys(specs) if spec not in known]
        for start in range(0, len(unknown), CHUNK):
            if progress is not None:
                progress(start, len(unknown))
            self._keep(wholes=self.time(unknown[start : start + CHUNK], WHOLES))

    def unknown_dense(self, specs: Iterable[DenseSpec]) -> list[DenseSpec]:
        """Segmenters and detectors that were never timed here."""
        known = {timed.network for timed in self.sums.table.dense}
        return [spec for spec in dict.fromkeys(specs) if spec not in known]

    def ensure_dense(self, specs: Iterable[DenseSpec], progress: Progress | None = None) -> None:
        """Time these whole segmenters and detectors, as far as they are new."""
        unknown = self.unknown_dense(specs)
        for start in range(0, len(unknown), DENSE_CHUNK):
            if progress is not None:
                progress(start, len(unknown))
            chunk = unknown[start : start + DENSE_CHUNK]
            found = zip(chunk, self._latencies(chunk, WHOLES), strict=True)
            self._keep(dense=tuple(TimedDense(network=s, latency=taken) for s, taken in found))

    def time(self, specs: Sequence[AnySpec], protocol: LatencyProtocol) -> tuple[Timed, ...]:
        """Untrained files of these networks, timed in turns."""
        found = zip(specs, self._latencies(specs, protocol), strict=True)
        return tuple(Timed(network=spec, latency=latency) for spec, latency in found)

    def _latencies(self, specs: Sequence[AnySpec], protocol: LatencyProtocol) -> list[Latency]:
        anchor_ms = self._anchor_ms()
        with tempfile.TemporaryDirectory() as folder:
            runs = {str(i): self._run(spec, Path(folder), i) for i, spec in enumerate(specs)}
            latencies = measure_beside(
                self._anchor, runs, protocol, self.threads, anchor_ms=anchor_ms
            )
        return [latencies[str(number)] for number in range(len(specs))]

    @cached_property
    def _anchor(self) -> Run:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            return self._run(ANCHOR, Path(folder), 0)

    def _anchor_ms(self) -> float:
        """Of the table; timed where that has none yet."""
        if self.sums.table.anchor_ms is None:
            found = measure_latency({"": self._anchor}, ANCHORING, self.threads)[""]
            self._keep(anchor_ms=found.median_ms)
        anchor_ms = self.sums.table.anchor_ms
        assert anchor_ms is not None
        return anchor_ms

    def _run(self, spec: AnySpec, folder: Path, number: int) -> Run:
        written = folder / f"{number}.onnx"
        write_untrained(spec, written)
        place = folder / str(number)
        path = build_files(self.runtime, written, place, (self.precision,))[self.precision]
        session = self.runtime.session(path, self.precision, self.threads)
        return partial(session.run, noise(1, spec))

    def _keep(
        self,
        *,
        carriers: tuple[Timed, ...] = (),
        wholes: tuple[Timed, ...] = (),
        dense: tuple[TimedDense, ...] = (),
        anchor_ms: float | None = None,
    ) -> None:
        """Add to the table and to its file, beside what others have written since it was read."""
        ours, theirs = self.sums.table, self._read()
        table = replace(
            ours,
            schema_version=SCHEMA_VERSION,
            carriers=_once(ours.carriers, carriers, theirs.carriers),
            wholes=_once(ours.wholes, wholes, theirs.wholes),
            dense=_once(ours.dense, dense, theirs.dense),
            anchor_ms=theirs.anchor_ms or ours.anchor_ms or anchor_ms,
        )
        write_atomic(self.path, to_json(table, indent=None))
        self.sums = LatencyTable(table)


def _chunks(specs: Sequence[AnySpec], size: int) -> list[Sequence[AnySpec]]:
    return [specs[start : start + size] for start in range(0, len(specs), size)]


def _once(*parts: tuple[T, ...]) -> tuple[T, ...]:
    """All of them; of a network that is there twice, the first."""
    found: dict[AnySpec, T] = {}
    for timed in itertools.chain(*parts):
        found.setdefault(timed.network, timed)
    return tuple(found.values())
