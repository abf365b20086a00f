"""Measure first: candidates are written untrained and timed, because latency needs no training."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pocketvision.budget import Budget
from pocketvision.data.cache import cache_folder
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.fitting.candidates import Candidate
from pocketvision.fitting.footprint import Footprints
from pocketvision.fitting.ranking import Measured, may_fit
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.standalone import standalone_script
from pocketvision.measure.conditions import judged, watch_conditions
from pocketvision.measure.device import installed_version, machine_key
from pocketvision.measure.latency import PLANNING, measure_latency
from pocketvision.measure.untrained import build_files, noise, untrained_card, write_untrained
from pocketvision.models.networks import AnySpec
from pocketvision.record.files import Tried
from pocketvision.record.words import Precision
from pocketvision.runtimes.runtime import FileCard, Runtime
from pocketvision.storage import from_json, sha256_bytes, to_json, write_atomic

CHUNK = 4  # candidates whose sessions are open, and interleaved, at a time
SECONDS_PER_CANDIDATE = {"onnxruntime": 2.5, "openvino": 4.0}  # for the forecast
MEMORY_SECONDS_PER_CANDIDATE = {"onnxruntime": 1.0, "openvino": 3.5}  # on top, where asked for


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredFile:
    """What the cache holds for one machine: key of network, runtime, precision -> figures."""

    entries: dict[str, Measured] = field(default_factory=dict)


class MeasuredCache:
    """Measurements of this machine, kept between runs; keyed by content."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.path = cache_folder() / "latency" / f"{machine_key()}-{threads}.json"
        self.entries = self._read()
        self.added: dict[str, Measured] = {}  # by this run

    def _read(self) -> dict[str, Measured]:
        # Figures of another version, or damaged ones, are only measured again.
        with contextlib.suppress(ArtefactError, OSError):
            text = self.path.read_bytes()
            return dict(from_json(MeasuredFile, text, source=str(self.path)).entries)
        return {}

    def get(self, spec: AnySpec, runtime: str, precision: str) -> Measured | None:
        return self.entries.get(_key(spec, runtime, precision))

    def put(self, spec: AnySpec, runtime: str, precision: str, measured: Measured) -> None:
        self.added[_key(spec, runtime, precision)] = measured
        self.entries |= self.added

    def save(self) -> None:
        """Write what this run measured beside what others have written since it began."""
        entries = self._read()
        for key, measured in self.added.items():
            peak = entries[key].peak_bytes if key in entries else None
            entries[key] = measured if measured.peak_bytes else replace(measured, peak_bytes=peak)
        write_atomic(self.path, to_json(MeasuredFile(entries=entries)))

    def holds(
        self, spec: AnySpec, runtime: Runtime, precisions: tuple[str, ...], budget: Budget
    ) -> bool:
        """True if nothing that `budget` limits needs to be measured; a noisy figure does again."""
        return all(
            (measured := self.get(spec, runtime.name, precision)) is not None
            and not measured.latency.noise
            and (budget.memory_bytes is None or measured.peak_bytes is not None)
            for precision in chosen_precisions(runtime, precisions)
        )


def _key(spec: AnySpec, runtime: str, precision: str) -> str:
    makers = [installed_version(name) for name in ("pocketvision", "torch", "onnx", "nncf")]
    return sha256_bytes(f"{to_json(spec)} {runtime} {precision} {makers}".encode())[:32]


def chosen_precisions(runtime: Runtime, asked: tuple[str, ...]) -> tuple[Precision, ...]:
    """The precisions of `runtime` that were asked for; when none was, all it offers but w8.

    A w8 file is as fast as the float file, so it is made only where the size of that is too much.
    """
    return tuple(p for p in runtime.precisions if (p in asked if asked else p != "w8"))


