"""What a folder of images costs to read: memory of its index, and speed of an epoch, against size.

    python benchmarks/data_scale.py [--largest 1000000] [--folder /tmp/data_scale]

The photos are made: 64x64 JPEG files of 512 pictures, each with eight bytes of its own behind the
end of the image, so that all contents differ. They lie in 100 class folders, or in tar shards of
10,000. The first table is `scan`: list, read, hash and decode every file, set val and test aside,
take the fingerprint. Memory is the high-water mark of a process of its own (VmHWM) above the one
before, when everything is imported; "held" is what the index keeps. The second is the input of
training: batches of 64 in the order of an epoch, augmented; from the pixel store, and decoded anew
(the stream, for data whose store would not fit). Speeds are medians over epochs, with their range,
after one epoch that is not counted. The machine's page cache holds the files.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from pocketvision.data.cache import DecodedImages
from pocketvision.data.images import scan
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import Pixels, StreamedPixels, open_pixels
from pocketvision.data.transforms import Augmentation, augment
from pocketvision.measure.device import machine
from pocketvision.train.batches import Batches, PixelSource, epoch_batches, num_batches

SIZES = (1_000, 10_000, 100_000, 1_000_000)
FORMS = ("files", "shards")
EPOCHS = {"store": 5, "stream": 3}
LARGEST_EPOCH = 100_000
CLASSES, PICTURES, SIDE, PER_SHARD, BATCH = 100, 512, 64, 10_000, 64


def contents(count: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of each image."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(PICTURES):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=80)
        pictures.append(buffer.getvalue())
    for number in range(count):
        name = f"class_{number % CLASSES:02}/{number:09}.jpg"
        yield name, pictures[number % PICTURES] + number.to_bytes(8, "big")


def write_files(folder: Path, count: int) -> None:
    """A file an image."""
    for number in range(CLASSES):
        (folder / f"class_{number:02}").mkdir(parents=True)
    for name, content in contents(count):
        (folder / name).write_bytes(content)


def write_shards(folder: Path, count: int) -> None:
    """Tar files of PER_SHARD images."""
    folder.mkdir(parents=True)
    images = contents(count)
    for number in range(-(-count // PER_SHARD)):
        with tarfile.open(folder / f"{number:05}.tar", "w") as tar:
            for name, content in (next(images) for _ in range(min(PER_SHARD, count))):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def high_water_bytes() -> int:
    """VmHWM of this process; ru_maxrss would inherit that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def scan_here(folder: Path) -> dict[str, float]:
    """Seconds, bytes above the process before, and bytes that the index keeps."""
    before, start = high_water_bytes(), time.perf_counter()
    samples = scan(folder)
    seconds, peak = time.perf_counter() - start, high_water_bytes()
    return {
        "seconds": seconds,
        "peak": peak,
        "above": peak - before,
        "held": len(pickle.dumps(samples)),
    }


def epochs_here(folder: Path, way: str) -> dict[str, list[float]]:
    """Images a second of each epoch's input, after one that is not counted."""
    samples, pre = scan(folder), Preprocessing(resolution=56, side=SIDE)
    pixels: Pixels = (
        open_pixels(samples, SIDE)
        if way == "store"
        else StreamedPixels(contents=DecodedImages(index=samples.index, side=SIDE))
    )
    rows = samples.indices("train")
    source = PixelSource(pixels=pixels, indices=rows, labels=samples.labels[rows])
    speeds = []
    for epoch in range(EPOCHS[way] + 1):
        start = time.perf_counter()
        batches = epoch_batches(len(rows), num_batches(len(rows), BATCH), 0, epoch)
        for step, (images, labels) in enumerate(Batches(source, batches)):
            targets = F.one_hot(labels, CLASSES).float()
            augment(images, targets, pre, Augmentation(), key=(0, epoch, step))
        speeds.append(len(rows) / (time.perf_counter() - start))
    return {"speeds": speeds[1:]}


def in_a_process(*arguments: str) -> dict[str, Any]:
    """What this script prints for `arguments`, in a fresh process."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def print_index(folder: Path, largest: int) -> None:
    """The first table; the images stay in `folder` for the second."""
    print("\n| images | as | seconds | images/s | peak | above imports | an image | held |")
    print("|---|---|---|---|---|---|---|---|")
    for size in (size for size in SIZES if size <= largest):
        for form, write in zip(FORMS, (write_files, write_shards), strict=True):
            place = folder / f"{form}-{size}"
            write(place, size)
            found = in_a_process("--scan", str(place))
            peak, above, each, held = (
                f"{found['peak'] / 1e6:.0f} MB",
                f"{found['above'] / 1e6:.0f} MB",
                f"{found['above'] / size:.0f} B",
                f"{found['held'] / size:.0f} B an image",
            )
            speed = f"{found['seconds']:.1f} | {size / found['seconds']:,.0f}"
            print(
                f"| {size:,} | {form} | {speed} | {peak} | {above} | {each} | {held} |", flush=True
            )
            if size > LARGEST_EPOCH:
                shutil.rmtree(place)


def print_epochs(folder: Path, largest: int) -> None:
    """The second table."""
    print("\n| images | input from | images/s (range) | epochs |\n|---|---|---|---|")
    for size in (size for size in SIZES if size <= min(largest, LARGEST_EPOCH)):
        for way in EPOCHS:
            place = str(folder / f"files-{size}")
            speeds = in_a_process("--epochs", place, "--way", way)["speeds"]
            middle, low, high = statistics.median(speeds), min(speeds), max(speeds)
            spread = f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"
            print(f"| {size:,} | {way} | {spread} | {len(speeds)} |", flush=True)


def main() -> None:
    """Print both tables as Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--largest", type=int, default=SIZES[-1])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--scan", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=tuple(EPOCHS), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.scan:
        print(json.dumps(scan_here(asked.scan)))
        return
    if asked.epochs:
        print(json.dumps(epochs_here(asked.epochs, asked.way)))
        return
    here = machine()
    print(
        f"{here.cpu}, {here.cores} cores, {here.system}, torch {here.versions['torch']}; "
        f"{os.cpu_count()} threads decode, 1 augments; load {here.load:.2f}"
    )
    with tempfile.TemporaryDirectory(dir=asked.folder) as temporary:
        os.environ["POCKETVISION_CACHE"] = f"{temporary}/cache"
        print_index(Path(temporary), asked.largest)
        print_epochs(Path(temporary), asked.largest)


if __name__ == "__main__":
    main()
