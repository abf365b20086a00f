"""What a training step on a scene looks at: crops with all their labelled pixels, or windows.

Every draw depends on (seed, step) alone, so a training that goes on sees what it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketvision.errors import DataError, check_shape
from pocketvision.train.batches import epoch_batches, num_batches

MAX_LABELLED = 1024  # pixels a step learns from: a window of each is in memory


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SceneSource:
    """A scene ready to be trained on.

    bands: float32 (H, W, n), reduced; may be memory-mapped. targets: int64 (H, W), the class of
    training pixels, -1 elsewhere.

    Raises: ConfigError: shapes that differ. DataError: no training pixel.
    """

    bands: NDArray[np.float32]
    targets: NDArray[np.int64]

    def __post_init__(self) -> None:
        check_shape("targets", self.targets.shape, self.bands.shape[:2])
        if not (self.targets >= 0).any():
            raise DataError("the scene has no training pixels; label some, or change the split.")

    def cut(self, top: int, left: int, height: int, width: int) -> NDArray[np.float32]:
        """(height, width, n) from there on; zeros beyond the scene."""
        rows, columns, count = self.bands.shape
        out = np.zeros((height, width, count), np.float32)
        first_row, end_row = max(top, 0), min(top + height, rows)
        first_column, end_column = max(left, 0), min(left + width, columns)
        if first_row < end_row and first_column < end_column:
            inside = self.bands[first_row:end_row, first_column:end_column]
            out[first_row - top : end_row - top, first_column - left : end_column - left] = inside
        return out


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SceneBatch:
    """images: float32 (N, n, h, w). places: int64 (m, 3), as `models.dense.logits_at` takes them;
    None where each image is one window. targets: int64 (m,)."""

    images: Tensor
    places: Tensor | None
    targets: Tensor


class Sampler(Protocol):
    """Draws the batch of a step."""

    def draw(self, step: int) -> SceneBatch: ...


class CropSampler:
    """Square crops around training pixels; all training pixels within are learned from.

    The class of the pixel that a crop is drawn around is uniform over the classes, so that rare
    ones are seen as often; its place in the crop is random. Crops are turned and mirrored.
    side: of the output, in pixels; the input is a window larger.
    """

    def __init__(
        self, source: SceneSource, *, window: int, side: int, crops: int, seed: int
    ) -> None:
        self.source, self.window, self.crops, self.seed = source, window, crops, seed
        self.height = min(side, source.targets.shape[0])
        self.width = min(side, source.targets.shape[1])
        self.places = _places_by_class(source.targets)

    def draw(self, step: int) -> SceneBatch:
        generator = np.random.default_rng((self.seed, step))
        images, places, targets = [], [], []
        for number in range(self.crops):
            top, left = self._corner(generator)
            half, extra = self.window // 2, self.window - 1
            height, width = self.height + extra, self.width + extra
            image = self.source.cut(top - half, left - half, height, width)
            target = self.source.targets[top : top + self.height, left : left + self.width]
            image, target = _turn(image, target, generator)
            rows, columns = np.nonzero(target >= 0)
            images.append(image)
            places.append(np.stack([np.full_like(rows, number), rows, columns], axis=1))
            targets.append(target[rows, columns])
        place, target = np.concatenate(places), np.concatenate(targets)
        if len(target) > MAX_LABELLED:
            kept = np.sort(generator.permutation(len(target))[:MAX_LABELLED])
            place, target = place[kept], target[kept]
        return SceneBatch(
            images=_channels_first(np.stack(images)),
            places=torch.from_numpy(place),
            targets=torch.from_numpy(target),
        )

    def _corner(self, generator: np.random.Generator) -> tuple[int, int]:
        candidates = self.places[generator.integers(len(self.places))]
        row, column = candidates[generator.integers(len(candidates))]
        rows, columns = self.source.targets.shape
        top = int(np.clip(row - generator.integers(self.height), 0, rows - self.height))
        left = int(np.clip(column - generator.integers(self.width), 0, columns - self.width))
        return top, left


class WindowSampler:
    """One turned or mirrored window for each training pixel, in epochs: the papers' way.

    Every epoch shows every pixel once. batch_size: at most, if it can be; the batches of an epoch
    differ by one window at most, so that none is an odd remainder.
    """

    def __init__(self, source: SceneSource, *, window: int, batch_size: int, seed: int) -> None:
        self.source, self.window, self.seed = source, window, seed
        self.places = np.argwhere(source.targets >= 0)
        self.per_epoch = num_batches(len(self.places), batch_size)

    def draw(self, step: int) -> SceneBatch:
        epoch, number = divmod(step, self.per_epoch)
        batches = epoch_batches(len(self.places), self.per_epoch, self.seed, epoch)
        chosen = self.places[batches[number]]
        generator = np.random.default_rng((self.seed, step, 1))
        half, side = self.window // 2, self.window
        images = []
        for row, column in chosen:
            window = self.source.cut(row - half, column - half, side, side)
            images.append(_turn(window, self.source.targets[:1, :1], generator)[0])
        targets = self.source.targets[chosen[:, 0], chosen[:, 1]]
        return SceneBatch(
            images=_channels_first(np.stack(images)), places=None, targets=torch.from_numpy(targets)
        )


def _places_by_class(targets: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [np.argwhere(targets == k) for k in np.unique(targets[targets >= 0])]


def _turn(
    image: NDArray[np.float32], target: NDArray[np.int64], generator: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Both turned by the same quarters and mirrored alike; oblongs only by halves."""
    turns, mirrored = int(generator.integers(4)), bool(generator.integers(2))
    if image.shape[0] != image.shape[1]:
        turns -= turns % 2
    image, target = np.rot90(image, turns), np.rot90(target, turns)
    return (image[::-1], target[::-1]) if mirrored else (image, target)


def _channels_first(images: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
