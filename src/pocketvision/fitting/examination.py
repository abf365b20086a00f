"""A look at the network that was just trained: what it gets right, and whether it is well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import Pixels
from pocketvision.data.transforms import eval_batch
from pocketvision.fitting.run import Run
from pocketvision.measure.accuracy import accuracy
from pocketvision.models.arch import Network
from pocketvision.record import Finding, Score
from pocketvision.train.alarms import batch_statistics, majority_alarm, norm_alarm
from pocketvision.train.batches import num_batches

TRAINING_IMAGES = 1024  # of them that are looked at, at most


@dataclass(frozen=True, kw_only=True, slots=True)
class Examination:
    """train_score, val_score: of the network as it ships, without augmentation."""

    alarms: tuple[Finding, ...]
    train_score: Score
    val_score: Score


def examine(run: Run, network: Network, pre: Preprocessing, pixels: Pixels) -> Examination:
    """Score a trained network on training images and on val, and look for what is wrong."""
    samples, classes = run.samples, len(run.samples.classes)
    generator = np.random.default_rng(run.config.seed)
    train = generator.permutation(samples.indices("train"))[:TRAINING_IMAGES]
    val = samples.indices("val")
    size = run.config.batch_size
    with run.reporter.progress("Looking at what was learned"):
        running = _score(
            named_classes(network.eval(), pixels, train, pre, size), samples.labels[train]
        )
        twin = batch_statistics(network)
        batch = _score(named_classes(twin, pixels, train, pre, size), samples.labels[train])
        named = named_classes(network, pixels, val, pre, size)
    majority = majority_alarm(
        np.bincount(named, minlength=classes).tolist(),
        np.bincount(samples.labels[val], minlength=classes).tolist(),
        samples.classes,
    )
    return Examination(
        alarms=tuple(alarm for alarm in (norm_alarm(running, batch), majority) if alarm),
        train_score=running,
        val_score=_score(named, samples.labels[val]),
    )


def named_classes(
    network: nn.Module, pixels: Pixels, rows: np.ndarray, pre: Preprocessing, batch_size: int
) -> np.ndarray:
    """(n,) int64, the class that is named for each row, in batches of nearly one size."""
    named = []
    with torch.inference_mode():
        # Not one of them is alone, where it can be: it has no statistics for a batch norm.
        parts = np.array_split(rows, num_batches(len(rows), batch_size))
        for batch in pixels.batches(parts):
            logits = network(eval_batch(torch.from_numpy(batch), pre))
            named.append(logits.argmax(1).numpy())
    return np.concatenate(named)


def _score(named: np.ndarray, labels: np.ndarray) -> Score:
    return accuracy(int((named == labels).sum()), len(labels))
