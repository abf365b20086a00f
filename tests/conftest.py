"""Every test runs with its own cache folder and one thread, and files are timed briefly.

Properties are tried on the same examples in every run, so that a change is judged by what it
changed, and however long each takes; `pytest --hypothesis-profile new` draws new ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from small_runs import LEARNED, write_photos

from pocketvision.fitting.artefact import Artefact
from pocketvision.measure.latency import LatencyProtocol

BRIEF = LatencyProtocol(warmup_runs=2, rounds=5, min_runs=2, seconds=0.04, retries=0)
LAYERS = LatencyProtocol(rounds=2, min_runs=1, seconds=0.0)  # of which a table has dozens

settings.register_profile("new", deadline=None)
settings.register_profile("repeatable", settings.get_profile("new"), derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    torch.set_num_threads(1)  # small tensors: more threads only wait for each other
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POCKETVISION_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("POCKETVISION_CACHE_LIMIT", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _brief_timing() -> Iterator[None]:
    """Timing that what ships deserves takes seconds a file, and budgets here are generous; where it
    is noisy all the same, nobody waits.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in ("fitting.variants", "fitting.verify", "mapping.files", "mapping.verify"):
            patch.setattr(f"pocketvision.{module}.FINAL", BRIEF)
        for module in ("fitting.plan", "mapping.untrained", "mapping.scene_profile"):
            patch.setattr(f"pocketvision.{module}.PLANNING", BRIEF)
        patch.setattr("pocketvision.mapping.layer_table.LAYERS", LAYERS)
        patch.setattr("pocketvision.fitting.waiting.PAUSES_S", ())
        # What such runs took would spoil the forecasts of those after them.
        patch.setattr("pocketvision.fitting.ship.learn", lambda *_: None)
        patch.setattr("pocketvision.measure.throughput.FINAL", BRIEF)
        patch.setattr("pocketvision.measure.throughput.BATCHED", BRIEF)
        yield


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The class folders of `write_photos`."""
    return write_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="session")
def fitted(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    """One small fitted network, for all tests of what is done with one."""
    # Not above: with it comes torchmetrics, which imports a torchvision that may not be whole.
    from pocketvision.fitting.pipeline import run_fit

    out = tmp_path_factory.mktemp("out") / "fitted"
    return run_fit(replace(LEARNED, data=str(photos)), out)
