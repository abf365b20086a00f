"""Pictures of a scene, painted with numpy and Pillow: classes, splits, uncertainty, false colour.

A map stands at the top left corner at a whole scale, so that a world file of it stays true when a
legend stands at its right.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from plotly.colors import hex_to_rgb, sequential

from pocketvision.errors import ConfigError, DataError, at_least, check_shape
from pocketvision.report.scene_rows import share
from pocketvision.report.text import clipped

Classes = NDArray[np.integer]  # (H, W): 0 no label, k the class k - 1
Colour = tuple[int, int, int]  # red, green, blue, 0..255
Pixels = NDArray[np.uint8]  # (H, W, 3)

SMALLEST_SIDE = 600  # of a saved map: pixels of its longer side
GREYS: tuple[Colour, ...] = ((226, 228, 230), (255, 255, 255), (120, 120, 120), (0, 0, 0))
DISTINCT = 40.0  # distance in RGB from which two colours are told apart

SPLIT_NAMES = ("train", "test", "dropped")
SPLIT_COLOURS: tuple[Colour, ...] = ((0, 105, 168), (230, 140, 40), (140, 100, 150))

RED_GREEN_BLUE_NM = (650.0, 550.0, 450.0)
NEAR_NM = 40.0  # a band this near to a colour stands for it
STRETCH_PERCENT = (2, 98)
FALSE_COLOUR_PIXELS = 4_000_000  # beyond, every second, third ... pixel is taken

FONT_PIXELS, ROW_PIXELS, GAP = 15, 22, 16
INK: Colour = (28, 36, 48)
SOFT: Colour = (91, 101, 115)


class Spectra(Protocol):
    """A cube that is read in rows."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, bands."""
        ...

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """(stop - start, W, B) of the rows start..stop - 1."""
        ...


def class_map(classes: Classes, colours: Sequence[Colour], scale: int = 1) -> Image.Image:
    """Classes (H, W), 0..K, in their colours: (H scale, W scale) pixels; 0 is `no_label(colours)`.

    Raises: ConfigError: a scale below 1, an array that is not (H, W). DataError: a class beyond K.
    """
    check_shape("classes", classes.shape, (None, None))
    low, high = int(classes.min()), int(classes.max())
    if low < 0 or high > len(colours):
        raise DataError(
            f"classes go from {low} to {high}, but there are {len(colours)} colours: expected 0 "
            f"(no label) to {len(colours)}."
        )
    palette = np.array([no_label(colours), *colours], np.uint8)
    return _scaled(palette[classes], scale)


def no_label(colours: Sequence[Colour]) -> Colour:
    """The grey of pixels without a label: the first that no class comes near, else the farthest."""

    def nearest(grey: Colour) -> float:
        return min((math.dist(grey, colour) for colour in colours), default=math.inf)

    return next((grey for grey in GREYS if nearest(grey) >= DISTINCT), max(GREYS, key=nearest))


def map_scale(height: int, width: int) -> int:
    """The scale of saved maps: the smallest that gives the longer side `SMALLEST_SIDE` pixels."""
    return math.ceil(SMALLEST_SIDE / max(height, width))


def map_with_legend(
    classes: Classes,
    names: Sequence[str],
    colours: Sequence[Colour],
    *,
    title: str,
    counts: Sequence[int],
) -> Image.Image:
    """Classes (H, W), 0..K, at `map_scale` in the top left corner, the legend at their right.

    counts: pixels of each class; the legend shows them as shares of the scene.
    Raises: ConfigError: names, colours and counts of different numbers; others as `class_map`.
    """
    if not len(names) == len(colours) == len(counts):
        raise ConfigError(
            f"there are {len(names)} names, {len(colours)} colours and {len(counts)} counts; "
            "expected one of each for every class."
        )
    painted = class_map(classes, colours, map_scale(*classes.shape))
    rows = list(zip(names, colours, counts, strict=True))
    rest = classes.size - sum(counts)
    if rest > 0:
        rows.append(("no label", no_label(colours), rest))
    entries = [(clipped(name, 40), colour, share(n / classes.size)) for name, colour, n in rows]
    return _beside(painted, _legend(title, entries, painted.height))


def uncertainty_map(
    uncertainty: NDArray[np.floating], *, title: str = "Uncertainty"
) -> Image.Image:
    """Uncertainty (H, W), 0..1, in the colours of a ramp, its bar at the right.

    Raises: as `ramp`.
    """
    painted = ramp(uncertainty, map_scale(*uncertainty.shape))
    height = min(painted.height, 320)
    bar = Image.new("RGB", (GAP + 130, painted.height), "white")
    draw = ImageDraw.Draw(bar)
    font = ImageFont.load_default(FONT_PIXELS)
    draw.text((GAP, GAP), title, fill=INK, font=font)
    top = GAP + ROW_PIXELS
    column = np.linspace(1, 0, height - top - GAP)[:, None].repeat(24, axis=1)
    bar.paste(ramp(column), (GAP, top))
    draw.text((GAP + 32, top), "1 undecided", fill=SOFT, font=font)
    draw.text((GAP + 32, height - GAP), "0 certain", fill=SOFT, font=font, anchor="ls")
    return _beside(painted, bar)


