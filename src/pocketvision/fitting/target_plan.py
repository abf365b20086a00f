"""The plan for a device that is not here: latencies from its table, sizes from untrained files."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from pocketvision.budget import Budget
from pocketvision.errors import ConfigError
from pocketvision.fitting.candidates import Candidate
from pocketvision.fitting.footprint import Footprints
from pocketvision.fitting.plan import MeasuredCache, as_tried, shipped_bytes
from pocketvision.fitting.ranking import Measured
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.target_table import TargetTable
from pocketvision.measure.untrained import build_files, untrained_card, write_untrained
from pocketvision.models.arch import ArchSpec
from pocketvision.record import Precision, Tried
from pocketvision.runtimes.runtime import Runtime


class NotCovered(ConfigError):
    """The table of a target has the blocks of no candidate."""


def covered(
    candidates: list[Candidate], target: TargetTable, reporter: Reporter
) -> list[Candidate]:
    """The candidates whose blocks the table has.

    Raises: NotCovered: it has none's; how to profile one.
    """
    found = [candidate for candidate in candidates if target.covers(candidate.classifier)]
    if not found:
        spec, table = candidates[0].spec, target.table
        raise NotCovered(
            f"target={target.path!r} ({target.described}) holds the blocks of none of the "
            f"{len(candidates)} candidates, such as {spec.label}; ask for --models and "
            "--resolution that it was made for, or make one for these: pocketvision profile "
            f"--models {spec.name} --resolution {spec.resolution} --precision {table.precision} "
            f"--threads {table.threads} --bundle FOLDER."
        )
    reporter.say(
        f"Latencies are by the table of {target.described}, not measured there: {len(found)} of "
        f"{len(candidates)} candidates are in it, and its sums are off by about "
        f"{target.spread:.1%}."
    )
    return found


def weigh_candidates(
    candidates: list[Candidate],
    target: TargetTable,
    budget: Budget,
    reporter: Reporter,
    deadline: float | None = None,
) -> tuple[Tried, ...]:
    """Latency of every candidate by the table, and size, and memory if it is limited, as here.

    After `deadline`, a `time.monotonic()`, no more are begun; what is known then is returned.
    """
    table, cache = target.table, MeasuredCache(target.table.threads)
    footprints = None if budget.memory_bytes is None else Footprints(table.threads)
    tried: list[Tried] = []
    ordered = sorted(candidates, key=lambda c: -c.prior.top1)
    with reporter.progress("Weighing candidates") as advance:
        for place, candidate in enumerate(ordered):
            if place and deadline is not None and time.monotonic() > deadline:
                reporter.say(f"Weighed {place} of {len(ordered)} candidates in the time there is.")
                break
            spec = candidate.classifier
            advance(place, len(ordered), spec.label)
            known = cache.get(spec, table.runtime, table.precision)
            if known is None or (footprints is not None and known.peak_bytes is None):
                size, peak = weighed(
                    spec, target.runtime, table.precision, table.threads, footprints
                )
            else:
                size, peak = known.size_bytes, known.peak_bytes
            measured = Measured(size_bytes=size, latency=target.timed_whole(spec), peak_bytes=peak)
            tried.append(as_tried(candidate, table.runtime, table.precision, measured, budget))
        advance(len(ordered), len(ordered), "")
    return tuple(tried)


def weighed(
    spec: ArchSpec,
    runtime: Runtime,
    precision: Precision,
    threads: int,
    footprints: Footprints | None,
) -> tuple[int, int | None]:
    """Bytes of an untrained file with what ships beside it, and its peak memory on this machine."""
    card = untrained_card(spec)
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "float.onnx"
        write_untrained(spec, exported)
        path = build_files(runtime, exported, Path(folder) / "built", (precision,))[precision]
        size = shipped_bytes(runtime, path, precision, threads, card)
        if footprints is None:
            return size, None
        return size, footprints.measure(runtime, path, precision, card)
