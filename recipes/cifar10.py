"""Trainings on CIFAR-10 that a recipe compares: the same images, seeds, epochs and augmentation.

A run that is finished lies in the work folder and is not made again; one that was interrupted goes
on. Recipes that share a network share its runs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import plotting
from matplotlib import pyplot
from plotting import ACCENT, SECOND, SOFT, THIRD, machine_line, save, spread_cell, style, tidy

from pocketvision.budget import format_time
from pocketvision.data.images import Samples, scan
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import Pixels, open_pixels
from pocketvision.fitting.from_files import network_answers
from pocketvision.models.arch import Network
from pocketvision.storage import from_json, to_json, write_atomic
from pocketvision.train.batches import PixelSource
from pocketvision.train.classify import Classification
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.trainer import fit

PREPROCESSING = Preprocessing(resolution=32, side=32)
COLOURS = (SOFT, ACCENT, SECOND, THIRD, "#7a3d8f", "#9a7d0a")


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One network of a comparison. build: from a seed, the network with new weights."""

    name: str
    build: Callable[[int], Network]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One finished training. top1: on the n test images; curve: top-1 on val after every epoch."""

    name: str
    seed: int
    top1: float
    n: int
    curve: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the command line said."""

    data: Path
    work: Path
    out: Path
    epochs: int
    seeds: int
    threads: int
    device: str


def options(description: str | None) -> Options:
    """Parse the command line of a recipe that trains on CIFAR-10."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", type=Path, help="folder with train/ and test/, a folder per class")
    parser.add_argument("--work", type=Path, default=Path("cifar10-runs"), help="finished runs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = parser.parse_args()
    return Options(**vars(given))


def run_all(contenders: Sequence[Contender], asked: Options) -> list[Run]:
    """Train every contender with every seed; all contenders of one seed before the next seed."""
    samples = scan(asked.data)
    jobs = [(seed, contender) for seed in range(asked.seeds) for contender in contenders]
    runs: list[Run] = []
    began, made = time.monotonic(), 0
    for index, (seed, contender) in enumerate(jobs):
        if made:
            left = (time.monotonic() - began) / made * (len(jobs) - index)
            print(f"{index}/{len(jobs)}, about {format_time(left)} left", file=sys.stderr)
        run, fresh = run_one(contender, seed, samples, asked)
        made += fresh
        runs.append(run)
        print(f"{run.name}, seed {seed}: {run.top1:.2%} of {run.n}", file=sys.stderr)
    return runs


def run_one(contender: Contender, seed: int, samples: Samples, asked: Options) -> tuple[Run, bool]:
    """The training of one network with one seed, and whether it had to be made."""
    slug = contender.name.replace(" ", "-").replace("/", "-")
    folder = asked.work / f"{samples.fingerprint[:8]}-{asked.epochs}" / f"{slug}-{seed}"
    result = folder / "run.json"
    if result.exists():
        return from_json(Run, result.read_bytes(), source=str(result)), False
    pixels = open_pixels(samples, PREPROCESSING.side)
    sources = {split: _source(samples, pixels, split) for split in ("train", "val", "test")}
    network = contender.build(seed)
    began = time.monotonic()
    course = Course(
        train=sources["train"],
        val=sources["val"],
        preprocessing=PREPROCESSING,
        config=config(asked, seed),
    )
    trained = fit(Classification(network, course), folder=folder)
    run = Run(
        name=contender.name,
        seed=seed,
        top1=test_top1(network, sources["test"]),
        n=len(sources["test"]),
        curve=tuple(epoch.val_score for epoch in trained.epochs),
        seconds=time.monotonic() - began,
    )
    write_atomic(result, to_json(run))
    return run, True


def test_top1(network: Network, images: PixelSource) -> float:
    """The share of images that the network gets right."""
    right = 0
    for rows in np.array_split(np.arange(len(images)), -(-len(images) // 256)):
        pixels = images.pixels.take(images.indices[rows])
        logits = network_answers(network, pixels, PREPROCESSING)
        right += int((logits.argmax(1) == images.labels[rows]).sum())
    return right / len(images)


def config(asked: Options, seed: int) -> TrainConfig:
    """The training that all contenders get."""
    return TrainConfig(
        epochs=asked.epochs,
        warmup_epochs=min(2.0, asked.epochs / 4),
        ema_decay=0.99,
        threads=asked.threads,
        accelerator="cuda" if asked.device == "cuda" else "cpu",
        seed=seed,
    )


def _source(samples: Samples, pixels: Pixels, split: str) -> PixelSource:
    rows = samples.indices(split)
    return PixelSource(pixels=pixels, indices=rows, labels=samples.labels[rows])


def of(name: str, runs: Sequence[Run]) -> list[Run]:
    """The runs of one contender, by seed."""
    return sorted((run for run in runs if run.name == name), key=lambda run: run.seed)


def top1_cell(runs: Sequence[Run]) -> str:
    """Mean and standard deviation over the seeds, in percent."""
    return spread_cell([100 * run.top1 for run in runs])


def gain_cell(runs: Sequence[Run], base: Sequence[Run]) -> str:
    """Points over the baseline of the same seed: mean, with Student's 95 % interval over seeds."""
    return plotting.gain_cell([100 * r.top1 for r in runs], [100 * r.top1 for r in base])


def draw_curves(names: Sequence[str], runs: Sequence[Run], picture: Path) -> None:
    """Top-1 on val by epoch: the mean over seeds, between the lowest and the highest."""
    with style():
        figure, axes = pyplot.subplots(figsize=(7.2, 4.2), layout="constrained")
        for name, colour in zip(names, COLOURS, strict=False):
            curves = 100 * np.array([run.curve for run in of(name, runs)])
            epochs = np.arange(1, curves.shape[1] + 1)
            axes.plot(epochs, curves.mean(0), color=colour, label=name)
            axes.fill_between(epochs, curves.min(0), curves.max(0), color=colour, alpha=0.15, lw=0)
        axes.set_xlabel("epoch")
        axes.set_ylabel("top-1 on val, % (mean and range over seeds)")
        axes.legend(frameon=False)
        tidy(axes)
        save(figure, picture)


def conditions(asked: Options, runs: Sequence[Run]) -> list[str]:
    """What stands below a table: the images, the training, the machine."""
    samples = scan(asked.data)
    counts = ", ".join(f"{name} {len(samples.indices(name))}" for name in samples.split_origins)
    shortened = (
        "**A shortened run**: part of CIFAR-10's 50,000 training images and few epochs, so that "
        "a CPU can make it; read differences, not levels. "
        if len(samples.indices("train")) < 40_000
        else ""
    )
    trained = config(asked, 0)
    return [
        f"{shortened}Images: {counts} (re-encoded as JPEG, so not strictly comparable with "
        f"published figures). Every network: {trained.epochs} epochs, batch {trained.batch_size}, "
        f"{trained.optimizer}, rate {trained.learning_rate:g}, label smoothing "
        f"{trained.label_smoothing:g}, averaged weights; seeds 0 to {asked.seeds - 1}, "
        f"n = {runs[0].n} test images, looked at once per run. ± is the standard deviation over "
        "seeds; a gain is taken against the baseline of the same seed, with Student's 95 % "
        "interval over seeds.",
        "",
        machine_line(("torch",), asked.threads),
    ]
