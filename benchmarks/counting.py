"""How long a network takes to count and to build, for every name of the registry.

    python benchmarks/counting.py

Counting is arithmetic on the specification; building makes the module with new weights. Limits:
5 ms and 500 ms.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from pocketvision.measure.count import count
from pocketvision.measure.device import machine
from pocketvision.models import registry

COUNTS, BUILDS = 31, 5
COUNT_LIMIT_MS, BUILD_LIMIT_MS = 5, 500


def times_ms(run: Callable[[], object], repeats: int) -> list[float]:
    """Milliseconds of each of `repeats` runs, after one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    return times


def cell(times: list[float]) -> str:
    """'0.21 (0.20 to 0.35)': the median and the range."""
    return f"{statistics.median(times):.3g} ({min(times):.3g} to {max(times):.3g})"


def main() -> None:
    """Print the table as Markdown, and which networks are over a limit."""
    here = machine()
    print(
        f"{here.cpu}, {here.cores} cores, {torch.get_num_threads()} threads, {here.system}, "
        f"torch {here.versions['torch']}, load {here.load:.2f}; 224 px, 1000 classes\n"
    )
    counting, building = f"count, ms (range, n = {COUNTS})", f"build, ms (range, n = {BUILDS})"
    print(f"| network | layers | {counting} | {building} |")
    print("|---|---:|---:|---:|")
    slow = []
    for name in registry.list_models():
        spec = registry.spec(name)
        counts = times_ms(partial(count, spec), COUNTS)
        builds = times_ms(partial(spec.build, seed=0), BUILDS)
        print(f"| {name} | {len(spec.layers())} | {cell(counts)} | {cell(builds)} |", flush=True)
        if statistics.median(counts) > COUNT_LIMIT_MS or statistics.median(builds) > BUILD_LIMIT_MS:
            slow.append(name)
    limits = f"{COUNT_LIMIT_MS} ms to count or {BUILD_LIMIT_MS} ms to build"
    print(f"\nOver {limits}: {', '.join(slow) if slow else 'none'}.")


if __name__ == "__main__":
    main()
