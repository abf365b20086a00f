"""Batched, seeded augmentation, and the normalisation every batch goes through."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pocketvision.data.preprocessing import Preprocessing as Preprocessing
from pocketvision.errors import ConfigError, check_shape, in_range

MAX_LOG_RATIO = math.log(4 / 3)  # width / height of a crop, both ways
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, as Pillow's mode L


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """What `augment` may do to a batch.

    min_scale: smallest share of the stored square's area that a crop covers, 0.01..1; the share is
    uniform, the aspect ratio log-uniform in 3/4..4/3 as far as the square allows (Szegedy et al.,
    Going Deeper with Convolutions, section 6).
    flip: probability of a mirrored image, 0..1.
    brightness, contrast, saturation: x draws a factor from 1 - x..1 + x per image, 0..1.
    mixup: alpha of Zhang et al., mixup, 0 (off)..10. cutmix: alpha of Yun et al., CutMix, 0..10.
    With both on, each batch takes one of them, by a fair coin.
    Raises: ConfigError: a value outside its range.
    """

    min_scale: float = 0.35
    flip: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        in_range("min_scale", self.min_scale, 0.01, 1)
        in_range("flip", self.flip, 0, 1)
        in_range("brightness", self.brightness, 0, 1)
        in_range("contrast", self.contrast, 0, 1)
        in_range("saturation", self.saturation, 0, 1)
        in_range("mixup", self.mixup, 0, 10)
        in_range("cutmix", self.cutmix, 0, 10)

    @property
    def has_jitter(self) -> bool:
        """True when colours change."""
        return max(self.brightness, self.contrast, self.saturation) > 0


def normalise(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """(pixel - mean) / std.

    Shape: (N, H, W, 3) uint8 or float, 0..255 -> (N, 3, H, W) float, channels_last.
    """
    n, height, width, _ = pixels.shape
    # Whole rows at once: loops over the three channels of a pixel would be too short to be fast.
    mean = torch.tensor(preprocessing.mean, device=pixels.device).repeat(width)
    std = torch.tensor(preprocessing.std, device=pixels.device).repeat(width)
    rows = (pixels.reshape(n, height, 3 * width).float() - mean).div_(std)
    return rows.view(n, height, width, 3).permute(0, 3, 1, 2)


def eval_batch(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """The centre crops of stored images, normalised.

    Shape:  (N, side, side, 3) uint8 -> (N, 3, resolution, resolution) float, channels_last.
    Raises: ConfigError: pixels of another side.
    """
    _check_pixels(pixels, preprocessing)
    size = preprocessing.resolution
    start = (preprocessing.side - size) // 2
    return normalise(pixels[:, start : start + size, start : start + size], preprocessing)


def resized(images: Tensor, side: int) -> Tensor:
    """(N, C, H, W) float -> (N, C, side, side): as they are, or reduced without aliasing."""
    if images.shape[-1] == side:
        return images
    return functional.interpolate(
        images, size=(side, side), mode="bilinear", align_corners=False, antialias=True
    )


def augment(
    pixels: Tensor,
    targets: Tensor,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    key: tuple[int, int, int],
) -> tuple[Tensor, Tensor]:
    """A training batch: random crops, mirrored, recoloured and mixed, then normalised.

    pixels: (N, side, side, 3) uint8. targets: (N, K) float, probabilities.
    key: (seed, epoch, step), each >= 0; the same key gives the same batch, whatever ran before.
    Returns: (N, 3, resolution, resolution) float, channels_last, and (N, K) float, on the device
        of `pixels`.
    Raises: ConfigError: pixels or targets of another shape.
    """
    check_shape("targets", targets.shape, (pixels.shape[0], None))
    rng = np.random.default_rng(key)
    images, _ = augmented(pixels, preprocessing, augmentation, rng)
    return _mix(images, targets, augmentation, rng)


@dataclass(frozen=True, kw_only=True, slots=True)
class Views:
    """What is seen of each image of a batch: boxes [top, left, height, width], and if mirrored."""

    boxes: list[list[int]]
    mirrored: list[bool]


def augmented(
    pixels: Tensor,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[Tensor, Views]:
    """As `augment`, but never mixed; the views tell where what lies in the images has gone.

    Raises: ConfigError: pixels of another shape.
    """
    _check_pixels(pixels, preprocessing)
    n, side, _, _ = pixels.shape
    boxes = crop_boxes(n, side, augmentation.min_scale, rng)
    views = Views(boxes=boxes, mirrored=(rng.random(n) < augmentation.flip).tolist())
    crops = _seen(pixels, views, preprocessing.resolution)
    if augmentation.has_jitter:
        crops = _random_colours(crops, augmentation, rng)
    return normalise(crops, preprocessing), views


def crop_boxes(n: int, side: int, min_scale: float, rng: np.random.Generator) -> list[list[int]]:
    """Random boxes [top, left, height, width] within side x side, as `Augmentation` describes."""
    scale = rng.uniform(min_scale, 1.0, n)
    widest = np.minimum(MAX_LOG_RATIO, -np.log(scale))  # a wider box would leave the square
    ratio = np.exp(widest * rng.uniform(-1.0, 1.0, n))
    height = np.clip(np.rint(side * np.sqrt(scale / ratio)), 1, side)
    width = np.clip(np.rint(side * np.sqrt(scale * ratio)), 1, side)
    top = np.floor(rng.random(n) * (side - height + 1))
    left = np.floor(rng.random(n) * (side - width + 1))
    boxes: list[list[int]] = np.stack([top, left, height, width], axis=1).astype(int).tolist()
    return boxes


def _check_pixels(pixels: Tensor, preprocessing: Preprocessing) -> None:
    check_shape("pixels", pixels.shape, (None, preprocessing.side, preprocessing.side, 3))
    if pixels.dtype != torch.uint8:
        raise ConfigError(f"pixels are {pixels.dtype}; expected torch.uint8.")


def _seen(pixels: Tensor, views: Views, resolution: int) -> Tensor:
    """(N, S, S, 3) uint8 -> (N, R, R, 3) uint8 on a CPU, else float."""
    images = pixels.permute(0, 3, 1, 2)
    # One resize per image in bytes is faster than one grid_sample for the batch;
    # only the CPU resizes bytes.
    if images.device.type != "cpu":
        images = images.float()
    crops = [
        functional.interpolate(
            images[row : row + 1, :, top : top + height, left : left + width],
            size=(resolution, resolution),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        for row, (top, left, height, width) in enumerate(views.boxes)
    ]
    seen = torch.cat(crops).permute(0, 2, 3, 1)
    pairs = zip(seen, views.mirrored, strict=True)
    return torch.stack([image.flip(1) if flip else image for image, flip in pairs])


def _random_colours(images: Tensor, augmentation: Augmentation, rng: np.random.Generator) -> Tensor:
    """(N, H, W, 3), 0..255 -> the same shape as float, 0..255.

    Brightness, contrast about the mean grey and saturation about each pixel's grey are all linear,
    so they are one 3x3 matrix and one offset per image.
    """
    n, height, width, _ = images.shape
    strengths = (augmentation.brightness, augmentation.contrast, augmentation.saturation)
    brightness, contrast, saturation = (rng.uniform(1 - x, 1 + x, n) for x in strengths)
    to_grey = np.tile(GREY, (3, 1))
    mixed = saturation[:, None, None] * (np.eye(3) - to_grey) + to_grey
    matrix = _like(images, (brightness * contrast)[:, None, None] * mixed)
    planes = images.permute(0, 3, 1, 2).contiguous().float().view(n, 3, height * width)
    mean_grey = planes.mean(2) @ _like(images, np.array(GREY))
    offset = _like(images, brightness * (1 - contrast)) * mean_grey
    coloured = torch.baddbmm(offset.view(n, 1, 1), matrix, planes).clamp_(0, 255)
    return coloured.view(n, 3, height, width).permute(0, 2, 3, 1)


def _like(images: Tensor, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Tensor:
    return torch.from_numpy(values).to(images.device, torch.float32)


def _mix(
    images: Tensor, targets: Tensor, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Each image with its neighbour in the batch; the order of a batch is random already."""
    coin = rng.random() < 0.5
    if augmentation.mixup > 0 and (coin or augmentation.cutmix == 0):
        share = float(rng.beta(augmentation.mixup, augmentation.mixup))
        images = images.lerp(_neighbours(images), 1 - share)
    elif augmentation.cutmix > 0:
        share = _cutmix(images, augmentation.cutmix, rng)
    else:
        return images, targets
    return images, targets.lerp(targets.roll(1, 0), 1 - share)


def _cutmix(images: Tensor, alpha: float, rng: np.random.Generator) -> float:
    """Paste a box of the neighbour, in place; returns the share of the image that stays."""
    size = images.shape[-1]
    cut = size * math.sqrt(1 - rng.beta(alpha, alpha))
    centre = rng.uniform(0, size, 2)
    top, left = np.clip(np.rint(centre - cut / 2), 0, size).astype(int).tolist()
    bottom, right = np.clip(np.rint(centre + cut / 2), 0, size).astype(int).tolist()
    box = images[:, :, top:bottom, left:right]
    box.copy_(_neighbours(box))
    return float(1 - (bottom - top) * (right - left) / size**2)


def _neighbours(images: Tensor) -> Tensor:
    """roll(1, 0), which would not keep channels_last."""
    return torch.cat([images[-1:], images[:-1]])
