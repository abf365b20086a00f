"""One small fitted network for all tests of the main job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from quick import quick_files
from small_runs import QUICK, write_photos

from pocketvision.fitting.artefact import Artefact
from pocketvision.fitting.pipeline import run_fit


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="session")
def fitted(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    out = tmp_path_factory.mktemp("out") / "fitted"
    return run_fit(replace(QUICK, data=str(photos)), out)


@pytest.fixture(scope="session", autouse=True)
def _quick_files() -> Iterator[None]:
    with quick_files():
        yield