def ramp(values: NDArray[np.floating], scale: int = 1) -> Image.Image:
    """Values (H, W), 0..1, from dark to light in even steps of lightness; NaN is grey.

    Raises: ConfigError: an array that is not (H, W), a scale below 1, values outside 0..1.
    """
    check_shape("values", values.shape, (None, None))
    known = np.isfinite(values)
    if known.any() and not 0 <= values[known].min() <= values[known].max() <= 1:
        raise ConfigError(
            f"values go from {values[known].min():.3g} to {values[known].max():.3g}; "
            "expected 0 to 1."
        )
    stops = np.array([hex_to_rgb(colour) for colour in sequential.Viridis], np.float64)
    places = np.linspace(0, 1, len(stops))
    table = np.stack([np.interp(np.linspace(0, 1, 256), places, c) for c in stops.T], axis=1)
    levels = np.where(known, values, 0.0) * 255
    painted: Pixels = table.round().astype(np.uint8)[levels.round().astype(np.uint8)]
    painted[~known] = GREYS[0]
    return _scaled(painted, scale)


def false_colour(
    cube: Spectra,
    ranges: Iterable[tuple[int, int]],
    *,
    wavelengths_nm: Sequence[float] = (),
    no_data: float | None = None,
) -> Pixels:
    """(h, w, 3): three bands as red, green and blue, stretched from their 2nd to 98th percentile.

    ranges: of rows (start, stop) that go through the cube in order, in memory one at a time.
    Pixels without a measurement are grey. Scenes of more than `FALSE_COLOUR_PIXELS` are thinned.
    """
    height, width, _ = cube.shape
    step = math.ceil(math.sqrt(height * width / FALSE_COLOUR_PIXELS))
    bands = list(display_bands(cube.shape[2], wavelengths_nm))
    thinned = [
        cube.rows(start, stop)[-start % step :: step, ::step][..., bands].astype(np.float32)
        for start, stop in ranges
    ]
    picked = np.concatenate(thinned)
    gone = ~np.isfinite(picked).all(axis=-1)
    if no_data is not None:
        gone |= (picked == np.float32(no_data)).all(axis=-1)
    painted = np.full(picked.shape, GREYS[0], np.uint8)
    if gone.all():
        return painted
    low, high = np.percentile(picked[~gone], STRETCH_PERCENT, axis=0)
    stretched = (picked[~gone] - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
    painted[~gone] = (255 * stretched.clip(0, 1)).round().astype(np.uint8)
    return painted


def display_bands(bands: int, wavelengths_nm: Sequence[float]) -> tuple[int, int, int]:
    """The bands nearest to red, green and blue light; without those, three spread over all."""
    if len(wavelengths_nm) == bands:
        distances = np.abs(np.subtract.outer(RED_GREEN_BLUE_NM, wavelengths_nm))
        if (distances.min(axis=1) <= NEAR_NM).all():
            red, green, blue = distances.argmin(axis=1).tolist()
            return red, green, blue
    return 5 * bands // 6, bands // 2, bands // 6


def world_file(transform: Sequence[float], scale: int) -> str:
    """The text beside a picture of `scale` pixels for one of the scene, as .pgw.

    transform: a, b, c, d, e, f of x = a column + b row + c, y = d column + e row + f at the corner
    of a pixel; a world file speaks of centres.
    Raises: ConfigError: not six numbers, a scale below 1.
    """
    check_shape("transform", (len(transform),), (6,))
    at_least("scale", scale, 1)
    a, b, c, d, e, f = transform
    a, b, d, e = a / scale, b / scale, d / scale, e / scale
    lines = (a, d, b, e, c + (a + b) / 2, f + (d + e) / 2)
    return "".join(f"{value:.15g}\n" for value in lines)


def png(image: Image.Image) -> bytes:
    """The picture as a PNG file."""
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()


def data_uri(image: Image.Image) -> str:
    """The picture as a data: URI, for a page that loads nothing."""
    return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"


def _scaled(pixels: Pixels, scale: int) -> Image.Image:
    at_least("scale", scale, 1)
    height, width, _ = pixels.shape
    image = Image.fromarray(pixels)
    return image.resize((width * scale, height * scale), Image.Resampling.NEAREST)


def _legend(title: str, entries: Sequence[tuple[str, Colour, str]], height: int) -> Image.Image:
    """The title over rows of colour, name and share, in as many columns as the height asks for."""
    font = ImageFont.load_default(FONT_PIXELS)
    rows = max(8, (height - 2 * GAP) // ROW_PIXELS - 1)
    name_width = math.ceil(max(font.getlength(name) for name, _, _ in entries))
    column_width = 24 + name_width + 100
    columns = math.ceil(len(entries) / rows)
    title = clipped(title, 80)
    width = max(columns * column_width, math.ceil(font.getlength(title))) + 2 * GAP
    deep = (min(rows, len(entries)) + 1) * ROW_PIXELS + 2 * GAP
    legend = Image.new("RGB", (width, max(height, deep)), "white")
    draw = ImageDraw.Draw(legend)
    draw.text((GAP, GAP), title, fill=INK, font=font)
    for number, (name, colour, part) in enumerate(entries):
        left = GAP + number // rows * column_width
        top = GAP + (number % rows + 1) * ROW_PIXELS
        draw.rectangle((left, top + 3, left + 15, top + 18), fill=colour, outline=SOFT)
        draw.text((left + 24, top + 2), name, fill=INK, font=font)
        right = left + column_width - 20
        draw.text((right, top + 2), part, fill=SOFT, font=font, anchor="ra")
    return legend


def _beside(left: Image.Image, right: Image.Image) -> Image.Image:
    both = Image.new("RGB", (left.width + right.width, max(left.height, right.height)), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    return both
