"""Small scenes with gaps, and the files of one small network that maps them."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.scene.bands import BandReduction
from pocketvision.data.scene.scene import ArrayCube, Scene
from pocketvision.mapping.tiles import classify_scene
from pocketvision.models.patch import PatchHeadSpec, PatchNetwork, PatchSpec
from pocketvision.nn.conv import ConvSpec
from pocketvision.runtimes.scene_export import SceneCard, export_scene
from pocketvision.runtimes.scene_onnx import SceneSession
from pocketvision.scene_record import Form

FORMS: tuple[Form, ...] = ("dense", "patch")
BANDS, COMPONENTS, WINDOW, CLASSES = 14, 6, 9, 5
NO_DATA = -9999.0
WAVELENGTHS_NM = tuple(400.0 + 10 * band for band in range(BANDS))

REDUCTION = BandReduction(
    method="pca",
    whiten=True,
    mean=np.random.default_rng(0).uniform(1000, 3000, BANDS),
    matrix=np.random.default_rng(1).standard_normal((BANDS, COMPONENTS)) / 500,
    explained=None,
    fitted_on=20,
)


def make_scene(height: int, width: int, gaps: int = 0, seed: int = 0) -> Scene:
    """int16 spectra, some pixels without a measurement, one of them in the corner."""
    generator = np.random.default_rng(seed)
    noise = 300 * generator.standard_normal((height, width, BANDS))
    cube = (REDUCTION.mean + noise).astype(np.int16)
    if gaps:
        cube[generator.integers(0, height, gaps), generator.integers(0, width, gaps)] = -9999
        cube[0, 0] = -9999
    return Scene(
        name="field",
        cube=ArrayCube(array=cube),
        labels=None,
        classes=tuple("abcde"),
        class_ids=(1, 2, 3, 4, 5),
        colours=((0, 0, 0),) * CLASSES,
        wavelengths_nm=WAVELENGTHS_NM,
        no_data=NO_DATA,
    )


def small_card(form: Form) -> SceneCard:
    """The card of the files below."""
    return SceneCard.for_scene(
        make_scene(1, 1), name="net", form=form, window=WINDOW, reduction=REDUCTION
    )


@cache
def small_network() -> PatchNetwork:
    """One convolution and a hidden layer: an export takes a second."""
    plane = ConvSpec(c_in=COMPONENTS, c_out=8, act="relu", norm=None, padding="valid")
    head = PatchHeadSpec(c_in=8, size=WINDOW - 2, num_classes=CLASSES, hidden=(12,))
    spec = PatchSpec(
        name="small", bands=COMPONENTS, window=WINDOW, volumes=(), planes=(plane,), head=head
    )
    return spec.build(seed=0).eval()


def exported(folder: Path, form: Form) -> Path:
    """The float file of the network in that form."""
    path = folder / f"{form}.onnx"
    path.write_bytes(_content(form))
    return path


@cache
def _content(form: Form) -> bytes:
    # An export takes seconds: one for all tests.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_scene(small_network(), REDUCTION, path, small_card(form))
        return path.read_bytes()


def mapped(
    scene: Scene, session: SceneSession, tile: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Classes and uncertainty of the whole scene."""
    classes = np.full(scene.cube.shape[:2], 99, np.uint8)
    uncertainty = np.full(scene.cube.shape[:2], 99, np.float32)
    classify_scene(scene, session, classes, uncertainty=uncertainty, tile=tile)
    return classes, uncertainty
