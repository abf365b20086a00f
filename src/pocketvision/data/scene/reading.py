"""From files to a scene, and whether its values can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.scene.facts import SceneFacts, Shape, by_number, check_text, read_facts
from pocketvision.data.scene.files import (
    Source,
    choose_cube,
    choose_labels,
    in_folder,
    readable,
    source_of,
)
from pocketvision.data.scene.labels import (
    check_names,
    colour_classes,
    name_classes,
    read_labels,
)
from pocketvision.data.scene.scene import Scene
from pocketvision.data.scene.values import ValueTally
from pocketvision.errors import DataError


def open_scene(
    path: str | Path,
    *,
    labels: str | Path | None = None,
    no_data: float | None = None,
    classes: Sequence[str] | None = None,
) -> Scene:
    """A scene from its files; large cubes stay on disk, except in .mat and compressed ENVI files.

    path: a folder with cube.*, labels.* and scene.json, or with one file like a cube and one like
        a label map; or a file with a cube. "file.mat:variable" names one of several variables.
    labels: a file with the label map; without it the folder's, or one in the cube's own .mat file.
    no_data: the value that marks pixels without a measurement, before scene.json and the file.
    classes: names for the labels 1, 2, ..., before scene.json and the file.
    Raises: DataError: files that cannot be read, do not hold a cube, or do not fit each other.
        MissingExtraError: a format whose library is not installed.
    """
    with readable(path):
        return _open(path, labels, no_data, tuple(classes) if classes is not None else None)


def read_mask(path: str | Path, shape: Shape) -> NDArray[Any]:
    """(H, W) of the numbers in a label-like file that goes with a cube of `shape`.

    Raises: DataError: a file that cannot be read, holds no such map, or one of another size.
    """
    with readable(path):
        source = source_of(path)
        chosen = choose_labels(source, source, shape)
        assert chosen is not None  # what is asked for by name is there, or refused
        numbers: NDArray[Any] = chosen.read().cube.rows(0, shape[0])[..., 0]
    return numbers


def _open(
    path: str | Path,
    labels: str | Path | None,
    no_data: float | None,
    classes: tuple[str, ...] | None,
) -> Scene:
    root = Path(path)
    facts = read_facts(root) if root.is_dir() else SceneFacts()
    if classes is not None:
        facts = replace(facts, classes=classes)
    cube_source, label_source = in_folder(root) if root.is_dir() else (source_of(path), None)
    if labels is not None:
        label_source = source_of(labels)
    cube_source, shape = choose_cube(cube_source)
    label_source = choose_labels(label_source, cube_source, shape)
    raster = cube_source.read()
    scene = Scene(
        name=facts.name or (root.resolve().name if root.is_dir() else cube_source.path.stem),
        cube=raster.cube,
        labels=None,
        classes=(),
        class_ids=(),
        colours=(),
        wavelengths_nm=facts.wavelengths_nm or raster.wavelengths_nm,
        no_data=next((v for v in (no_data, facts.no_data, raster.no_data) if v is not None), None),
        georeference=raster.georeference,
        bad_bands=raster.bad_bands,
        suspicions=raster.suspicions,
    )
    check_text("scene name", scene.name)
    _check_wavelengths(scene)
    if label_source is not None:
        scene = _with_labels(scene, label_source, facts)
    return scene


def _with_labels(scene: Scene, source: Source, facts: SceneFacts) -> Scene:
    raster = source.read()
    labels, class_ids = read_labels(source.path, raster)
    if isinstance(facts.classes, tuple):
        check_names(source.path, class_ids, facts.classes)
    names = by_number(facts.classes) if facts.classes is not None else raster.classes
    colours = by_number(facts.colours) if facts.colours is not None else raster.colours
    return replace(
        scene,
        labels=labels,
        classes=name_classes(class_ids, names),
        class_ids=class_ids,
        colours=colour_classes(class_ids, colours),
    )


def _check_wavelengths(scene: Scene) -> None:
    bands = scene.cube.shape[2]
    if len(scene.wavelengths_nm) not in (0, bands):
        raise DataError(
            f"scene.json has {len(scene.wavelengths_nm)} wavelengths for {bands} bands; "
            f"correct or remove them."
        )
    wrong = [value for value in scene.wavelengths_nm if not 0 < value < np.inf]
    if wrong:
        raise DataError(f"The wavelength {wrong[0]} is no positive number of nm; correct it.")


def check_values(scene: Scene) -> None:
    """Go through the spectra once for values that mark missing pixels without being declared.

    Raises: DataError: a file that seems to be read wrongly; NaN or infinite values where no no-data
        value is declared; pixels that have one negative value in every band where that is not the
        no-data value.
    """
    tally = ValueTally(scene)
    for start, stop in scene.chunks():
        tally.add(scene.cube.rows(start, stop))
    for sentence in (*scene.suspicions, *tally.faults()):
        raise DataError(sentence)
