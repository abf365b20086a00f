"""A run of the main job that is small enough for a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pocketvision.budget import Budget
from pocketvision.fitting.config import FitConfig
from pocketvision.progress import Advance

# Two networks whose training takes no second; generous, so that noise cannot fail the gates.
QUICK = FitConfig(
    data="",
    budget=Budget(latency_ms=200, size_bytes=2_000_000),
    models=("mobilenet_v1",),
    widths=(0.25,),
    resolutions=(32,),
    runtimes=("onnxruntime",),
    max_drop_points=100,
    epochs=6,
    batch_size=16,
)
LEARNED = replace(QUICK, epochs=40)  # knows the two classes of `write_photos` apart


class Told:
    """A reporter that remembers what was said."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)

    @contextmanager
    def progress(self, title: str) -> Iterator[Advance]:
        self.sentences.append(title)
        yield lambda done, total, note: None


def write_photos(folder: Path, per_class: int = 40) -> Path:
    """Two classes of distinct 24x30 pictures: dark above, and dark below."""
    generator = np.random.default_rng(0)
    for label, name in enumerate(("dark <b>above", "dark below")):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = generator.integers(0, 80, (30, 24, 3))
            half = slice(15, 30) if label == 0 else slice(0, 15)
            pixels[half] += 160
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(folder / name / f"{number:03}.png")
    return folder
