"""A fitted network measured again: its shipped file under the options it was recorded with."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from pocketvision.errors import DataError, in_range
from pocketvision.fitting.artefact import Artefact, read_pixels
from pocketvision.fitting.footprint import Footprints
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.measure.conditions import judged, watch_conditions
from pocketvision.measure.memory import can_measure_memory
from pocketvision.measure.throughput import (
    MAX_BATCH,
    Timing,
    as_throughput,
    measure_throughput,
    time_file,
)
from pocketvision.measure.untrained import noise
from pocketvision.models.networks import AnySpec
from pocketvision.progress import counted
from pocketvision.record.files import Shipped
from pocketvision.record.timing import Throughput
from pocketvision.runtimes.registry import get_runtime
from pocketvision.runtimes.runtime import FileCard

DECODED_FILES = 64
SHIPPED_BATCH = 8  # images a run of the throughput that is recorded


def measure_fitted(
    folder: str | Path, *, batch: int = 1, reporter: Reporter | None = None
) -> Timing:
    """Time the shipped file of a folder that `fit` wrote.

    batch: images a run for the throughput; 1 leaves it out. Decoding is measured on images of the
    recorded folder, where they are still files there; peak memory where the system says it.

    Raises: ArtefactError: no fitted network. ConfigError: a batch outside 1..1024.
    MissingExtraError: its runtime is not installed.
    """
    in_range("batch", batch, 1, MAX_BATCH)
    reporter = reporter or Silent()
    artefact = Artefact(folder)
    session, spec = artefact.session(), artefact.network.spec
    many = partial(session.run, noise(batch, spec)) if batch > 1 else None
    with reporter.progress("Measuring") as advance:
        timing = time_file(
            partial(session.run, noise(1, spec)),
            many,
            artefact.shipped.threads,
            batch=batch,
            progress=counted(advance),
        )
    return replace(timing, decode_ms=_decode_ms(artefact), peak_bytes=shipped_peak_bytes(artefact))


def shipped_throughput(model: Path, shipped: Shipped, spec: AnySpec) -> Throughput:
    """Images a second of one file with `SHIPPED_BATCH` of them in one run.

    model: the file, which need not lie in model/.
    """
    session = get_runtime(shipped.runtime).session(model, shipped.precision, shipped.threads)
    runs = {"shipped": partial(session.run, noise(SHIPPED_BATCH, spec))}
    with watch_conditions(shipped.threads) as seen:
        found = measure_throughput(runs, shipped.threads, batch=SHIPPED_BATCH)["shipped"]
    return as_throughput(judged(found.latency, seen[0]))


def _decode_ms(artefact: Artefact) -> float | None:
    """Median time from an image file to pixels; None where there are no image files any more."""
    config = artefact.state.config
    try:
        listing = TASKS[config.task].listing(Path(config.data))
    except DataError:
        return None
    if not len(listing):
        return None
    rows = np.linspace(0, len(listing) - 1, min(DECODED_FILES, len(listing))).astype(int)
    times = []
    for row in rows:
        start = time.perf_counter()
        try:
            read_pixels(listing.read(int(row)), artefact.preprocessing)
        except (OSError, ValueError):  # damaged since
            continue
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times)) if times else None


def shipped_peak_bytes(artefact: Artefact) -> int | None:
    """Peak memory of the shipped file, as in `Record`; None where the system does not say."""
    if not can_measure_memory():
        return None
    shipped = artefact.shipped
    card = FileCard(
        name=artefact.network.spec.label,
        classes=artefact.classes,
        preprocessing=artefact.preprocessing,
        task=artefact.record.task,
        selects=artefact.state.config.nms == "inside",
    )
    footprints = Footprints(shipped.threads)
    return footprints.measure(
        get_runtime(shipped.runtime), artefact.model_file, shipped.precision, card
    )
