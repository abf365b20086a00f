"""Detection as a Lightning module: augment, forward, multibox loss, mAP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pocketvision.boxes import Detections, Objects, Selection, select
from pocketvision.data.places import seen_objects
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import Pixels, PixelsInMemory
from pocketvision.data.transforms import augmented, eval_batch
from pocketvision.models.detector import Detector, decoded
from pocketvision.models.networks import AnyNetwork
from pocketvision.record.words import Metric
from pocketvision.train.alarms import check_loss
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.distillation import divergence_of_objects
from pocketvision.train.module import Key, TaskModule
from pocketvision.train.multibox import multibox_loss, targets_of
from pocketvision.train.threads import cpu_threads

# Fewer boxes than an evaluation looks at: they are selected after every epoch.
WHILE_TRAINING = Selection(least=0.02, candidates=100, most=100)
HEAVIEST = 4.0  # a positive anchor brings three negatives and a box

Judged = Callable[[Sequence[Detections]], float]  # mAP of what was found in all images of val


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectSource:
    """Some images of a data set with their objects; it can be sent to another process.

    objects: of all images. indices: (n,) int64, rows of both.
    """

    pixels: Pixels
    objects: Objects
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def batches(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Objects]]:
        """(n, side, side, 3) uint8 and the objects of each."""
        rows = [self.indices[positions] for positions in batches]
        for chosen, pixels in zip(rows, self.pixels.batches(rows), strict=True):
            yield torch.from_numpy(pixels), self.objects.take(chosen)

    def part(self, positions: np.ndarray) -> ObjectSource:
        """The images at some positions, ascending."""
        return replace(self, indices=self.indices[positions])


class Detection(TaskModule):
    """Learns where objects are, and their classes; scored by COCO's mAP.

    judged: scores what was found in the images of val, in their order.
    """

    metric: Metric = "mAP"
    divergence = staticmethod(divergence_of_objects)
    network: Detector
    anchors: Tensor

    def __init__(self, network: Detector, course: Course[ObjectSource], *, judged: Judged) -> None:
        super().__init__(network, course)
        self.judged = judged
        self.register_buffer("anchors", network.spec.anchors(), persistent=False)
        self.found: list[Detections] = []

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) float -> (N, M, K + 1) logits and (N, M, 4) codes."""
        found: tuple[Tensor, Tensor] = self.network(images)
        return found

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        pixels, objects = batch  # objects are arrays: targets are made of them on the device
        return pixels.to(device), objects

    def step_loss(self, batch: tuple[Tensor, Objects], key: Key) -> Tensor:
        pixels, objects = batch
        generator = np.random.default_rng(key)
        images, views = augmented(pixels, self.preprocessing, self.config.augmentation, generator)
        answers = self(images)
        loss = self.loss(answers, seen_objects(objects, views, self.preprocessing.side))
        return self.taught(loss, images, answers)

    def loss(self, answers: tuple[Tensor, Tensor], objects: Objects) -> Tensor:
        """Classification and localisation, added, of what `forward` gives."""
        logits, codes = answers
        targets = targets_of(objects, self.anchors)
        classification, localisation = multibox_loss(logits.float(), codes.float(), targets)
        return classification + localisation

    def check_loss(self, loss: float, where: str) -> None:
        """Raises: Diverged: a mean `loss` of training that cannot be right."""
        check_loss(loss, self.network.spec.num_classes, HEAVIEST, where)

    def on_validation_epoch_start(self) -> None:
        self.found = []

    def validation_step(self, batch: tuple[Tensor, Objects], index: int) -> None:
        pixels, objects = batch
        logits, codes = self(eval_batch(pixels, self.preprocessing))
        loss = self.loss((logits, codes), objects)
        self.log("val_loss", loss, on_epoch=True, batch_size=len(pixels), sync_dist=True)
        self.found += self.selected(logits, codes)

    def selected(self, logits: Tensor, codes: Tensor) -> list[Detections]:
        """The boxes of each image that stay."""
        boxes = decoded(codes.float(), self.anchors).cpu().numpy()
        scores = logits.float().softmax(2).cpu().numpy()
        return [select(*one, WHILE_TRAINING) for one in zip(boxes, scores, strict=True)]

    def on_validation_epoch_end(self) -> None:
        score = torch.tensor(self.judged(self.found), dtype=torch.float32, device=self.device)
        self.log("val_score", score, sync_dist=True)
        self.found = []

    def score_of(self, network: AnyNetwork) -> float:
        found: list[Detections] = []
        for pixels, _ in self.val_dataloader():
            images = eval_batch(pixels.to(self.device), self.preprocessing)
            found += self.selected(*network(images))
        return self.judged(found)

    @torch.inference_mode()
    def expected_score(self) -> float:
        """mAP: the order of all boxes by their scores moves it, not only what passes a bound."""
        with cpu_threads(self.config.threads):
            return self.score_of(self.network)


def rehearsal(
    network: Detector, preprocessing: Preprocessing, config: TrainConfig, images: int
) -> Detection:
    """A training on noise, whose steps take as long as those on so many images."""
    generator, side = np.random.default_rng(0), preprocessing.side
    count = min(config.batch_size, images)
    corners = generator.uniform(0, 0.5, (4 * count, 2))
    objects = Objects(
        boxes=np.concatenate([corners, corners + 0.4], axis=1).astype(np.float32),
        labels=generator.integers(0, network.spec.num_classes - 1, 4 * count).astype(np.int32),
        ignored=np.zeros(4 * count, bool),
        starts=np.arange(0, 4 * count + 1, 4),
    )
    noise = ObjectSource(
        pixels=PixelsInMemory(
            rows=generator.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        ),
        objects=objects,
        indices=np.arange(count),
    )
    course = Course(train=noise, val=noise, preprocessing=preprocessing, config=config)
    return Detection(network, course, judged=lambda found: 0.0)
