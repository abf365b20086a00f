"""A small patch network with 3-D convolutions, its reduction, and its files."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pocketvision.data.scene.bands import BandReduction
from pocketvision.models.patch import PatchHeadSpec, PatchNetwork, PatchSpec
from pocketvision.nn.attention import Attention
from pocketvision.nn.conv import ConvSpec
from pocketvision.nn.volume import VolumeSpec
from pocketvision.runtimes.scene_export import SceneCard, export_scene
from pocketvision.runtimes.scene_onnx import SceneCalibration, quantize_scene
from pocketvision.scene_record import Form

BANDS, COMPONENTS, WINDOW, CLASSES = 12, 6, 7, 3


@cache
def small_network(attention: Attention | None = None) -> PatchNetwork:
    """Two 3-D convolutions, a 2-D one and a hidden layer: HybridSN in small."""
    volumes = (
        VolumeSpec(c_in=1, c_out=3, depth=3),
        VolumeSpec(c_in=3, c_out=4, depth=3, kernel=1),
    )
    plane = ConvSpec(c_in=8, c_out=5, act="relu", norm=None, padding="valid")
    head = PatchHeadSpec(
        c_in=5, size=3, num_classes=CLASSES, hidden=(8,), dropout=0.4, attention=attention
    )
    spec = PatchSpec(
        name="small",
        bands=COMPONENTS,
        window=WINDOW,
        volumes=volumes,
        planes=(plane,),
        head=head,
    )
    network = spec.build(seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):  # zero biases would hide a missing one
            torch.nn.init.normal_(parameter, generator=generator)
    return network


@cache
def small_reduction() -> BandReduction:
    """Raw spectra in the thousands become numbers near one."""
    generator = np.random.default_rng(3)
    return BandReduction(
        method="pca",
        whiten=True,
        mean=generator.uniform(1000, 4000, BANDS),
        matrix=generator.standard_normal((BANDS, COMPONENTS)) / 300,
        explained=0.99,
        fitted_on=50,
    )


def small_card(form: Form) -> SceneCard:
    """Names that JSON must escape, ids with gaps, wavelengths."""
    return SceneCard(
        name="small 7x7x6",
        form=form,
        window=WINDOW,
        classes=("corn", 'no"till', "blé"),
        class_ids=(2, 3, 11),
        colours=((255, 0, 0), (0, 128, 0), (0, 0, 255)),
        fill=tuple(small_reduction().mean.astype(np.float32).tolist()),
        no_data=-9999.0,
        wavelengths_nm=tuple(400.0 + 10 * band for band in range(BANDS)),
    )


def small_spectra(*shape: int, seed: int = 4) -> NDArray[np.float32]:
    """Raw spectra (*shape, BANDS) that spread as the reduction expects."""
    noise = np.random.default_rng(seed).standard_normal((*shape, BANDS))
    return (small_reduction().mean + 300 * noise).astype(np.float32)


def reduced(spectra: NDArray[np.float32]) -> torch.Tensor:
    """(N, h, w, B) -> (N, n, h, w), computed apart from any file."""
    return torch.from_numpy(small_reduction().apply(spectra)).permute(0, 3, 1, 2)


def exported(folder: Path, form: Form, attention: Attention | None = None) -> Path:
    """The float file in that form."""
    path = folder / f"{form}.onnx"
    path.write_bytes(_content(form, attention))
    return path


def quantized(folder: Path, form: Form, attention: Attention | None = None) -> Path:
    """The INT8 file in that form, with ranges from forty windows."""
    path = folder / f"{form}_int8.onnx"
    path.write_bytes(_int8_content(form, attention))
    return path


@cache
def _content(form: Form, attention: Attention | None) -> bytes:
    # An export takes seconds: one for all tests.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_scene(small_network(attention), small_reduction(), path, small_card(form))
        return path.read_bytes()


@cache
def _int8_content(form: Form, attention: Attention | None) -> bytes:
    calibration = SceneCalibration(spectra=small_spectra(40, WINDOW, WINDOW, seed=5))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_scene(exported(Path(folder), form, attention), path, calibration)
        assert len(list(Path(folder).iterdir())) == 2  # no temporary file is left
        return path.read_bytes()
