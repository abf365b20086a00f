"""A scene through an exported file, tile by tile: classes and how sure they are.

Both forms of a file give the same map. The dense form shares nearly all its arithmetic between the
windows of a tile; the patch form runs every window by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pocketvision.data.scene.bands import BandReduction
from pocketvision.data.scene.scene import Mask, Scene
from pocketvision.errors import ConfigError, at_least, check_shape
from pocketvision.mapping.mosaic import (
    block,
    class_numbers,
    spans,
    tile_logits,
    tiles,
    uncertainty_of,
)
from pocketvision.models.dense import DenseTwin
from pocketvision.models.patch import PatchNetwork, check_window
from pocketvision.runtimes.scene_onnx import SceneSession, Spectra, check_sensor

Progress = Callable[[int, int], None]  # pixels done, pixels in all


def classify_scene(
    scene: Scene,
    session: SceneSession,
    classes: NDArray[np.integer],
    *,
    uncertainty: NDArray[np.float32] | None = None,
    tile: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the class of every pixel, and how unsure it is, into arrays of the caller's.

    classes: (H, W) of any integer type that holds K, in memory or memory-mapped: 1..K in the order
    of the card's classes, 0 without a measurement. uncertainty: (H, W) float32: entropy of the
    softmax over log K, 0 sure to 1 undecided, NaN without a measurement. tile: largest side of the
    parts that go through the session, in pixels; None: as the card says.

    Beside the caller's arrays, memory does not grow with the scene's height. Whole rows are read:
    where 2 * window - 1 of them exceed `mosaic.STRIP_BYTES`, it grows with the width.
    Raises: ConfigError: a cube of other bands or wavelengths, arrays of another shape or type, a
    tile below 1.
    """
    height, width, _ = scene.cube.shape
    card = session.card
    check_sensor(scene, card)
    tile = card.tile if tile is None else tile
    at_least("tile", tile, 1)
    check_shape("classes", classes.shape, (height, width))
    if classes.dtype.kind not in "iu" or np.iinfo(classes.dtype).max < len(card.classes):
        raise ConfigError(
            f"classes are {classes.dtype}; expected integers up to {len(card.classes)}."
        )
    if uncertainty is not None:
        check_shape("uncertainty", uncertainty.shape, (height, width))
    fill = np.asarray(card.fill, np.float32)
    done = 0
    for part in tiles(scene.cube.rows, scene.cube.shape, card.window, fill, scene.no_data, tile):
        logits = tile_logits(session.run, card.form, card.window, part.spectra)
        place = np.s_[part.top : part.bottom, part.left : part.right]
        classes[place] = class_numbers(logits, part.measured)
        if uncertainty is not None:
            uncertainty[place] = uncertainty_of(logits, part.measured)
        done += part.measured.size
        if progress is not None:
            progress(done, height * width)


def windows_at(
    scene: Scene, places: NDArray[np.int64], window: int, fill: NDArray[np.floating]
) -> Spectra:
    """The windows around some pixels: float32 (n, window, window, B), raw.

    places: (n, 2), row and column. fill: (B,), the spectrum outside the scene and where there is
    no measurement.
    Raises: ConfigError: a place outside the scene, an impossible window, fill of other bands.
    """
    height, width, bands = scene.cube.shape
    check_window(window)
    check_shape("places", places.shape, (None, 2))
    check_shape("fill", fill.shape, (bands,))
    if ((places < 0) | (places >= (height, width))).any():
        raise ConfigError(f"places must lie within {height}x{width} pixels; some do not.")
    filled = fill.astype(np.float32)
    half = window // 2
    found = np.empty((len(places), window, window, bands), np.float32)
    for row, group in itertools.groupby(enumerate(places.tolist()), lambda item: item[1][0]):
        start = max(0, row - half)
        read = scene.cube.rows(start, min(height, row + half + 1))
        for index, (_, column) in group:
            corner = (row - half - start, column - half)
            found[index], _ = block(read, corner, window, filled, scene.no_data)
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class TileAgreement:
    """A session beside the float network on n pixels of one tile.

    agreement: share of them with the same class. largest_difference: of any logit.
    """

    agreement: float
    n: int
    largest_difference: float


def compare_tile(
    scene: Scene,
    session: SceneSession,
    network: PatchNetwork,
    reduction: BandReduction,
    counted: Mask,
) -> TileAgreement:
    """A whole tile through the session, and through the float network's dense form.

    Single windows show neither an error in the axes nor one that grows with the map; a tile does.
    counted: (H, W), the pixels to compare, such as all that do not test; the tile with most of
    them is taken, of the side in the session's card.
    Raises: ConfigError: another sensor, `counted` of another shape or without any measured pixel.
    """
    height, width, _ = scene.cube.shape
    card = session.card
    check_sensor(scene, card)
    check_shape("counted", counted.shape, (height, width))
    parts = itertools.product(spans(height, card.tile), spans(width, card.tile))
    rows, columns = max(parts, key=lambda part: counted[slice(*part[0]), slice(*part[1])].sum())
    half = card.window // 2
    start = max(0, rows[0] - half)
    spectra, measured = block(
        scene.cube.rows(start, min(height, rows[1] + half)),
        (rows[0] - half - start, columns[0] - half),
        card.window,
        np.asarray(card.fill, np.float32),
        scene.no_data,
        (rows[1] - rows[0], columns[1] - columns[0]),
    )
    compared = measured & counted[slice(*rows), slice(*columns)]
    if not compared.any():
        raise ConfigError("counted holds no pixel with a measurement; expected at least one.")
    found = tile_logits(session.run, card.form, card.window, spectra)[compared]
    reduced = torch.from_numpy(reduction.apply(spectra[None])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        logits = DenseTwin(network)(reduced)[0]
    expected = logits.permute(1, 2, 0).numpy()[compared]
    return TileAgreement(
        agreement=float((found.argmax(1) == expected.argmax(1)).mean()),
        n=len(expected),
        largest_difference=float(np.abs(found - expected).max()),
    )
