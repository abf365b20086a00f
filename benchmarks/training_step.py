"""Training speed on the CPU: this package against plain PyTorch and timm's loop, in one run.

    make reference && .venv-reference/bin/python benchmarks/training_step.py

All train the same network (batch 64, 10 classes, AdamW, smoothed cross-entropy) on the same stored
pixels, augmented by the same code. What differs:
- plain: contiguous tensors, torch.optim.AdamW and the allocator's own settings.
- timm: what its train.py does on a CPU with --channels-last: its own `create_model`, optimizer
  factory and LabelSmoothingCrossEntropy; network and images in channels-last order; forward, the
  loss read back, zero_grad, backward, step, in float32.
- ours: the settings of `train.trainer` (channels-last, freed memory kept, its optimizer) in the
  loop of plain.
- fit(): what `fit` runs. It also reads the batches from a store, clips gradients, averages the
  weights and follows a schedule; the others do none of this.
Each measurement is a process of its own, all take turns, and the ratio of their medians is what
counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from other import import_other
from torch import Tensor, nn

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import StoredPixels
from pocketvision.data.transforms import augment
from pocketvision.measure.device import machine
from pocketvision.models.create import create_model
from pocketvision.train.allocator import keep_freed_memory
from pocketvision.train.batches import PixelSource
from pocketvision.train.classify import Classification
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.devices import lay_out
from pocketvision.train.module import build_optimizer
from pocketvision.train.trainer import fit

NETWORKS = {  # our name -> timm's
    "mobilenet_v3_small": "mobilenetv3_small_100",
    "mobilenet_v3_large": "mobilenetv3_large_100",
    "mobilenet_v2": "mobilenetv2_100",
}
RESOLUTION, CLASSES, BATCH = 96, 10, 64
DROPOUT = 0.2  # before the classifier, as our networks have it
SECONDS = 4.0  # of steps in one process, but for fit()
STORED = 8 * BATCH  # images that fit() draws its batches from
CONFIG = TrainConfig(batch_size=BATCH, epochs=6)

Loss = Callable[[Tensor, Tensor], Tensor]  # logits (N, K), labels (N,)
LOSS: Loss = partial(F.cross_entropy, label_smoothing=CONFIG.label_smoothing)


def plain_loop(name: str) -> list[float]:
    """Seconds of each step with PyTorch's own settings."""
    network = create_model(name, resolution=RESOLUTION, num_classes=CLASSES, seed=0).train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=CONFIG.learning_rate, weight_decay=CONFIG.weight_decay
    )
    return step_seconds(network, optimizer, LOSS, torch.contiguous_format)


def our_loop(name: str) -> list[float]:
    """Seconds of each step with this package's settings."""
    keep_freed_memory()
    network = create_model(name, resolution=RESOLUTION, num_classes=CLASSES, seed=0).train()
    lay_out(network, torch.channels_last)
    return step_seconds(network, build_optimizer(network, CONFIG), LOSS, torch.channels_last)


def timm_loop(name: str) -> list[float]:
    """Seconds of each step with timm's network, optimizer and loss."""
    timm = import_other("timm")
    network = timm.create_model(NETWORKS[name], num_classes=CLASSES, drop_rate=DROPOUT).train()
    network = network.to(memory_format=torch.channels_last)
    optimizer = import_other("timm.optim").create_optimizer_v2(
        network, opt="adamw", lr=CONFIG.learning_rate, weight_decay=CONFIG.weight_decay
    )
    loss = import_other("timm.loss").LabelSmoothingCrossEntropy(CONFIG.label_smoothing)
    return step_seconds(network, optimizer, loss, torch.channels_last)


def step_seconds(
    network: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss, layout: torch.memory_format
) -> list[float]:
    """Seconds of each step, augmentation included."""
    pre = Preprocessing.for_resolution(RESOLUTION)
    pixels = torch.randint(256, (BATCH, pre.side, pre.side, 3), dtype=torch.uint8)
    labels = torch.randint(CLASSES, (BATCH,))
    targets = F.one_hot(labels, CLASSES).float()
    durations: list[float] = []
    while len(durations) < 6 or sum(durations) < SECONDS:
        start = time.perf_counter()
        key = (0, 0, len(durations))
        images, _ = augment(pixels, targets, pre, CONFIG.augmentation, key=key)
        found = loss(network(images.contiguous(memory_format=layout)), labels)
        found.item()
        optimizer.zero_grad()
        torch.autograd.backward(found)
        optimizer.step()
        durations.append(time.perf_counter() - start)
    return durations


def train_loop(name: str) -> list[float]:
    """Seconds between the ends of steps of `fit()`; the median passes over the validations."""
    network = create_model(name, resolution=RESOLUTION, num_classes=CLASSES, seed=0)
    pre = Preprocessing.for_resolution(RESOLUTION)
    generator = np.random.default_rng(0)
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "pixels.u8"
        generator.integers(256, size=(STORED, pre.side, pre.side, 3), dtype=np.uint8).tofile(path)
        stored = StoredPixels(path=path, rows=STORED, shape=(pre.side, pre.side, 3))
        labels = generator.integers(CLASSES, size=STORED)
        few = slice(8)  # one small validation an epoch
        course = Course(
            train=PixelSource(pixels=stored, indices=np.arange(STORED), labels=labels),
            val=PixelSource(pixels=stored, indices=np.arange(STORED)[few], labels=labels[few]),
            preprocessing=pre,
            config=CONFIG,
        )
        fit(
            Classification(network, course),
            folder=Path(temporary) / "training",
            on_step=lambda *_: ends.append(time.perf_counter()),
        )
    return np.diff(ends).tolist()


LOOPS = {"plain": plain_loop, "timm": timm_loop, "ours": our_loop, "fit()": train_loop}


def images_per_second(side: str, name: str) -> float:
    """Median speed of training steps after a warm-up, in this process."""
    durations = LOOPS[side](name)
    return BATCH / statistics.median(durations[2:])


def measured(side: str, name: str) -> float:
    """`images_per_second` in a process of its own: an allocator's settings cannot be undone."""
    command = [sys.executable, __file__, "--side", side, name]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))


def main(names: list[str], turns: int) -> None:
    """Print the table as Markdown."""
    here = machine()
    print(
        f"{here.cpu}, {here.cores} cores, {torch.get_num_threads()} threads, {here.system}, torch "
        f"{torch.__version__}, timm {import_other('timm').__version__}; {RESOLUTION} px, batch "
        f"{BATCH}, medians (range) of {turns} turns, load {here.load:.2f}\n"
    )
    print("| network | " + " | ".join(f"{side}, images/s" for side in LOOPS), end="")
    print(" | ours / plain | ours / timm | fit() / plain | fit() / timm |")
    print("|---|" + "---:|" * (len(LOOPS) + 4))
    for name in names:
        speeds: dict[str, list[float]] = {side: [] for side in LOOPS}
        for _ in range(turns):
            for side, values in speeds.items():
                values.append(measured(side, name))
        medians = {side: statistics.median(values) for side, values in speeds.items()}
        cells = [f"{medians[s]:.0f} ({min(v):.0f} to {max(v):.0f})" for s, v in speeds.items()]
        for side in ("ours", "fit()"):
            cells += [f"{medians[side] / medians[peer]:.2f}" for peer in ("plain", "timm")]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Training steps beside plain PyTorch and timm.")
    parser.add_argument("networks", nargs="*", metavar="network", help=", ".join(NETWORKS))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(images_per_second(options.side, options.networks[0])))
    else:
        main(options.networks or list(NETWORKS), options.turns)
