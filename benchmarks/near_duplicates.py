"""How many copies of photos the doctor finds, what it takes for one wrongly, and how fast it is.

    python benchmarks/near_duplicates.py photos/ --photos 500 --sheet pairs.png

- Found: changed copies of photos of the folder, by the hash alone (within NEAR bits) and in both
  steps (hash, then likeness of detail). The changes are made here; the photos are drawn at random.
- Pairs in the folder as it is: those with similar hashes, and those that also have like detail. A
  photo has few true copies, so most of the first are false; --sheet draws up to 120 of the second,
  drawn at random, to be looked at.
- Search: seconds for all near pairs among hashes drawn at random.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageEnhance

from pocketvision.data.copies import find_copies
from pocketvision.data.index import Index, read_index
from pocketvision.data.looks import (
    ALIKE,
    NEAR,
    SIDE,
    Looks,
    Views,
    likeness,
    look_of,
    near_pairs,
    views_of,
)
from pocketvision.data.pixels import decode, open_image
from pocketvision.measure.device import machine

MOST = 10**7
DRAWN, COLUMNS, CELL = 120, 10, 72  # pairs on the sheet, pairs in a row, pixels
SIZES, TURNS = (1_000, 10_000, 100_000, 1_000_000), 3

Change = Callable[[Image.Image], Image.Image]


def resized(image: Image.Image, width: float, height: float) -> Image.Image:
    """Bicubic, to shares of the size."""
    size = (round(image.width * width), round(image.height * height))
    return image.resize(size, Image.Resampling.BICUBIC)


def cropped(image: Image.Image, share: float) -> Image.Image:
    """Without this share of each side."""
    dx, dy = round(image.width * share), round(image.height * share)
    return image.crop((dx, dy, image.width - dx, image.height - dy))


CHANGES: dict[str, Change] = {
    "JPEG, quality 40": lambda image: image,
    "half as large": lambda image: resized(image, 0.5, 0.5),
    "twice as large": lambda image: resized(image, 2, 2),
    "squeezed to 3/4 of the width": lambda image: resized(image, 0.75, 1),
    "brightness x1.3": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "contrast x0.7": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "grey": lambda image: image.convert("L"),
    "2 % cut off each side": lambda image: cropped(image, 0.02),
    "3 % cut off each side": lambda image: cropped(image, 0.03),
    "5 % cut off each side": lambda image: cropped(image, 0.05),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def seen(data: bytes) -> tuple[int, Views]:
    """Hash of an image file, and what is compared."""
    with open_image(BytesIO(data)) as image:
        small = decode(image, SIDE // 2)
    return look_of(small), views_of(small)


def copy_of(data: bytes, change: Change) -> bytes:
    """A changed copy as a JPEG file of quality 40 or, where something else changed, 75."""
    file = BytesIO()
    with Image.open(BytesIO(data)) as image:
        quality = 40 if change is CHANGES["JPEG, quality 40"] else 75
        change(image.convert("RGB")).save(file, "JPEG", quality=quality)
    return file.getvalue()


def print_found(index: Index, rows: list[int]) -> None:
    """A row for every kind of change."""
    print(f"\n| change, n = {len(rows)} | near hash | and like detail | bits, median and p95 |")
    print("|---|---:|---:|---:|")
    originals = [index.read(row) for row in rows]
    for name, change in CHANGES.items():
        near = both = 0
        distances = []
        for data in originals:
            (look, views), (other, other_views) = seen(data), seen(copy_of(data, change))
            distances.append((look ^ other).bit_count())
            if look and other and distances[-1] <= NEAR:
                near += 1
                both += likeness(views, other_views) >= ALIKE
        bits = f"{statistics.median(distances):g}, {np.percentile(distances, 95):g}"
        print(f"| {name} | {near / len(rows):.1%} | {both / len(rows):.1%} | {bits} |", flush=True)


def print_pairs(index: Index, sheet: Path | None) -> None:
    """Pairs of the folder as it is."""
    start = time.perf_counter()
    candidates = near_pairs(index.looks, at_most=MOST)
    searched = time.perf_counter() - start
    start = time.perf_counter()
    copies = find_copies(index)
    found = time.perf_counter() - start
    without = int((index.looks == 0).sum())
    print(
        f"\n{len(index):,} photos ({without:,} show too little to be compared): "
        f"{len(candidates):,} pairs with near hashes (found in {searched:.2f} s); of "
        f"different files {len(copies.near):,} have like detail too (all in {found:.2f} s)"
    )
    if sheet is not None and len(copies.near):
        order = np.random.default_rng(0).permutation(len(copies.near))[:DRAWN]
        pairs = [(copies.rows(a)[0], copies.rows(b)[0]) for a, b in copies.near[order].tolist()]
        draw(index, [(int(a), int(b)) for a, b in pairs], sheet)
        print(f"{len(pairs)} of them drawn at random: {sheet}")


def draw(index: Index, pairs: list[tuple[int, int]], file: Path) -> None:
    """A sheet of pairs side by side."""
    height = -(-len(pairs) // COLUMNS) * (CELL + 8)
    sheet = Image.new("RGB", (COLUMNS * (2 * CELL + 12), height), "white")
    for place, pair in enumerate(pairs):
        left, top = place % COLUMNS * (2 * CELL + 12), place // COLUMNS * (CELL + 8)
        for side, row in enumerate(pair):
            with Image.open(BytesIO(index.read(row))) as image:
                sheet.paste(image.convert("RGB").resize((CELL, CELL)), (left + side * CELL, top))
    sheet.save(file)


def print_search() -> None:
    """Seconds for hashes drawn at random, of which 1 in 100 is a changed copy of another."""
    print(f"\n| hashes | seconds (range, n = {TURNS}) | pairs |")
    print("|---:|---:|---:|")
    for size in SIZES:
        looks = random_looks(size)
        times = []
        for _ in range(TURNS):
            start = time.perf_counter()
            pairs = near_pairs(looks, at_most=MOST)
            times.append(time.perf_counter() - start)
        spread = f"{statistics.median(times):.3g} ({min(times):.3g} to {max(times):.3g})"
        print(f"| {size:,} | {spread} | {len(pairs):,} |", flush=True)


def random_looks(size: int) -> Looks:
    """Hashes of which the first hundredth are 4 bits away from the second."""
    generator = np.random.default_rng(0)
    looks = generator.integers(1, 2**64 - 1, size, dtype=np.uint64)
    copies = size // 100
    looks[:copies] = looks[copies : 2 * copies] ^ np.uint64(0x1000_0200_0040_0008)
    return looks


def main(folder: Path, photos: int, sheet: Path | None) -> None:
    """Print the tables as Markdown."""
    here = machine()
    index = read_index(folder)
    print(
        f"{here.cpu}, {here.cores} cores, {here.system}, numpy {np.__version__}, Pillow "
        f"{PIL.__version__}, load {here.load:.2f}; {folder.name}"
    )
    rows = np.random.default_rng(0).permutation(len(index))[:photos].tolist()
    print_found(index, rows)
    print_pairs(index, sheet)
    print_search()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Near duplicates: found, false, seconds.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--sheet", type=Path, help="picture of the pairs found, to be looked at")
    options = parser.parse_args()
    main(options.folder, options.photos, options.sheet)
