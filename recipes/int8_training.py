"""Networks of the INT8 recipes: trained once from new weights, and kept."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pocketvision.budget import format_time
from pocketvision.data.images import scan
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import open_pixels
from pocketvision.models import registry
from pocketvision.models.weights import save
from pocketvision.train.batches import training_sources
from pocketvision.train.classify import Classification
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.trainer import fit


@dataclass(frozen=True, slots=True)
class Training:
    """How large images are, and how often they are seen."""

    resolution: int
    epochs: int


def trained(name: str, training: Training, data: Path, work: Path, threads: int) -> Path:
    """The folder of a trained network; one that is there is taken as it is."""
    side, epochs = training.resolution, training.epochs
    folder = work / f"{name}-{epochs}"
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "network.json").exists():
        return folder
    samples = scan(data)
    pre = Preprocessing(resolution=side, side=side)
    pixels = open_pixels(samples, side)
    train_source, val_source = training_sources(samples, pixels)
    network = registry.spec(name, resolution=side, num_classes=len(samples.classes)).build(0)
    began = time.monotonic()

    def on_step(done: int, total: int, note: str) -> None:
        if done % 100 == 0:
            left = (time.monotonic() - began) / max(done, 1) * (total - done)
            print(f"{name}: {note}, about {format_time(left)} left", file=sys.stderr)

    config = TrainConfig(
        epochs=epochs, warmup_epochs=min(2.0, epochs / 4), accelerator="cpu", threads=threads
    )
    course = Course(train=train_source, val=val_source, preprocessing=pre, config=config)
    fit(Classification(network, course), folder=folder / "training", on_step=on_step)
    save(network, folder, classes=samples.classes, preprocessing=pre)
    return folder
