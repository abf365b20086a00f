"""The input pipeline: this package against torchvision's per-image transforms, in one run.

    make reference && .venv-reference/bin/python benchmarks/input_pipeline.py

One epoch over the same photos, batch 64, from files to normalised batches (nothing is trained):
a random crop of 0.35..1 of the area, mirrored half of the time. Colours are left alone: changing
them image by image costs the others more than it costs us. Files are in the system's cache.
- ours, later epochs: batches of the pixel store, cut and mirrored by `augment`.
- ours, first epoch: the store is built (scaled JPEG decode, one thread per core), then that.
- ours, first epoch and checks: before it `scan` reads, decodes and hashes every file.
- torchvision: ImageFolder (Pillow decodes all of every photo) and a DataLoader, whose epochs are
  all alike: with the transforms for Pillow images, or v2's for tensors of bytes, in the process of
  the training (0 workers) or in 2.
Photos: clothing10_192 in $POCKETVISION_TEST_DATA/data (shorter side 192 px), else generated ones.
Large ones are mosaics of 8 x 6 of them, 1600x1200, so as full of detail as what a camera makes.
Each way has a process of its own, all take turns, and the ratio of their medians is what counts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from other import import_other
from PIL import Image
from torch.utils.data import DataLoader

from pocketvision.data.images import Samples, scan
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import open_pixels
from pocketvision.data.transforms import Augmentation, augment
from pocketvision.measure.device import machine
from pocketvision.train.allocator import keep_freed_memory
from pocketvision.train.batches import Batches, PixelSource, epoch_batches, num_batches

BATCH = 64
AUGMENTATION = Augmentation(brightness=0, contrast=0, saturation=0)
SMALL, LARGE = 1024, 256  # photos
LEAST_S = 0.5  # of epochs in a turn
MOSAIC, TILE = (8, 6), 200  # photos across and down, pixels
KINDS = (("small", "shorter side 192 px", (96, 160)), ("large", "1600x1200", (96, 224)))
LATER, FIRST, CHECKED = "ours, later epochs", "ours, first epoch", "ours, first epoch and checks"
PEERS = {  # name -> v2?, workers
    "torchvision, 0 workers": (False, 0),
    "torchvision, 2 workers": (False, 2),
    "torchvision v2, 2 workers": (True, 2),
}
WAYS = (LATER, FIRST, CHECKED, *PEERS)

Run = Callable[[], object]  # one epoch


def our_epoch(samples: Samples, pre: Preprocessing, epochs: count[int]) -> None:
    """The batches of one epoch, from the store; it is built if it is not there."""
    source = PixelSource(
        pixels=open_pixels(samples, pre.side),
        indices=np.arange(len(samples)),
        labels=samples.labels,
    )
    epoch = next(epochs)
    rows = epoch_batches(len(source), num_batches(len(source), BATCH), 0, epoch)
    for step, (pixels, labels) in enumerate(Batches(source, rows)):
        targets = F.one_hot(labels, len(samples.classes)).float()
        augment(pixels, targets, pre, AUGMENTATION, key=(0, epoch, step))


def first_epoch(prepare: Callable[[], Samples], pre: Preprocessing, epochs: count[int]) -> None:
    """`our_epoch` with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["POCKETVISION_CACHE"] = cache
        our_epoch(prepare(), pre, epochs)


