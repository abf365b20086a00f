"""Classification as a Lightning module: augment, forward, smoothed cross-entropy, top-1."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import PixelsInMemory
from pocketvision.data.transforms import augment, eval_batch
from pocketvision.models.arch import Network
from pocketvision.models.networks import AnyNetwork
from pocketvision.record.words import Metric
from pocketvision.train.alarms import check_loss
from pocketvision.train.batches import PixelSource
from pocketvision.train.brief import expected_accuracy
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.module import Key, TaskModule


class Classification(TaskModule):
    """Learns the class of every image; scored by top-1."""

    metric: Metric = "top-1"
    network: Network

    def __init__(self, network: Network, course: Course[PixelSource]) -> None:
        super().__init__(network, course)
        self.num_classes = network.spec.num_classes
        weights = None
        if course.config.class_weights:
            weights = class_weights(course.train.labels, self.num_classes)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) float -> (N, K) logits."""
        logits: Tensor = self.network(images)
        return logits

    def step_loss(self, batch: tuple[Tensor, Tensor], key: Key) -> Tensor:
        pixels, labels = batch
        images, targets = augment(
            pixels,
            F.one_hot(labels, self.num_classes).float(),
            self.preprocessing,
            self.config.augmentation,
            key=key,
        )
        return self.batch_loss(images, targets)

    def batch_loss(self, images: Tensor, targets: Tensor) -> Tensor:
        """What a step makes smaller, of (N, C, H, W) images and (N, K) target probabilities."""
        logits = self(images)
        return self.taught(self.loss(logits, targets), images, logits)

    def score_of(self, network: AnyNetwork) -> float:
        right = 0
        for pixels, labels in self.val_dataloader():
            images = eval_batch(pixels.to(self.device), self.preprocessing)
            right += int((network(images).argmax(1).cpu() == labels).sum())
        return right / len(self.val_source)

    def expected_score(self) -> float:
        val = cast(PixelSource, self.val_source)
        return expected_accuracy(self.network, val, self.preprocessing, self.config.threads)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean smoothed cross-entropy of (N, K) logits and (N, K) target probabilities."""
        weight = self.weights if isinstance(self.weights, Tensor) else None
        smoothing = self.config.label_smoothing
        return F.cross_entropy(logits.float(), targets, weight=weight, label_smoothing=smoothing)

    def check_loss(self, loss: float, where: str) -> None:
        """Raises: Diverged: a mean `loss` of training that cannot be right."""
        heaviest = self.weights.max().item() if isinstance(self.weights, Tensor) else 1.0
        check_loss(loss, self.num_classes, heaviest, where)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        pixels, labels = batch
        logits = self(eval_batch(pixels, self.preprocessing)).float()
        right = (logits.argmax(1) == labels).float().mean()
        for name, value in (("val_loss", F.cross_entropy(logits, labels)), ("val_score", right)):
            self.log(name, value, on_epoch=True, batch_size=len(labels), sync_dist=True)


def rehearsal(
    network: Network, preprocessing: Preprocessing, config: TrainConfig, images: int
) -> Classification:
    """A training on noise, whose steps take as long as those on so many images."""
    generator, side = np.random.default_rng(0), preprocessing.side
    count = min(config.batch_size, images)
    noise = PixelSource(
        pixels=PixelsInMemory(
            rows=generator.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        ),
        indices=np.arange(count),
        labels=generator.integers(0, network.spec.num_classes, count),
    )
    course = Course(train=noise, val=noise, preprocessing=preprocessing, config=config)
    return Classification(network, course)


def class_weights(labels: Any, num_classes: int) -> Tensor:
    """Inverse class frequencies, (K,) float, scaled so that the mean over the images is 1."""
    counts = torch.bincount(torch.as_tensor(labels), minlength=num_classes).clamp(min=1)
    return counts.sum() / (counts * len(counts))
