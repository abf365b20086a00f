"""The preprocessing that travels with a network, as data (no torch)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pocketvision.errors import ConfigError, in_range

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # 255 * (0.485, 0.456, 0.406)
IMAGENET_STD = (58.395, 57.12, 57.375)  # 255 * (0.229, 0.224, 0.225)
CROP_SHARE = 0.875  # resolution / side of the usual ImageNet evaluation: 224 out of 256
MAX_SIDE = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """From an image to what the network takes.

    The image's shorter side is resized to `side`, its centre `side` x `side` is kept, and of that
    the centre `resolution` x `resolution` is taken and normalised: (pixel - mean) / std.
    mean, std: RGB, in units of the pixels 0..255. The defaults are ImageNet's. whole: all of the
    image is stretched to `side` x `side` instead, for networks that tell places in it.
    Raises: ConfigError: resolution above side, sides outside 1..4096, a std that is not positive.
    """

    resolution: int
    side: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    whole: bool = False

    def __post_init__(self) -> None:
        in_range("side", self.side, 1, MAX_SIDE)
        in_range("resolution", self.resolution, 1, self.side)
        if len(self.mean) != 3 or not all(0 <= value <= 255 for value in self.mean):
            raise ConfigError(f"mean={self.mean} must be three numbers (RGB) from 0 to 255.")
        if len(self.std) != 3 or not all(value > 0 and math.isfinite(value) for value in self.std):
            raise ConfigError(f"std={self.std} must be three numbers (RGB) above 0.")

    @classmethod
    def for_resolution(cls, resolution: int, shorter_side: int | None = None) -> Preprocessing:
        """Room for random crops (side = resolution / 0.875), as far as the images have it.

        shorter_side: of the images, in pixels; they are never enlarged beyond `resolution` only to
        be cropped again. None: not known, large enough.
        Raises: ConfigError: a resolution or side outside what is allowed.
        """
        side = round(resolution / CROP_SHARE)
        if shorter_side is not None:
            side = min(side, max(resolution, shorter_side))
        return cls(resolution=resolution, side=side)

    @classmethod
    def of_whole(cls, resolution: int) -> Preprocessing:
        """All of the image, at the resolution of the network.

        Raises: ConfigError: a resolution outside what is allowed.
        """
        return cls(resolution=resolution, side=resolution, whole=True)
