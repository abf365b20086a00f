"""Pictures for reports and for the eye: images in small, as JPEG, and the colours of classes."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from pocketvision.data.pixels import decode, open_image

QUALITY = 80  # of JPEG


def small_image(content: bytes, side: int) -> Image.Image:
    """The image of a file, RGB and upright, with that many pixels along its longer side at most."""
    with open_image(io.BytesIO(content)) as opened:
        image = decode(opened, side)
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    return image


def as_jpeg(image: Image.Image) -> str:
    """The bytes of its JPEG file, in base64."""
    written = io.BytesIO()
    image.save(written, "JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(written.getvalue()).decode("ascii")


def as_png(image: Image.Image) -> bytes:
    """The bytes of its PNG file."""
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


def voc_colours(count: int) -> np.ndarray:
    """(count, 3) uint8: the colours of Pascal VOC's masks, the first of them black."""
    numbers = np.arange(count)
    colours = np.zeros((count, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((numbers >> (3 * bit + channel)) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return colours
