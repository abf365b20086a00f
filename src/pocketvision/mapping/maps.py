"""A class map of any cube of the same sensor, as a picture, a GeoTIFF or an array."""

from __future__ import annotations

import io
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.scene.reading import check_values, open_scene
from pocketvision.data.scene.scene import Georeference, Labels, Scene
from pocketvision.errors import ConfigError, require
from pocketvision.fitting.folder import check_writable
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.mapping.artefact import SceneArtefact
from pocketvision.mapping.tiles import classify_scene
from pocketvision.progress import counted
from pocketvision.report.scene_pictures import (
    map_scale,
    map_with_legend,
    png,
    uncertainty_map,
    world_file,
)
from pocketvision.runtimes.scene_onnx import check_sensor
from pocketvision.storage import write_atomic

ENDINGS = (".png", ".tif", ".npy")
BESIDE = (".pgw", ".prj")  # of a picture: where it lies


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneMap:
    """A map that was made. pixels: of each class; classified: all with a measurement."""

    files: tuple[str, ...]
    pixels: dict[str, int]
    classified: int
    seconds: float


def map_scene(
    folder: str | Path,
    cube: str | Path,
    out: str | Path,
    *,
    uncertainty: str | Path | None = None,
    no_data: float | None = None,
    reporter: Reporter | None = None,
) -> SceneMap:
    """Name every pixel of `cube` with the network in `folder`, and write the map to `out`.

    out: .png (a picture with a legend; with .pgw and .prj beside it where the cube has a
    georeference), .tif (class numbers as in the label file, colours, georeference) or .npy (int16:
    0 no measurement, k the class k - 1). uncertainty: the same for entropy / log K, 0..1.
    no_data: as `open_scene`; where neither it nor the files say, as in the scene fitted to.

    Raises: ConfigError: a file that exists, an unknown ending, another sensor. DataError:
    values that look like no measurement. ArtefactError: `folder` holds no network for scenes.
    """
    reporter = reporter or Silent()
    targets = [Path(out)] + ([Path(uncertainty)] if uncertainty is not None else [])
    for target in targets:
        _check_target(target)
    if len(set(targets)) < len(targets):
        raise ConfigError(f"{out} cannot be both maps; give --uncertainty another name.")
    artefact = SceneArtefact(folder)
    session = artefact.session()
    if targets[0].suffix.lower() == ".tif":
        _tiff_dtype(session.card.class_ids)
    with reporter.progress("Reading the scene"):
        scene = open_scene(cube, no_data=no_data)
    if scene.no_data is None:
        scene = replace(scene, no_data=session.card.no_data)
    check_sensor(scene, session.card)
    check_values(scene)
    height, width, _ = scene.cube.shape
    reporter.say(f"{height}x{width} pixels with {artefact.record.network.label}.")
    classes = np.zeros((height, width), np.int16)
    unsure = None if uncertainty is None else np.zeros((height, width), np.float32)
    start = time.monotonic()
    with reporter.progress("Mapping") as advance:
        classify_scene(
            scene,
            session,
            classes,
            uncertainty=unsure,
            progress=counted(advance),
        )
    seconds = time.monotonic() - start
    files = write_class_map(artefact, scene, classes, targets[0])
    if unsure is not None:
        files += _write_uncertainty(scene, unsure, targets[1])
    counts = np.bincount(classes.ravel(), minlength=len(artefact.classes) + 1)
    return SceneMap(
        files=tuple(str(path) for path in files),
        pixels=dict(zip(artefact.classes, counts[1:].tolist(), strict=True)),
        classified=int(counts[1:].sum()),
        seconds=seconds,
    )


def _check_target(path: Path) -> None:
    """Raises: ConfigError: a map cannot be written there."""
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(f"{path} ends in {path.suffix!r}; expected one of {list(ENDINGS)}.")
    beside = BESIDE if path.suffix.lower() == ".png" else ()
    for file in (path, *(path.with_suffix(ending) for ending in beside)):
        if file.exists():
            raise ConfigError(f"{file} exists; nothing was changed. Give another --out.")
    check_writable(path)
    if path.suffix.lower() == ".tif":
        require("rasterio", "hyperspectral")


def write_class_map(
    artefact: SceneArtefact, scene: Scene, classes: Labels, path: Path
) -> list[Path]:
    """Write classes (H, W), 0..K, in the form that the ending of `path` names."""
    card = artefact.session().card
    if path.suffix.lower() == ".npy":
        return write_array(classes, path)
    if path.suffix.lower() == ".tif":
        numbers = np.array([0, *card.class_ids], _tiff_dtype(card.class_ids))[classes]
        return _write_tiff(
            numbers, path, scene.georeference, dict(zip(card.class_ids, card.colours, strict=True))
        )
    counts = [int((classes == k + 1).sum()) for k in range(len(card.classes))]
    picture = map_with_legend(classes, card.classes, card.colours, title=scene.name, counts=counts)
    return _write_picture(png(picture), classes.shape, path, scene.georeference)


def _tiff_dtype(class_ids: tuple[int, ...]) -> np.dtype[Any]:
    """The smallest type that holds the numbers of the label file.

    Raises: ConfigError: numbers beyond 2^31 - 1.
    """
    largest = max(class_ids)
    for dtype in (np.uint8, np.uint16, np.int32):
        if largest <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    raise ConfigError(
        f"the label number {largest} does not fit a .tif, which holds up to "
        f"{np.iinfo(np.int32).max}; write a .npy, or number the labels otherwise and fit again."
    )


def _write_uncertainty(scene: Scene, unsure: NDArray[np.float32], path: Path) -> list[Path]:
    if path.suffix.lower() == ".npy":
        return write_array(unsure, path)
    if path.suffix.lower() == ".tif":
        return _write_tiff(unsure, path, scene.georeference, {})
    return _write_picture(png(uncertainty_map(unsure)), unsure.shape, path, scene.georeference)


def write_array(array: NDArray[np.generic], path: Path) -> list[Path]:
    """Write a .npy file, atomically."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    write_atomic(path, content.getvalue())
    return [path]


def _write_picture(
    content: bytes, shape: tuple[int, ...], path: Path, georeference: Georeference | None
) -> list[Path]:
    write_atomic(path, content)
    if georeference is None:
        return [path]
    world, projection = (path.with_suffix(ending) for ending in BESIDE)
    write_atomic(world, world_file(georeference.transform, map_scale(shape[0], shape[1])))
    write_atomic(projection, georeference.crs)
    return [path, world, projection]


def _write_tiff(
    values: NDArray[np.generic],
    path: Path,
    georeference: Georeference | None,
    colours: dict[int, tuple[int, int, int]],
) -> list[Path]:
    """One band, georeferenced as the input; a palette where the numbers fit one."""
    rasterio = require("rasterio", "hyperspectral")
    profile = {
        "driver": "GTiff",
        "height": values.shape[0],
        "width": values.shape[1],
        "count": 1,
        "dtype": values.dtype.name,
        "nodata": np.nan if values.dtype.kind == "f" else 0,
        "compress": "deflate",
    }
    if georeference is not None:
        profile["crs"] = georeference.crs
        profile["transform"] = rasterio.Affine(*georeference.transform)
    with rasterio.MemoryFile() as memory, warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with memory.open(**profile) as file:
            file.write(values, 1)
            if colours and values.dtype == np.uint8:
                file.write_colormap(1, {k: (*colour, 255) for k, colour in colours.items()})
        write_atomic(path, memory.read())
    return [path]
