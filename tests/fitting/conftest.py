"""One small fitted network for all tests of the main job."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import QUICK, write_photos

from pocketvision.fitting.artefact import Artefact
from pocketvision.fitting.pipeline import run_fit
from pocketvision.runtimes.runtime import PLAIN_INT8


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="session")
def fitted(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    out = tmp_path_factory.mktemp("out") / "fitted"
    return run_fit(replace(QUICK, data=str(photos)), out)


@pytest.fixture(scope="session", autouse=True)
def _plain_integers() -> Iterator[None]:
    """INT8 without the search for ranges, which has tests of its own and takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pocketvision.compress.ladder.Int8Config", lambda: PLAIN_INT8)
        yield