def peer_loader(folder: Path, pre: Preprocessing, v2: bool, workers: int) -> Run:
    """torchvision's folder, transforms and PyTorch's loader."""
    torchvision = import_other("torchvision")
    crop = {"size": pre.resolution, "scale": (AUGMENTATION.min_scale, 1.0)}
    mean, std = ([value / 255 for value in values] for values in (pre.mean, pre.std))
    if v2:
        made = import_other("torchvision.transforms.v2")
        begin, end = [made.ToImage()], [made.ToDtype(torch.float32, scale=True)]
    else:
        made = torchvision.transforms
        begin, end = [], [made.ToTensor()]
    steps = [made.RandomResizedCrop(**crop, antialias=True), made.RandomHorizontalFlip()]
    transform = made.Compose([*begin, *steps, *end, made.Normalize(mean, std)])
    images = torchvision.datasets.ImageFolder(str(folder), transform)
    loader = DataLoader(
        images, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    return lambda: [len(labels) for _, labels in loader]


def make_run(way: str, folder: Path, resolution: int) -> Run:
    """One epoch of a way over the photos of a folder."""
    with Image.open(next(folder.glob("*/*.jpg"))) as image:
        pre = Preprocessing.for_resolution(resolution, min(image.size))
    if way in PEERS:
        return peer_loader(folder, pre, *PEERS[way])
    keep_freed_memory()
    if way == CHECKED:
        return partial(first_epoch, partial(scan, folder), pre, count())
    samples = scan(folder)
    if way == FIRST:
        return partial(first_epoch, lambda: samples, pre, count())
    return partial(our_epoch, samples, pre, count())


def work(way: str, folder: Path, resolution: int) -> None:
    """An epoch that does not count, then a turn for every line on standard input."""
    run = make_run(way, folder, resolution)
    run()
    print("ready", flush=True)
    for _ in sys.stdin:
        start, epochs, seconds = time.perf_counter(), 0, 0.0
        while seconds < LEAST_S:
            run()
            epochs, seconds = epochs + 1, time.perf_counter() - start
        print(seconds / epochs, flush=True)


class Worker:
    """A way in a process of its own, which waits for its turns."""

    def __init__(self, way: str, folder: Path, resolution: int) -> None:
        command = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
        command += ["--resolution", str(resolution)]
        cache = str(folder.parent / "cache")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "POCKETVISION_CACHE": cache},
        )
        self._line()

    def turn(self) -> float:
        """Seconds of an epoch."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def write_photos(folder: Path) -> str:
    """Fill folder/small and folder/large with classes of photos; says where they come from."""
    named = Path(os.environ.get("POCKETVISION_TEST_DATA", "")) / "data/clothing10_192"
    photos = sorted(named.glob("train/*/*.jpg"))
    if photos:
        for number, path in enumerate(photos[:: len(photos) // SMALL][:SMALL]):
            shutil.copyfile(path, place(folder / "small", number))
    else:
        for number in range(SMALL):
            generated(number).save(place(folder / "small", number), quality=90)
    tiles = sorted(folder.glob("small/*/*.jpg"))
    for number in range(LARGE):
        mosaic(tiles, number).save(place(folder / "large", number), quality=90)
    return "clothing10_192" if photos else "generated photos"


def place(folder: Path, number: int) -> Path:
    """A file of one of two classes, which need not exist yet."""
    path = folder / "ab"[number % 2] / f"{number:04d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def generated(number: int) -> Image.Image:
    """Coloured blobs with some noise, 256x192."""
    generator = np.random.default_rng(number)
    blobs = Image.fromarray(generator.integers(256, size=(6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(blobs.resize((256, 192), Image.Resampling.BICUBIC), np.float64)
    noisy = smooth + generator.normal(0, 8, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def mosaic(tiles: list[Path], number: int) -> Image.Image:
    """A large photo of MOSAIC small ones."""
    across, down = MOSAIC
    whole = Image.new("RGB", (across * TILE, down * TILE))
    for cell in range(across * down):
        with Image.open(tiles[(number * 7 + cell) % len(tiles)]) as photo:
            corner = (cell % across * TILE, cell // across * TILE)
            whole.paste(photo.resize((TILE, TILE)), corner)
    return whole


def compare(described: str, folder: Path, resolution: int, turns: int) -> None:
    """Print the table of one kind of photos."""
    files = list(folder.glob("*/*.jpg"))
    kilobytes = statistics.mean(file.stat().st_size for file in files) / 1000
    print(f"\n{len(files)} photos, {described}, {kilobytes:.0f} kB each, to {resolution} px\n")
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    with contextlib.ExitStack() as stack:
        workers = {way: stack.enter_context(Worker(way, folder, resolution)) for way in WAYS}
        for _ in range(turns):
            for way, worker in workers.items():
                seconds[way].append(worker.turn())
    speeds = {way: [len(files) / value for value in values] for way, values in seconds.items()}
    medians = {way: statistics.median(values) for way, values in speeds.items()}
    print(
        f"| images/s, n = {turns} | median (range) | " + " | ".join(f"/ {p}" for p in PEERS) + " |"
    )
    print("|---|---:|" + "---:|" * len(PEERS))
    for way, values in speeds.items():
        ratios = " | ".join(f"{medians[way] / medians[peer]:.2f}" for peer in PEERS)
        cell = f"{medians[way]:,.0f} ({min(values):,.0f} to {max(values):,.0f})"
        print(f"| {way} | {cell} | {ratios} |", flush=True)


def main(turns: int) -> None:
    """Print the tables as Markdown."""
    here = machine()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = write_photos(folder)
        print(
            f"{here.cpu}, {here.cores} cores, {torch.get_num_threads()} threads, {here.system}, "
            f"torch {torch.__version__}, torchvision {import_other('torchvision').__version__}, "
            f"Pillow {PIL.__version__}; {source}, load {here.load:.2f}"
        )
        for size, described, resolutions in KINDS:
            for resolution in resolutions:
                compare(described, folder / size, resolution, turns)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Input pipelines beside torchvision's.")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--resolution", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        work(options.way, options.folder, options.resolution)
    else:
        main(options.turns)
