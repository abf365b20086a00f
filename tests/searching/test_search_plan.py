"""What a step of the supernet is told to take: some of the largest alone, the others together."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pocketvision.budget import Budget
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.models.supernet import Supernet
from pocketvision.progress import Advance
from pocketvision.searching import search_plan
from pocketvision.searching.search_config import SearchConfig
from pocketvision.searching.search_plan import noise_source, seconds_per_step
from pocketvision.train.batches import PixelSource
from pocketvision.train.supernet import SupernetConfig


def test_steps_alone_and_together_count_by_their_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def train(
        supernet: Supernet,
        source: PixelSource,
        preprocessing: Preprocessing,
        config: SupernetConfig,
        folder: Path,
        *,
        on_step: Advance,
    ) -> None:
        for step in range(config.steps):
            alone = step < config.alone * config.steps
            first = step in (0, config.alone * config.steps)
            clock[0] += 50.0 if first else 1.0 if alone else 3.0  # the first ones allocate
            on_step(step + 1, config.steps, "")

    monkeypatch.setattr(search_plan, "train_supernet", train)
    monkeypatch.setattr(search_plan, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    config = SearchConfig(data="photos", budget=Budget(latency_ms=1.0))
    found = seconds_per_step(
        cast(Supernet, None),  # it is not trained here
        noise_source(32, 4, 8),
        Preprocessing(resolution=32, side=32),
        config,
    )
    assert found == pytest.approx(0.3 * 1.0 + 0.7 * 3.0)
