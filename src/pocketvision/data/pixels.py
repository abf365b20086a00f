"""From an image file to pixels: the one decoder for training, evaluation and the shipped `run.py`.

Needs numpy and Pillow alone. What happens to an image, in this order:
1. JPEG is decoded at the smallest of 1, 1/2, 1/4, 1/8 scale that leaves both sides >= 2 * side.
2. It is turned upright (EXIF orientation; a broken EXIF block counts as upright).
3. It becomes 8-bit RGB: grey is repeated, a palette looked up, transparency laid on white, 16-bit
   grey divided by 257 and rounded, CMYK turned into (255 - ink) * (255 - black) / 255 and
   other modes by Pillow's `convert`. Of an animation the first frame is taken.
4. Its centre square (shorter side x shorter side) is resized to side x side, bilinear with
   antialiasing. This is the centre crop of the whole image resized to that shorter side. Where
   places in an image are asked for, all of it is resized to side x side instead.
"""

import os
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

ImageSource = str | os.PathLike[str] | BinaryIO | Image.Image


def load_pixels(source: ImageSource, side: int, whole: bool = False) -> npt.NDArray[np.uint8]:
    """The centre square of an image, `side` x `side`.

    source: a path, an open binary file or a Pillow image (left as it is). whole: all of the image,
    stretched to a square.
    Returns: (side, side, 3) uint8, RGB, 0..255.
    Raises: ValueError: no image, truncated, too large to be decoded safely, or floating point.
        OSError: a file that cannot be opened.
    """
    if side < 1:
        raise ValueError(f"side={side} is out of range; expected 1 or more.")
    if isinstance(source, Image.Image):
        return _resize(to_rgb(source), side, whole)
    with open_image(source) as image:
        return _resize(decode(image, side), side, whole)


def centre_crop(pixels: npt.NDArray[np.uint8], resolution: int) -> npt.NDArray[np.uint8]:
    """The centre of pixels (..., H, W, 3) as a view (..., resolution, resolution, 3).

    Raises: ValueError: a resolution above H or W.
    """
    height, width = pixels.shape[-3:-1]
    if not 1 <= resolution <= min(height, width):
        raise ValueError(f"resolution={resolution} cannot be cropped out of {height}x{width}.")
    top, left = (height - resolution) // 2, (width - resolution) // 2
    return pixels[..., top : top + resolution, left : left + resolution, :]


def open_image(source: str | os.PathLike[str] | BinaryIO) -> Image.Image:
    """Read the header of an image file; the pixels are decoded later, by `decode`.

    Raises: ValueError: no image of a known format, or too many pixels. OSError: cannot be opened.
    """
    try:
        image = Image.open(source, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"not an image of a known format ({', '.join(FORMATS)})") from None
    except Exception as error:  # Pillow's readers raise many kinds on damaged headers
        raise _unreadable(error) from error
    pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
    if limit is not None and pixels > limit:
        image.close()
        raise ValueError(f"{image.width}x{image.height} is too large; at most {limit} pixels")
    return image


def decode(image: Image.Image, side: int) -> Image.Image:
    """All of an opened image as upright 8-bit RGB, a JPEG at a scale with sides >= 2 * side.

    Raises: ValueError: damaged or truncated, or floating point.
    """
    try:
        image.draft(None, (2 * side, 2 * side))
        image.load()
    except Exception as error:
        raise _unreadable(error) from error
    return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as an upright 8-bit RGB image: itself, if it is one already.

    Raises: ValueError: floating point, 32-bit values above 65535, or a mode Pillow cannot convert.
    """
    upright = _upright(image)
    if upright.mode == "I" or upright.mode.startswith("I;16"):
        return _from_16_bits(upright).convert("RGB")
    if upright.mode == "F":
        raise ValueError("floating-point pixels have no known range; save the image with 8 bits")
    if upright.has_transparency_data:
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright.convert("RGBA"))
    # Copies would take as long as a small image takes to decode.
    return upright if upright.mode == "RGB" else upright.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return image
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block says nothing about the pixels
        return image


def _from_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"grey values {values.min()}..{values.max()}; expected 8 or 16 bits")
    grey = ((values + 128) // 257).astype(np.uint8)
    if "transparency" in image.info:  # a PNG names one grey value that is not to be seen
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey)


def _resize(image: Image.Image, side: int, whole: bool) -> npt.NDArray[np.uint8]:
    if whole:
        return np.array(image.resize((side, side), Image.Resampling.BILINEAR))
    shorter = min(image.size)
    left, top = (image.width - shorter) // 2, (image.height - shorter) // 2
    square = (left, top, left + shorter, top + shorter)
    return np.array(image.resize((side, side), Image.Resampling.BILINEAR, box=square))


def _unreadable(error: Exception) -> Exception:
    """Errors of the operating system stay; whatever Pillow says of the content is a ValueError."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return ValueError(str(error) or type(error).__name__)
