"""Small pictures of coloured rectangles: with masks for segmentation, with boxes for detection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = ((30, 30, 30), (220, 60, 60), (60, 90, 220))
NAMES = ("ground", "red", "blue")
WIDTH, HEIGHT = 64, 48


def shape_of(seed: int) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int, int, int, int]]]:
    """A picture (H, W, 3), its mask (H, W), and [(class, left, top, right, bottom), ...]."""
    generator = np.random.default_rng(seed)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    boxes = []
    for number, half in ((1, 0), (2, WIDTH // 2)):
        width, height = generator.integers(14, 26, 2)
        left = half + int(generator.integers(0, WIDTH // 2 - width))
        top = int(generator.integers(0, HEIGHT - height))
        mask[top : top + height, left : left + width] = number
        boxes.append((number, left, top, left + int(width), top + int(height)))
    noise = generator.integers(-20, 20, (HEIGHT, WIDTH, 3))
    pixels = np.clip(np.array(COLOURS)[mask] + noise, 0, 255).astype(np.uint8)
    return pixels, mask, boxes


def write_masks(folder: Path, count: int = 40) -> Path:
    """images/ and masks/ with classes.txt."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.txt").write_text("\n".join(NAMES))
    for seed in range(count):
        pixels, mask, _ = shape_of(seed)
        Image.fromarray(pixels).save(folder / "images" / f"{seed}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{seed}.png")
    return folder


def write_boxes(folder: Path, count: int = 40) -> Path:
    """images/ and labels/ in YOLO's form, with classes.txt; the last picture has no objects."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.txt").write_text("\n".join(NAMES[1:]))
    for seed in range(count):
        pixels, _, boxes = shape_of(seed)
        lines = [
            f"{number - 1} {(left + right) / 2 / WIDTH} {(top + bottom) / 2 / HEIGHT} "
            f"{(right - left) / WIDTH} {(bottom - top) / HEIGHT}"
            for number, left, top, right, bottom in boxes
        ]
        if seed == count - 1:
            pixels[:], lines = COLOURS[0], []
        Image.fromarray(pixels).save(folder / "images" / f"{seed}.png")
        (folder / "labels" / f"{seed}.txt").write_text("\n".join(lines))
    return folder
