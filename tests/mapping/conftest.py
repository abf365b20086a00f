"""Two fitted scenes for all tests: a plain one, and one with a place, gaps and a hole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from quick_scenes import quick_scene_files
from small_scenes import QUICK, WHOLE, write_placed, write_scene

from pocketvision.mapping.artefact import SceneArtefact
from pocketvision.mapping.config import SceneConfig
from pocketvision.mapping.pipeline import run_scene_fit
from pocketvision.models.patch import PatchNetwork
from pocketvision.runtimes.runtime import PLAIN_INT8
from pocketvision.runtimes.scene_onnx import SceneCalibration
from pocketvision.train.crops import SceneSource
from pocketvision.train.scene_config import SceneTrainConfig


@pytest.fixture(scope="session", autouse=True)
def _same_training() -> Iterator[None]:
    """One thread in float, whatever a clock finds faster: runs are compared to the bit."""

    def settled(
        network: PatchNetwork,
        source: SceneSource,
        wanted: SceneTrainConfig,
        teacher: PatchNetwork | None,
    ) -> tuple[SceneTrainConfig, float]:
        return replace(wanted, threads=1, precision="f32"), 0.1

    with pytest.MonkeyPatch.context() as patch:
        for module in ("plan", "shrink_start"):
            patch.setattr(f"pocketvision.mapping.{module}.settled", settled)
        yield


@pytest.fixture(scope="session", autouse=True)
def _plain_integers() -> Iterator[None]:
    """INT8 without the search for ranges, which has tests of its own and takes seconds."""
    plain = partial(SceneCalibration, config=PLAIN_INT8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pocketvision.mapping.files.SceneCalibration", plain)
        yield


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of npy files."""
    return write_scene(tmp_path_factory.mktemp("data") / "scene")


@pytest.fixture(scope="session")
def fitted(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> SceneArtefact:
    """All methods, on the plain scene."""
    out = tmp_path_factory.mktemp("out") / "fitted"
    return run_scene_fit(replace(WHOLE, data=str(scene)), out)


@pytest.fixture(scope="session")
def placed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GeoTIFF files: a place, labels with gaps and colours, pixels without a measurement."""
    return write_placed(tmp_path_factory.mktemp("data") / "placed")


@pytest.fixture(scope="session")
def placed_config(placed: Path) -> SceneConfig:
    """A compact network beside a support vector machine, twice."""
    methods = ("mobile_patch", "svm")
    return replace(QUICK, data=str(placed), methods=methods, repeats=2, precisions=("f32",))


@pytest.fixture(scope="session")
def fitted_placed(
    placed_config: SceneConfig, tmp_path_factory: pytest.TempPathFactory
) -> SceneArtefact:
    """The run that `placed_config` asks for, without interruption."""
    return run_scene_fit(placed_config, tmp_path_factory.mktemp("out") / "placed")


@pytest.fixture(scope="session", autouse=True)
def _quick_scene_files() -> Iterator[None]:
    with quick_scene_files():
        yield
