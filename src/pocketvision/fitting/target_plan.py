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
from pocketvision.measure.table import DeviceTable
from pocketvision.measure.untrained import build_files, untrained_card, write_untrained
from pocketvision.models.arch import ArchSpec
from pocketvision.models.detector import DetectorSpec
from pocketvision.models.networks import AnySpec
from pocketvision.models.segmenter import SegmenterSpec
from pocketvision.record.files import Tried
from pocketvision.record.words import Precision
from pocketvision.runtimes.runtime import Runtime


class NotCovered(ConfigError):
    """The table of a target tells of no candidate."""


def covered(
    candidates: list[Candidate], target: TargetTable, reporter: Reporter
) -> list[Candidate]:
    """The candidates whose blocks the table has, or that it has whole.

    Raises: NotCovered: it has none's; how to profile one.
    """
    found = [candidate for candidate in candidates if target.covers(candidate.spec)]
    spec = candidates[0].spec
    if not found:
        holds = "the blocks of none" if isinstance(spec, ArchSpec) else "none"
        raise NotCovered(
            f"target={target.path!r} ({target.described}) holds {holds} of the {len(candidates)} "
            f"candidates, such as {spec.label}; ask for --models and --resolution that it was made "
            f"for, or make one for these: {_profiling(spec, target.table)}."
        )
    where = f"the table of {target.described}"
    among = f"{len(found)} of {len(candidates)} candidates are in it"
    if all(target.is_whole(candidate.spec) for candidate in found):
        reporter.say(f"Latencies are by {where}: {among}, each timed there untrained.")
    else:
        off = f"and its sums are off by about {target.spread:.1%}"
        reporter.say(f"Latencies are by {where}, not measured there: {among}, {off}.")
    return found


def _profiling(spec: AnySpec, table: DeviceTable) -> str:
    """The command that makes a table with this network."""
    on = f"--resolution {spec.resolution} --precision {table.precision} --threads {table.threads}"
    match spec:
        case ArchSpec():
            of = f"--models {spec.name}"
        case SegmenterSpec():
            of = (
                f"--task segment --classes {spec.num_classes} --head {spec.head.kind} "
                f"--models {spec.backbone.name}"
            )
        case DetectorSpec():
            of = f"--task detect --classes {spec.num_classes - 1} --models {spec.backbone.name}"
    return f"pocketvision profile {of} {on} --bundle FOLDER"


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
            spec = candidate.spec
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
    spec: AnySpec,
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
