"""Training speed on the CPU: this package's defaults against plain PyTorch, in one run.

    python benchmarks/training_step.py

Plain: contiguous tensors and the allocator's own settings. Ours: the settings of `train.trainer`
(channels-last, freed memory kept). Both train the same network with the same optimizer on the same
batch, augmented by the same code. Each measurement is a process of its own, the two take turns, and
the ratio of their medians is what counts.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.transforms import Augmentation, augment
from pocketvision.measure.device import machine
from pocketvision.models.create import create_model
from pocketvision.train.allocator import keep_freed_memory
from pocketvision.train.classify import build_optimizer
from pocketvision.train.config import TrainConfig
from pocketvision.train.trainer import lay_out

NETWORKS = (("mobilenet_v3_small", 96), ("mobilenet_v3_large", 96), ("mobilenet_v2", 96))
TURNS = 5
SECONDS = 4.0
BATCH = 64


def images_per_second(side: str, name: str, resolution: int) -> float:
    """Median speed of training steps after a warm-up, in this process."""
    if side == "ours":
        keep_freed_memory()
    layout = torch.channels_last if side == "ours" else torch.contiguous_format
    network = create_model(name, resolution=resolution, num_classes=10, seed=0)
    lay_out(network.train(), layout)
    optimizer = build_optimizer(network, TrainConfig())
    pre = Preprocessing.for_resolution(resolution)
    pixels = torch.randint(256, (BATCH, pre.side, pre.side, 3), dtype=torch.uint8)
    labels = torch.randint(10, (BATCH,))
    targets = F.one_hot(labels, 10).float()
    durations: list[float] = []
    while len(durations) < 6 or sum(durations) < SECONDS:
        start = time.perf_counter()
        images, mixed = augment(pixels, targets, pre, Augmentation(), key=(0, 0, len(durations)))
        loss = F.cross_entropy(network(images.contiguous(memory_format=layout)), mixed)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        durations.append(time.perf_counter() - start)
    return BATCH / statistics.median(durations[2:])


def measured(side: str, name: str, resolution: int) -> float:
    """`images_per_second` in a process of its own: an allocator's settings cannot be undone."""
    command = [sys.executable, __file__, side, name, str(resolution)]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))


def main() -> None:
    """Print the table as Markdown."""
    here = machine()
    print(
        f"{here.cpu}, {here.cores} cores, {torch.get_num_threads()} threads, {here.system}, ",
        end="",
    )
    print(f"torch {here.versions['torch']}; batch {BATCH}, {TURNS} turns, load {here.load:.2f}\n")
    print("| network | plain PyTorch, images/s (range) | ours (range) | ratio of medians |")
    print("|---|---|---|---|")
    for name, resolution in NETWORKS:
        speeds: dict[str, list[float]] = {"plain": [], "ours": []}
        for _ in range(TURNS):
            for side, values in speeds.items():
                values.append(measured(side, name, resolution))
        cells = [
            f"{statistics.median(v):.0f} ({min(v):.0f} to {max(v):.0f})" for v in speeds.values()
        ]
        ratio = statistics.median(speeds["ours"]) / statistics.median(speeds["plain"])
        print(f"| {name} @{resolution} | {cells[0]} | {cells[1]} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(images_per_second(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
    else:
        main()