def measure_candidates(
    candidates: list[Candidate],
    runtimes: list[Runtime],
    precisions: tuple[str, ...],
    budget: Budget,
    threads: int,
    reporter: Reporter,
    deadline: float | None = None,
) -> tuple[Tried, ...]:
    """Size and latency of every candidate on every runtime x precision, from the cache if known.

    After `deadline`, a `time.monotonic()`, no more are begun; what is known then is returned.

    Raises: ConfigError: none of the runtimes offers a precision that was asked for.
    """
    if not any(chosen_precisions(runtime, precisions) for runtime in runtimes):
        offered = sorted({p for runtime in runtimes for p in runtime.precisions})
        raise ConfigError(f"precision={list(precisions)} is not offered here; expected {offered}.")
    cache = MeasuredCache(threads)
    missing = [
        candidate
        for candidate in candidates
        if not all(cache.holds(candidate.spec, r, precisions, budget) for r in runtimes)
    ]
    if missing:
        missing.sort(key=lambda c: -c.prior.top1)
        _measure_missing(missing, runtimes, precisions, budget, cache, reporter, deadline)
    return tuple(
        as_tried(candidate, runtime.name, precision, measured, budget)
        for candidate in candidates
        for runtime in runtimes
        for precision in chosen_precisions(runtime, precisions)
        if (measured := cache.get(candidate.spec, runtime.name, precision))
    )


def _measure_missing(
    missing: list[Candidate],
    runtimes: list[Runtime],
    precisions: tuple[str, ...],
    budget: Budget,
    cache: MeasuredCache,
    reporter: Reporter,
    deadline: float | None,
) -> None:
    with reporter.progress("Measuring candidates") as advance:
        footprints = None if budget.memory_bytes is None else Footprints(cache.threads)
        for start in range(0, len(missing), CHUNK):
            if start and deadline is not None and time.monotonic() > deadline:
                reporter.say(f"Measured {start} of {len(missing)} candidates in the time there is.")
                break
            chunk = missing[start : start + CHUNK]
            advance(start, len(missing), chunk[0].spec.label)
            _measure_chunk(chunk, runtimes, precisions, cache, footprints)
            cache.save()
        advance(len(missing), len(missing), "")


def _measure_chunk(
    chunk: list[Candidate],
    runtimes: list[Runtime],
    precisions: tuple[str, ...],
    cache: MeasuredCache,
    footprints: Footprints | None,
) -> None:
    sessions: dict[str, Callable[[], object]] = {}
    origin: dict[str, tuple[AnySpec, str, Precision, int, int | None]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, candidate in enumerate(chunk):
            spec = candidate.spec
            pixels = noise(1, spec)
            exported = Path(folder) / f"{number}.onnx"
            write_untrained(spec, exported)
            for runtime in runtimes:
                wanted = chosen_precisions(runtime, precisions)
                files = build_files(runtime, exported, Path(folder) / f"{number}", wanted)
                for precision, path in files.items():
                    key = f"{number} {runtime.name} {precision}"
                    sessions[key] = partial(
                        runtime.session(path, precision, cache.threads).run, pixels
                    )
                    card = untrained_card(spec)
                    size = shipped_bytes(runtime, path, precision, cache.threads, card)
                    peak = None
                    if footprints is not None:
                        peak = footprints.measure(runtime, path, precision, card)
                    origin[key] = (spec, runtime.name, precision, size, peak)
        with watch_conditions(cache.threads) as seen:
            latencies = measure_latency(sessions, PLANNING, cache.threads)
    for key, (spec, name, precision, size, peak) in origin.items():
        latency = judged(latencies[key], seen[0])
        measured = Measured(size_bytes=size, latency=latency, peak_bytes=peak)
        cache.put(spec, name, precision, measured)


def shipped_bytes(
    runtime: Runtime, path: Path, precision: Precision, threads: int, card: FileCard
) -> int:
    """Bytes of everything that ships with one file: all that lies in model/."""
    script = standalone_script(runtime.name, precision, threads, card)
    return sum(file.stat().st_size for file in runtime.files(path)) + len(script.encode())


def as_tried(
    candidate: Candidate, runtime: str, precision: Precision, measured: Measured, budget: Budget
) -> Tried:
    """One network x runtime x precision for the record."""
    spec = candidate.spec
    return Tried(
        network=spec.label,
        name=spec.name,
        width=spec.width,
        resolution=spec.resolution,
        runtime=runtime,
        precision=precision,
        macs=candidate.count.macs,
        parameters=candidate.count.parameters,
        size_bytes=measured.size_bytes,
        latency=measured.latency,
        prior=candidate.prior,
        fits=may_fit(measured, budget),
        peak_bytes=measured.peak_bytes,
    )


def mark_chosen(
    tried: tuple[Tried, ...], label: str, runtime: str, precision: Precision
) -> tuple[Tried, ...]:
    """`tried` with the one entry marked that was trained and shipped."""
    wanted = (label, runtime, precision)
    return tuple(
        replace(entry, chosen=(entry.network, entry.runtime, entry.precision) == wanted)
        for entry in tried
    )
