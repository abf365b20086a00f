"""Files of searches are made quickly; a small search, and what it came to, for several files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ideal_search import ideal_machine, without_arms
from quick import quick_files
from tiny_space import TINY_SPACE

from pocketvision.budget import Budget
from pocketvision.fitting.artefact import Artefact
from pocketvision.searching.search import run_search
from pocketvision.searching.search_config import SearchConfig


@pytest.fixture(scope="session", autouse=True)
def _quick_files() -> Iterator[None]:
    with quick_files():
        yield


@pytest.fixture(scope="module")
def ideal() -> Iterator[None]:
    """On a machine whose latency is its work."""
    with ideal_machine():
        yield


@pytest.fixture
def alone() -> Iterator[None]:
    """Without what comes behind the search."""
    with without_arms():
        yield


@pytest.fixture(scope="session")
def config(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchConfig:
    space = tmp_path_factory.mktemp("space") / "tiny.toml"
    space.write_text(TINY_SPACE)
    return SearchConfig(
        data=str(photos),
        budget=Budget(latency_ms=200.0),
        space=str(space),
        resolutions=(32,),
        runtime="onnxruntime",
        supernet_steps=4,
        evaluations=4,
        generation=2,
        netadapt=False,
        baselines="none",
        epochs=2,
        batch_size=16,
        max_drop_points=100,
    )


@pytest.fixture(scope="session")
def searched(config: SearchConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search without its arms, not to be changed."""
    out = tmp_path_factory.mktemp("searched") / "out"
    with ideal_machine(), without_arms():
        run_search(config, out)
    return out


@pytest.fixture(scope="session")
def shipped(
    config: SearchConfig, searched: Path, tmp_path_factory: pytest.TempPathFactory
) -> Artefact:
    """The same with its one arm, not to be changed."""
    out = tmp_path_factory.mktemp("shipped") / "out"
    shutil.copytree(searched, out)
    with ideal_machine():
        return run_search(config, out)
