"""Images a second, and everything that timing one file tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pocketvision.measure.conditions import judged, watch_conditions
from pocketvision.measure.latency import FINAL, LatencyProtocol, Progress, Run, measure_latency
from pocketvision.record.timing import Conditions, Latency, Throughput

MAX_BATCH = 1024
BATCHED = LatencyProtocol(rounds=10, min_runs=2, seconds=1.0)  # a run takes `batch` times as long


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """One file on this machine.

    latency: of one image, in memory. throughput: None where no batch was asked for. decode_ms:
    median of reading, decoding and resizing one image file, not in the latency. peak_bytes: as in
    `record.Variant`. None: not measured.
    """

    latency: Latency
    conditions: Conditions
    throughput: Throughput | None = None
    decode_ms: float | None = None
    peak_bytes: int | None = None


def as_throughput(latency: Latency) -> Throughput:
    """Images a second at the batch of `latency`, with the interval of its median."""
    images = 1000 * latency.batch
    return Throughput(
        images_per_s=images / max(latency.median_ms, 1e-9),
        low=images / max(latency.high_ms, 1e-9),
        high=images / max(latency.low_ms, 1e-9),
        latency=latency,
    )


def measure_throughput(
    sessions: Mapping[str, Run],
    threads: int,
    *,
    batch: int,
    progress: Progress | None = None,
) -> dict[str, Throughput]:
    """Throughput of all sessions against each other.

    sessions: name -> a call that runs once on `batch` images. threads, progress: as in
    `measure_latency`.
    """
    found = measure_latency(sessions, BATCHED, threads, batch=batch, progress=progress)
    return {name: as_throughput(latency) for name, latency in found.items()}


def time_file(
    one: Run,
    many: Run | None,
    threads: int,
    *,
    batch: int = 1,
    progress: Progress | None = None,
) -> Timing:
    """Latency and throughput of one opened file, and how quiet the machine was meanwhile.

    one: runs it on one image. many: on `batch` images; None leaves the throughput out.
    """
    with watch_conditions(threads) as seen:
        latency = measure_latency({"file": one}, FINAL, threads, progress=progress)["file"]
        batched = None
        if many is not None:
            batched = measure_throughput({"file": many}, threads, batch=batch, progress=progress)
    many_ms = None if batched is None else judged(batched["file"].latency, seen[0])
    return Timing(
        latency=judged(latency, seen[0]),
        conditions=seen[0],
        throughput=None if many_ms is None else as_throughput(many_ms),
    )
