"""Where the time of a shipped file goes: the median of each of its operators, and its share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pocketvision.measure.device import pinned
from pocketvision.record.timing import LayerTime
from pocketvision.record.words import Precision
from pocketvision.runtimes.runtime import OperatorRuns, Pixels, Runtime

RUNS = 50


def profile_layers(
    runtime: Runtime, path: Path, precision: Precision, threads: int, pixels: Pixels
) -> tuple[LayerTime, ...]:
    """Every operator of a file, in its order, timed by the runtime itself on `pixels`.

    pixels: uint8 (1, H, W, C). Raises: ArtefactError, ConfigError, MissingExtraError.
    """
    with pinned(threads):
        return layer_times(runtime.profile(path, precision, threads, pixels, RUNS))


def layer_times(operators: Sequence[OperatorRuns]) -> tuple[LayerTime, ...]:
    """Medians, and the share of each in their sum; 0 where the profiler saw no time at all."""
    medians = [float(np.median(one.times_ms)) for one in operators]
    total = sum(medians)
    return tuple(
        LayerTime(
            name=one.name,
            operator=one.operator,
            median_ms=median,
            share=median / total if total else 0.0,
        )
        for one, median in zip(operators, medians, strict=True)
    )
