"""A network for a scene as files: dense and patch form, float and INT8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.scene.bands import BandReduction
from pocketvision.data.scene.scene import Scene
from pocketvision.mapping.config import SceneConfig
from pocketvision.mapping.gates import FileKey
from pocketvision.mapping.standalone import scene_script
from pocketvision.models.patch import PatchNetwork
from pocketvision.runtimes.scene_export import SceneCard, export_scene
from pocketvision.runtimes.scene_onnx import (
    SceneCalibration,
    quantize_scene,
)
from pocketvision.scene_record import Form

FORMS: tuple[Form, ...] = ("dense", "patch")
SHIPPED_FORM: Form = "dense"


def export_files(
    config: SceneConfig,
    scene: Scene,
    network: PatchNetwork,
    reduction: BandReduction,
    folder: Path,
    calibration: SceneCalibration,
    forms: tuple[Form, ...],
) -> dict[FileKey, Path]:
    """The network in these forms and the precisions asked for; the folder is made."""
    files: dict[FileKey, Path] = {}
    folder.mkdir(exist_ok=True)
    for form in forms:
        card = SceneCard.for_scene(
            scene,
            name=network.spec.label,
            form=form,
            window=network.spec.window,
            reduction=reduction,
        )
        exported = folder / f"{form}_float.onnx"
        export_scene(network, reduction, exported, card)
        if "f32" in config.precisions:
            files[form, "f32"] = exported
        if "int8" in config.precisions:
            files[form, "int8"] = folder / f"{form}_int8.onnx"
            quantize_scene(exported, files[form, "int8"], calibration)
    return files


def shipped_bytes(path: Path, card: SceneCard, threads: int) -> int:
    """Bytes of everything that ships with one file: all that lies in model/."""
    return path.stat().st_size + len(scene_script(card, threads).encode())


def noise(side: int, bands: int) -> NDArray[np.float32]:
    """Seeded spectra (1, side, side, bands): timing does not see content."""
    shape = (1, side, side, bands)
    return np.random.default_rng(0).uniform(0, 10_000, shape).astype(np.float32)
