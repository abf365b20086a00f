"""How often intervals of the latency protocol hold the truth, alone and beside busy processes.

    python benchmarks/latency_protocol.py

One file is measured k times apart, each time as `pocketvision measure` does; the truth is taken to
be the median of the k medians. A good protocol covers it 19 times out of 20 when it trusts itself,
and says so when it should not.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from pathlib import Path

import onnxruntime

from pocketvision.cpu import available_cores
from pocketvision.measure.conditions import causes, judged, watch_conditions
from pocketvision.measure.device import machine
from pocketvision.measure.latency import FINAL, measure_latency, relative_width
from pocketvision.measure.untrained import noise, stand_in, untrained_card
from pocketvision.models.registry import spec
from pocketvision.record.timing import Conditions, Latency
from pocketvision.runtimes.export import export_onnx
from pocketvision.runtimes.registry import get_runtime

NETWORK = spec("mobilenet_v3_small", resolution=96)
THREADS = 1
BUSY = "while True: sum(range(10_000))"


def open_file(folder: Path) -> Callable[[], object]:
    """The network exported untrained and opened: a call that runs it on one image."""
    path = folder / "model.onnx"
    export_onnx(stand_in(NETWORK), path, untrained_card(NETWORK))
    session = get_runtime("onnxruntime").session(path, "f32", THREADS)
    return partial(session.run, noise(1, NETWORK))


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes that do nothing but use a core each."""
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def measure(
    run: Callable[[], object], times: int, pause_s: float
) -> list[tuple[Latency, Conditions]]:
    """`times` measurements with a pause before each."""
    found = []
    for number in range(times):
        time.sleep(pause_s)
        with watch_conditions(THREADS) as seen:
            latency = measure_latency({"file": run}, FINAL, THREADS, seed=number)["file"]
        found.append((judged(latency, seen[0]), seen[0]))
    return found


def row(name: str, found: list[tuple[Latency, Conditions]]) -> str:
    """One line of the table."""
    latencies = [latency for latency, _ in found]
    truth = statistics.median(latency.median_ms for latency in latencies)
    trusted = [latency for latency in latencies if not latency.noise]
    medians = sorted(latency.median_ms for latency in latencies)
    widths = sorted(map(relative_width, latencies))
    others = [seen.busy for _, seen in found if seen.busy is not None]
    taken = f"{statistics.median(others):.0%}" if others else "?"
    reasons = Counter(cause.fact.split(" took ")[0] for _, seen in found for cause in causes(seen))
    named = ", ".join(f"{fact}: {count}" for fact, count in reasons.most_common()) or "none"
    return (
        f"| {name} | {taken} | {len(found)} | "
        f"{truth:.3g} ({medians[0]:.3g} to {medians[-1]:.3g}) | "
        f"{statistics.median(widths):.1%} ({widths[0]:.1%} to {widths[-1]:.1%}) | "
        f"{covering(latencies, truth)} | {len(trusted)} | {covering(trusted, truth)} | "
        f"{meeting(trusted)} | {named} |"
    )


def covering(latencies: list[Latency], truth: float) -> str:
    """How many of the intervals contain the truth."""
    if not latencies:
        return "-"
    hits = sum(latency.low_ms <= truth <= latency.high_ms for latency in latencies)
    return f"{hits} ({hits / len(latencies):.0%})"


def meeting(latencies: list[Latency]) -> str:
    """The share of pairs of intervals that overlap."""
    pairs = list(combinations(latencies, 2))
    if not pairs:
        return "-"
    hits = sum(a.low_ms <= b.high_ms and b.low_ms <= a.high_ms for a, b in pairs)
    return f"{hits / len(pairs):.0%}"


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--times", type=int, default=20, help="measurements of each state")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between them")
    options = parser.parse_args()
    here, cores = machine(), available_cores()
    states = {"as found": 0, f"{cores} busy processes more": cores}
    with tempfile.TemporaryDirectory() as folder:
        run = open_file(Path(folder))
        rows = []
        for name, busy in states.items():
            with busy_processes(busy):
                rows.append(row(name, measure(run, options.times, options.pause)))
    print(
        f"{here.cpu}, {here.cores} cores, {THREADS} thread, {here.system}, onnxruntime "
        f"{onnxruntime.__version__}; {NETWORK.label}, f32, batch 1, {FINAL.rounds} rounds a "
        f"measurement, {options.pause:g} s apart, load {here.load:.2f}\n"
    )
    print(
        "| state | taken by others | n | median, ms (range) | width of the interval (range) "
        "| cover the median of all | trusted | of them cover it | pairs that overlap "
        "| causes named |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
