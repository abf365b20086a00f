"""Independent proposals scored by two workers of one thread against one, and against no worker.

    python benchmarks/workers.py                        # with the extras cluster and samples
    python benchmarks/workers.py --ways "1 of Ray" "2 of Ray"

A proposal is one of `pocketvision shrink`: one group of widths of MobileNetV2 x0.5 is narrowed, the
network fine-tuned briefly on the digits sample (1,797 images, scikit-learn's) at 96 px, taught by
the one before, and judged on images held out. Ways take turns, each turn with workers of its own;
the time until they have begun is apart. All ways must give the same scores, bit for bit. Ray's
cluster is one of this script's, with as many CPUs as workers.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pocketvision.data.images import scan
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.samples import write_sample
from pocketvision.data.stream import open_pixels
from pocketvision.errors import require
from pocketvision.measure.device import machine
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.narrow import narrow
from pocketvision.models.weights import load_classifier, save
from pocketvision.models.width_groups import resized, width_groups
from pocketvision.models.widths import widths_of
from pocketvision.train.allocator import keep_freed_memory
from pocketvision.train.batches import PixelSource
from pocketvision.train.brief import fine_tune_briefly
from pocketvision.train.classify import Classification
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.workers.pool import Pool, Workers, open_pool

RESOLUTION, HELD_OUT = 96, 256
PREPROCESSING = Preprocessing.for_resolution(RESOLUTION)
WAYS: dict[str, Workers] = {
    "this process": None,
    "1 process": 1,
    "2 processes": 2,
    "1 of Ray": "ray",
    "2 of Ray": "ray",
}
PAIRS = (("1 process", "2 processes"), ("1 of Ray", "2 of Ray"), ("this process", "1 process"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """One task: a narrower network, and steps of training; 0 for none."""

    spec: ArchSpec
    key: int
    steps: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposals:
    """The work: a saved network, images to train on and to judge by."""

    folder: Path
    train: PixelSource
    held_out: PixelSource

    def open(self) -> Tuner:
        return Tuner(work=self, network=load_classifier(self.folder)[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuner:
    """What narrows, fine-tunes and judges."""

    work: Proposals
    network: Network

    def score(self, task: Proposal) -> float:
        course = Course(
            train=self.work.train,
            val=self.work.held_out,
            preprocessing=PREPROCESSING,
            config=TrainConfig(learning_rate=1e-3, threads=1),
            teacher=self.network,
        )
        module = Classification(narrow(self.network, task.spec), course)
        fine_tune_briefly(module, task.steps, key=task.key)
        return module.expected_score()


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """Seconds until all workers had scored something, and of the proposals."""

    start_s: float
    seconds: float
    scores: list[float]


def prepare(folder: Path) -> Proposals:
    """Write images and a network."""
    samples = scan(write_sample("digits", folder / "digits"))
    pixels = open_pixels(samples, PREPROCESSING.side)
    rows = np.random.default_rng(0).permutation(samples.indices("train"))
    train, held_out = (
        PixelSource(pixels=pixels, indices=part, labels=samples.labels[part])
        for part in (np.sort(rows[HELD_OUT:]), np.sort(rows[:HELD_OUT]))
    )
    spec = registry.spec("mobilenet_v2", width=0.5, resolution=RESOLUTION, num_classes=10)
    save(spec.build(seed=0), folder / "network", classes=samples.classes)
    return Proposals(folder=folder / "network", train=train, held_out=held_out)


def proposals(spec: ArchSpec, count: int, steps: int) -> list[Proposal]:
    """The first groups that can be narrowed, each to three quarters or less."""
    found: list[Proposal] = []
    for group in width_groups(spec):
        widths = [width for width in widths_of(spec, group, 8) if width <= 0.75 * group.width]
        if widths:
            narrower = resized(spec, group, widths[0])
            found.append(Proposal(spec=narrower, key=len(found), steps=steps))
    return found[:count]


@contextlib.contextmanager
def opened(way: str) -> Iterator[Pool]:
    """The pool of a way. Ray's needs a cluster, whose start is not timed."""
    with contextlib.ExitStack() as stack:
        if WAYS[way] == "ray":
            ray = require("ray", "cluster")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what Ray says of its own future
                ray.init(
                    num_cpus=int(way[0]),
                    include_dashboard=False,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                )
            stack.callback(ray.shutdown)
        yield stack.enter_context(open_pool(WAYS[way]))


def turn(way: str, work: Proposals, tasks: list[Proposal]) -> Turn:
    """One measurement, behind tasks without training that start all workers."""
    first = [Proposal(spec=task.spec, key=0, steps=0) for task in tasks]
    found: list[float] = []
    with opened(way) as pool:
        began = time.perf_counter()
        pool.scores(work, first, lambda place, score: None)
        ready = time.perf_counter()
        pool.scores(work, tasks, lambda place, score: found.append(score))
        done = time.perf_counter()
    return Turn(start_s=ready - began, seconds=done - ready, scores=found)


def spread(values: list[float], digits: int) -> str:
    """Median, least and largest."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    """Print both tables as Markdown."""
    parser = argparse.ArgumentParser(description="Workers for independent scorings.")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--proposals", type=int, default=12)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as workers do
    here = machine()
    turns: dict[str, list[Turn]] = {way: [] for way in asked.ways}
    with tempfile.TemporaryDirectory() as temporary:
        work = prepare(Path(temporary))
        tasks = proposals(load_classifier(work.folder)[0].spec, asked.proposals, asked.steps)
        print(
            f"{here.cpu}, {here.cores} cores, 1 thread a worker, {here.system}, torch "
            f"{torch.__version__}, ray {importlib.metadata.version('ray')}; {len(tasks)} proposals "
            f"of {asked.steps} steps, medians (range) of {asked.turns} turns, load {here.load:.2f}"
        )
        for _ in range(asked.turns):
            for way, taken in turns.items():
                taken.append(turn(way, work, tasks))
                print(f"- {way}: {taken[-1].seconds:.1f} s", flush=True)
    scores = [each.scores for taken in turns.values() for each in taken]
    same = all(each == scores[0] for each in scores)
    print(f"\nScores: {'all the same, bit for bit' if same else 'DIFFERENT'}.")
    print(f"\n| workers | proposals, s (n = {asked.turns}) | start, s |\n|---|---:|---:|")
    for way, ts in turns.items():
        seconds, starts = [t.seconds for t in ts], [t.start_s for t in ts]
        print(f"| {way} | {spread(seconds, 2)} | {spread(starts, 1)} |")
    print("\n| faster by | ratio |\n|---|---:|")
    for slow, fast in [pair for pair in PAIRS if turns.keys() >= set(pair)]:
        ratios = [a.seconds / b.seconds for a, b in zip(turns[slow], turns[fast], strict=True)]
        print(f"| {fast} / {slow} | {spread(ratios, 2)} |")


if __name__ == "__main__":
    main()
