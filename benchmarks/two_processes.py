"""Training in two processes of one machine against one: the same accuracy, within noise.

    python benchmarks/two_processes.py [--epochs 15]

MobileNetV1 x0.25 @32 from scratch on the digits sample (1,797 images, scikit-learn's), batch 64 in
both cases: with two processes (gloo, on the CPU) each takes half of every batch, so their norms see
32 images and each draws its own augmentation. Top-1 is on val, of the averaged weights.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pocketvision.data.images import Samples, scan
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.samples import write_sample
from pocketvision.data.stream import open_pixels
from pocketvision.data.transforms import Augmentation
from pocketvision.intervals import wilson
from pocketvision.measure.device import machine
from pocketvision.models import registry
from pocketvision.train.batches import PixelSource
from pocketvision.train.classify import Classification
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.trainer import fit

SEEDS = (0, 1, 2)
RESOLUTION = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """One training: correct of n images of val, and its seconds."""

    correct: int
    n: int
    seconds: float


def train_once(samples: Samples, folder: Path, *, devices: int, seed: int, epochs: int) -> Training:
    """Train on `devices` processes, each on one thread."""
    pixels = open_pixels(samples, RESOLUTION)
    sources = {
        split: PixelSource(pixels=pixels, indices=rows, labels=samples.labels[rows])
        for split in ("train", "val")
        for rows in [samples.indices(split)]
    }
    network = registry.spec(
        "mobilenet_v1", width=0.25, resolution=RESOLUTION, num_classes=len(samples.classes)
    )
    course = Course(
        train=sources["train"],
        val=sources["val"],
        preprocessing=Preprocessing(resolution=RESOLUTION, side=RESOLUTION),
        config=TrainConfig(
            epochs=epochs,
            warmup_epochs=min(2.0, epochs / 4),
            augmentation=Augmentation(flip=0.0),
            accelerator="cpu",
            devices=devices,
            threads=1,
            seed=seed,
        ),
    )
    began = time.monotonic()
    done = fit(Classification(network.build(seed=seed), course), folder=folder)
    n = len(sources["val"])
    correct = round(done.epochs[-1].val_score * n)
    return Training(correct=correct, n=n, seconds=time.monotonic() - began)


def difference(one: list[Training], two: list[Training]) -> tuple[float, float]:
    """Top-1 with two processes less that with one, pooled over seeds, and its standard error."""
    shares = [sum(t.correct for t in ts) / sum(t.n for t in ts) for ts in (one, two)]
    counts = [sum(t.n for t in ts) for ts in (one, two)]
    variance = sum(p * (1 - p) / n for p, n in zip(shares, counts, strict=True))
    return shares[1] - shares[0], math.sqrt(variance)


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=15)
    epochs = parser.parse_args().epochs
    here = machine()
    print(
        f"{here.cpu}, {here.cores} cores, {here.system}, torch {here.versions['torch']}; "
        f"{epochs} epochs, 1 thread a process, load {here.load:.2f}\n"
    )
    print("| seed | processes | val top-1 (95 %) | n | seconds |\n|---|---|---|---|---|")
    found: dict[int, list[Training]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as temporary:
        samples = scan(write_sample("digits", Path(temporary) / "digits"))
        for seed in SEEDS:
            for devices, trainings in found.items():
                folder = Path(temporary) / f"{seed}-{devices}"
                t = train_once(samples, folder, devices=devices, seed=seed, epochs=epochs)
                trainings.append(t)
                low, high = wilson(t.correct, t.n)
                top1 = f"{t.correct / t.n:.1%} ({low:.1%} to {high:.1%})"
                print(f"| {seed} | {devices} | {top1} | {t.n} | {t.seconds:.1f} |", flush=True)
    change, error = difference(found[1], found[2])
    print(
        f"\nTwo processes less one: {100 * change:+.2f} points, standard error {100 * error:.2f}."
    )


if __name__ == "__main__":
    main()
