"""One mask: an image file whose values are classes, not brightness."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from pocketvision.data.orientation import is_turned
from pocketvision.data.pixels import open_image

Mask = npt.NDArray[np.uint8]  # (H, W), the class of each pixel

SUFFIXES = (".png", ".bmp")  # without loss, and one value a pixel
VOID = 255  # the value of pixels that have no class
_STRETCHED = {2: 85, 4: 17}  # bits of a grey PNG -> what Pillow multiplies its values by


def read_mask(content: bytes) -> Mask:
    """The values of a mask: grey, indices of a palette, or black and white as 0 and 1.

    Raises: ValueError: no image, a lossy format, colours, or values that 8 bits cannot hold.
    """
    with open_image(BytesIO(content)) as image:
        if image.format not in ("PNG", "BMP"):
            raise ValueError(f"a mask in {image.format}, which changes values; save it as PNG")
        try:
            image.load()
        except Exception as error:  # Pillow's readers raise many kinds on damaged files
            raise ValueError(str(error) or type(error).__name__) from error
        return _values(image, _png_bits(content) if image.format == "PNG" else 8)


def _png_bits(content: bytes) -> int:
    """Bits of one value, or of one colour, in a PNG file: it stands in its first chunk."""
    return content[24]


def _values(image: Image.Image, bits: int) -> Mask:
    if image.mode == "P":
        return np.array(image)
    if image.mode == "L":  # brightness: Pillow stretches the few levels of 2 and 4 bits to 0..255
        return np.array(image) // np.uint8(_STRETCHED.get(bits, 1))
    if image.mode == "1":
        return np.array(image).astype(np.uint8)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _narrow(np.asarray(image).astype(np.int64))
    if bits == 16:  # Pillow keeps the upper eight
        raise ValueError("a mask of 16 bits with colours or transparency; save it as grey of 8")
    bands = np.asarray(image)
    if bands.ndim == 3 and image.mode in ("LA", "RGB", "RGBA"):
        grey = bands[..., : len(image.mode.rstrip("Aa"))]
        if (grey == grey[..., :1]).all():
            return np.ascontiguousarray(grey[..., 0])
    raise ValueError(
        "a mask in colours; expected the number of a class in every pixel: grey, or with a palette"
    )


def _narrow(values: npt.NDArray[np.int64]) -> Mask:
    if values.min() < 0 or values.max() > 255:
        raise ValueError(f"a mask with values {values.min()}..{values.max()}; expected 0..255")
    return values.astype(np.uint8)


def upright_size(content: bytes) -> tuple[int, int]:
    """Width and height of an image file as it is seen. Raises: as `open_image`."""
    with open_image(BytesIO(content)) as image:
        width, height = image.size
        return (height, width) if is_turned(image) else (width, height)


def resized_mask(values: Mask, shape: tuple[int, int]) -> Mask:
    """The nearest value at the centre of every pixel of another (height, width)."""
    height, width = shape
    rows = ((np.arange(height) + 0.5) * values.shape[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * values.shape[1] / width).astype(np.int64)
    found: Mask = values[rows[:, None], columns]
    return found
