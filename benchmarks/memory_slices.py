"""Memory-efficient inference as the process sees it: MobileNetV2 with its expansions in slices.

    python benchmarks/memory_slices.py

Whole: the network as built, in eval mode. t: `slice_expansions(network, t)`; t = 1 keeps the whole
expansion, but folds the norms, as every t does. Tensors are channels-last: contiguous ones are
reordered on the way into every convolution, which takes memory of its own. Each measurement is a
process of its own, and they take turns. Memory is the high-water mark of the process (VmHWM) after
the runs less the one before the first run, when network and image are there; counted is M(G) by
arithmetic, in float32.

Source: Sandler et al., MobileNetV2, section 5.1.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from pocketvision.measure.activations import activation_memory
from pocketvision.measure.device import machine
from pocketvision.models.arch import Network
from pocketvision.models.registry import spec
from pocketvision.nn.slices import slice_expansions

SIDE = 1024
THREADS = 1
TURNS = 3
RUNS = 3  # in each process; the fastest counts, the first grows the buffers
WHOLE = 0  # stands for the network as built, beside the numbers of slices
WAYS = (WHOLE, 1, 2, 3, 5)


def high_water_mb() -> float:
    """VmHWM of this process; ru_maxrss would inherit that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1]) / 1e6


def run_here(way: int) -> tuple[float, float]:
    """(MB above the process before the first run, seconds of the fastest run)."""
    torch.set_num_threads(THREADS)
    network: Network = spec("mobilenet_v2", resolution=SIDE).build(seed=0).eval()
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in stubs
    sliced = network if way == WHOLE else slice_expansions(network, way)
    image = torch.rand(1, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    before, seconds = high_water_mb(), []
    with torch.inference_mode():
        for _ in range(RUNS):
            start = time.perf_counter()
            sliced(image)
            seconds.append(time.perf_counter() - start)
    return high_water_mb() - before, min(seconds)


def measured(way: int) -> tuple[float, float]:
    """`run_here` in a process of its own: a high-water mark only rises."""
    command = [sys.executable, __file__, str(way)]
    done = subprocess.run(command, check=True, capture_output=True)
    memory_mb, seconds = json.loads(done.stdout)
    return memory_mb, seconds


def spread(values: list[float], form: str) -> str:
    """The median, and the range in brackets."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    """Print the table as Markdown."""
    here = machine()
    counted = activation_memory(spec("mobilenet_v2"), SIDE, 4, WAYS[1:]).peak_bytes
    print(
        f"{here.cpu}, {here.cores} cores, {THREADS} thread, {here.system}, torch "
        f"{here.versions['torch']}; MobileNetV2 x1 @{SIDE}, float32, batch 1, {TURNS} turns, "
        f"load {here.load:.2f}\n"
    )
    print("| slices | counted, MB | peak, MB (range) | of whole | seconds (range) | of whole |")
    print("|---|---|---|---|---|---|")
    found: dict[int, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(TURNS):
        for way, pairs in found.items():
            pairs.append(measured(way))
    whole = [statistics.median(column) for column in zip(*found[WHOLE], strict=True)]
    for way, pairs in found.items():
        memory, seconds = (list(column) for column in zip(*pairs, strict=True))
        name = "whole, as built" if way == WHOLE else f"t = {way}"
        total = "" if way == WHOLE else f"{counted[way] / 1e6:.0f}"
        print(
            f"| {name} | {total} | {spread(memory, '.0f')} | "
            f"{statistics.median(memory) / whole[0]:.2f} | {spread(seconds, '.2f')} | "
            f"{statistics.median(seconds) / whole[1]:.2f} |"
        )


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(json.dumps(run_here(int(sys.argv[1]))))
    else:
        main()
