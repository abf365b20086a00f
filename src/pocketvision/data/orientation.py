"""Whether a photo is seen otherwise than its pixels lie in the file."""

from __future__ import annotations

from PIL import ExifTags, Image

_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


def is_turned(image: Image.Image) -> bool:
    """True where EXIF swaps the width and height of an opened image as it is seen."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation) in _TURNED
    except Exception:  # a broken EXIF block counts as upright, as it does in `pixels`
        return False
