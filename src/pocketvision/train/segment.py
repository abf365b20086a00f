"""Segmentation as a Lightning module: augment, forward, smoothed cross-entropy by pixel, mIoU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pocketvision.data.masks.mask import VOID
from pocketvision.data.places import seen_masks
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import Pixels, PixelsInMemory
from pocketvision.data.transforms import augmented, eval_batch
from pocketvision.models.networks import AnyNetwork
from pocketvision.models.segmenter import Segmenter
from pocketvision.record.words import Metric
from pocketvision.train.alarms import check_loss
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.module import Key, TaskModule
from pocketvision.train.threads import cpu_threads


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskSource:
    """Some images of a data set with their masks; it can be sent to another process.

    masks: of all images, (side, side) uint8 each. indices: (n,) int64, rows of both.
    class_pixels: (n, K) int64, pixels of each class in each of these images.
    """

    pixels: Pixels
    masks: Pixels
    indices: np.ndarray
    class_pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def batches(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        """(n, side, side, 3) and (n, side, side) uint8 of each."""
        rows = [self.indices[positions] for positions in batches]
        pairs = zip(self.pixels.batches(rows), self.masks.batches(rows), strict=True)
        for pixels, masks in pairs:
            yield torch.from_numpy(pixels), torch.from_numpy(masks)

    def part(self, positions: np.ndarray) -> MaskSource:
        """The images at some positions, ascending."""
        indices, class_pixels = self.indices[positions], self.class_pixels[positions]
        return replace(self, indices=indices, class_pixels=class_pixels)


class Segmentation(TaskModule):
    """Learns the class of every pixel; scored by mIoU at the network's resolution.

    Pixels without a class teach nothing. class_weights of the configuration: by inverse share of
    the pixels.
    """

    metric: Metric = "mIoU"
    network: Segmenter

    def __init__(self, network: Segmenter, course: Course[MaskSource]) -> None:
        super().__init__(network, course)
        self.num_classes = network.spec.num_classes
        weights = None
        if course.config.class_weights:
            weights = pixel_weights(course.train.class_pixels)
        self.register_buffer("weights", weights, persistent=False)
        self.counts = torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) float -> (N, K, H, W) logits."""
        logits: Tensor = self.network(images)
        return logits

    def step_loss(self, batch: tuple[Tensor, Tensor], key: Key) -> Tensor:
        pixels, masks = batch
        generator = np.random.default_rng(key)
        images, views = augmented(pixels, self.preprocessing, self.config.augmentation, generator)
        truth = seen_masks(masks, views, self.preprocessing.resolution)
        logits = self(images)
        loss = self.loss(logits, truth, self.config.label_smoothing)
        return self.taught(loss, images, logits)

    def loss(self, logits: Tensor, truth: Tensor, smoothing: float) -> Tensor:
        """Mean cross-entropy of (N, K, H, W) logits over the pixels that have a class; 0 of none.

        truth: (N, H, W) uint8. A weight is of the pixels of a class, smoothed or not: handed to
        `cross_entropy` it would also scale that class's share of the smoothing in every pixel, by
        which a class of few pixels, or of none, would outweigh all that is there.
        """
        known = truth != VOID
        each = F.cross_entropy(
            logits.float(),
            truth.long(),
            ignore_index=VOID,
            label_smoothing=smoothing,
            reduction="none",
        )
        if isinstance(self.weights, Tensor):
            each = each * self.weights[truth.where(known, 0).long()]
        return each.sum() / known.sum().clamp(min=1)

    def check_loss(self, loss: float, where: str) -> None:
        """Raises: Diverged: a mean `loss` of training that cannot be right."""
        heaviest = self.weights.max().item() if isinstance(self.weights, Tensor) else 1.0
        check_loss(loss, self.num_classes, heaviest, where)

    def on_validation_epoch_start(self) -> None:
        self.counts = torch.zeros_like(self.counts, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        pixels, truth = batch
        logits = self(eval_batch(pixels, self.preprocessing))
        loss = self.loss(logits, truth, 0.0)
        self.log("val_loss", loss, on_epoch=True, batch_size=len(truth), sync_dist=True)
        self.counts += self.counted(logits, truth)

    def counted(self, logits: Tensor, truth: Tensor) -> Tensor:
        """(K, K) int64: pixels of each class (row) that were taken for each (column)."""
        known = truth != VOID
        pairs = truth[known].long() * self.num_classes + logits.argmax(1)[known]
        return torch.bincount(pairs, minlength=self.counts.numel()).view_as(self.counts)

    def on_validation_epoch_end(self) -> None:
        self.log("val_score", mean_iou(self.counts).float(), sync_dist=True)

    def score_of(self, network: AnyNetwork) -> float:
        counts = torch.zeros_like(self.counts, device=self.device)
        for batch in self.val_dataloader():
            pixels, truth = (part.to(self.device) for part in batch)
            counts += self.counted(network(eval_batch(pixels, self.preprocessing)), truth)
        return mean_iou(counts).item()

    @torch.inference_mode()
    def expected_score(self) -> float:
        """As mIoU over the classes that val has, with chances in the place of decisions."""
        counts = torch.zeros(self.num_classes, self.num_classes, dtype=torch.float64)
        with cpu_threads(self.config.threads):
            for pixels, truth in self.val_dataloader():
                known = truth != VOID
                chances = self(eval_batch(pixels, self.preprocessing)).softmax(1)
                counts.index_add_(0, truth[known].long(), chances.movedim(1, -1)[known].double())
        ious = ious_of(counts)[counts.sum(1) > 0]
        return ious.mean().item() if len(ious) else 0.0


def ious_of(counts: Tensor) -> Tensor:
    """(K,), of (K, K) pixels by class and by what they were taken for; NaN where there are none."""
    right = counts.diagonal()
    return right / (counts.sum(0) + counts.sum(1) - right)


def mean_iou(counts: Tensor) -> Tensor:
    """Over the classes that any pixel is of or was taken for; 0 if there is none."""
    ious = ious_of(counts)
    known = ious[~ious.isnan()]
    return known.mean() if len(known) else torch.zeros((), device=counts.device)


def pixel_weights(class_pixels: np.ndarray) -> Tensor:
    """Inverse shares of the pixels, (K,) float, scaled so that the mean over the pixels is 1.

    class_pixels: (n, K), of each image.
    A class without pixels weighs 0: there is nothing of it to be weighed.
    """
    counts = torch.from_numpy(class_pixels).double().sum(0)
    there = counts > 0
    weights = counts.sum() / (counts.clamp(min=1) * there.sum())
    return (weights * there).float()


def rehearsal(
    network: Segmenter, preprocessing: Preprocessing, config: TrainConfig, images: int
) -> Segmentation:
    """A training on noise, whose steps take as long as those on so many images."""
    generator, side = np.random.default_rng(0), preprocessing.side
    count, classes = min(config.batch_size, images), network.spec.num_classes
    pixels = generator.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    masks = generator.integers(0, classes, (count, side, side), dtype=np.uint8)
    noise = MaskSource(
        pixels=PixelsInMemory(rows=pixels),
        masks=PixelsInMemory(rows=masks),
        indices=np.arange(count),
        class_pixels=np.stack([np.bincount(mask.ravel(), minlength=classes) for mask in masks]),
    )
    course = Course(train=noise, val=noise, preprocessing=preprocessing, config=config)
    return Segmentation(network, course)
