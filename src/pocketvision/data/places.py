"""What augmentation does to masks and objects: they go where the pixels go."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pocketvision.boxes import Boxes, Objects, areas
from pocketvision.data.transforms import Views
from pocketvision.errors import check_shape

LEAST_SEEN = 0.4  # of an object's area; with less it is there, but cannot be asked for


def seen_masks(masks: Tensor, views: Views, resolution: int) -> Tensor:
    """The classes of the pixels of a batch of views, each the nearest of its mask.

    Shape: (N, side, side) uint8 -> (N, resolution, resolution) uint8.
    Raises: ConfigError: another number of masks than of views.
    """
    check_shape("masks", masks.shape, (len(views.boxes), None, None))
    seen = []
    for mask, (top, left, height, width), mirrored in zip(
        masks, views.boxes, views.mirrored, strict=True
    ):
        rows, columns = _nearest(top, height, resolution), _nearest(left, width, resolution)
        if mirrored:
            columns = columns.flip(0)
        seen.append(mask[rows.to(mask.device)[:, None], columns.to(mask.device)])
    return torch.stack(seen)


def _nearest(start: int, length: int, resolution: int) -> Tensor:
    """The pixel at the centre of each of `resolution` equal parts of a stretch of pixels."""
    centres = (torch.arange(resolution, dtype=torch.float64) + 0.5) * length / resolution
    return start + centres.long().clamp(max=length - 1)


def seen_objects(objects: Objects, views: Views, side: int) -> Objects:
    """The objects of a batch of views, clipped to them; what lies outside is left out.

    An object of which less than 40 % is seen is ignored. side: of the images, in pixels.
    Raises: ConfigError: another number of images than of views.
    """
    check_shape("objects", (len(objects),), (len(views.boxes),))
    parts = [
        _seen_in(objects.of(row), np.array(box, np.float32) / side, mirrored)
        for row, (box, mirrored) in enumerate(zip(views.boxes, views.mirrored, strict=True))
    ]
    return Objects.joined(parts)


def _seen_in(objects: Objects, view: np.ndarray, mirrored: bool) -> Objects:
    """Of one image. view: (4,) top, left, height, width, in fractions of it."""
    top, left, height, width = view.tolist()
    origin = np.array([left, top, left, top], np.float32)
    extent = np.array([width, height, width, height], np.float32)
    whole: Boxes = ((objects.boxes - origin) / extent).astype(np.float32)
    boxes = np.clip(whole, 0, 1)
    share = areas(boxes) / np.maximum(areas(whole), np.finfo(np.float32).tiny)
    if mirrored:
        boxes = np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], axis=1)
    kept = areas(boxes) > 0
    return Objects(
        boxes=boxes[kept],
        labels=objects.labels[kept],
        ignored=(objects.ignored | (share < LEAST_SEEN))[kept],
        starts=np.array([0, kept.sum()], np.int64),
    )
