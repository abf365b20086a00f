"""A look at the network that was just trained: what it gets right, and whether it is well."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from pocketvision.data.images import Samples
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import Pixels
from pocketvision.data.transforms import eval_batch
from pocketvision.fitting.tasks.task import Examination
from pocketvision.measure.accuracy import accuracy
from pocketvision.measure.judge import Answers
from pocketvision.models.answering import answering
from pocketvision.models.arch import Network
from pocketvision.models.detector import Detector
from pocketvision.models.segmenter import Segmenter
from pocketvision.record.scores import Score
from pocketvision.train.alarms import batch_statistics, majority_alarm, norm_alarm
from pocketvision.train.batches import num_batches
from pocketvision.train.config import TrainConfig

TRAINING_IMAGES = 1024  # of them that are looked at, at most
TRAINING_PLACES = 128  # of those whose places are judged, which takes longer


def examine_classifier(
    network: Network, samples: Samples, pixels: Pixels, pre: Preprocessing, config: TrainConfig
) -> Examination:
    """Score a trained network on training images and on val, and look for what is wrong."""
    classes, size = len(samples.classes), config.batch_size
    train = np.random.default_rng(config.seed).permutation(samples.indices("train"))[
        :TRAINING_IMAGES
    ]
    val = samples.indices("val")
    running = _score(named_classes(network.eval(), pixels, train, pre, size), samples.labels[train])
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


def examine_places(
    network: Segmenter | Detector,
    samples: Samples,
    pixels: Pixels,
    pre: Preprocessing,
    config: TrainConfig,
    score: Callable[[np.ndarray, Answers], Score],
) -> Examination:
    """The same of a network that tells places. score: of its answers for (n,) rows."""

    def scored(asked: nn.Module, rows: np.ndarray) -> Score:
        parts = np.array_split(rows, num_batches(len(rows), config.batch_size))
        with torch.inference_mode():
            answers = [
                asked(eval_batch(torch.from_numpy(batch), pre))[-1].numpy()
                for batch in pixels.batches(parts)
            ]
        return score(rows, np.concatenate(answers))

    generator = np.random.default_rng(config.seed)
    train = generator.permutation(samples.telling(samples.indices("train")))[:TRAINING_PLACES]
    running = scored(answering(network.eval()), train)
    alarm = norm_alarm(running, scored(batch_statistics(answering(network)), train))
    return Examination(
        alarms=() if alarm is None else (alarm,),
        train_score=running,
        val_score=scored(answering(network), samples.indices("val")),
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
