"""What a step of the supernet is told to take: some of the largest alone, the others together."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from pocketvision.budget import Budget
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.models.registry import spec
from pocketvision.models.spaces import V3_SMALL
from pocketvision.models.supernet import Supernet
from pocketvision.progress import Advance
from pocketvision.record.timing import Latency
from pocketvision.searching import search_plan
from pocketvision.searching.search_config import Finalist, SearchConfig, SearchPlan, SearchState
from pocketvision.searching.search_outlook import ranking_doubt
from pocketvision.searching.search_plan import (
    AMPLE_EPOCHS,
    SCORING_SHARE,
    SHIPPING_SHARE,
    SUPERNET_SHARE,
    evened_out,
    noise_source,
    seconds_of_an_arm,
    seconds_per_step,
)
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


def state(*, drawn: bool, published: bool = True) -> SearchState:
    """With three or four arms; 500 s were spent before the first."""
    space = V3_SMALL
    found = Finalist(
        member=space.largest(),
        latency=Latency(median_ms=1.0, p95_ms=1.0, low_ms=1.0, high_ms=1.0, runs=9, threads=1),
        accuracy=0.5,
    )
    plan = SearchPlan(
        before_s=0.0,
        supernet_steps=1,
        supernet_s=1.0,
        scoring_s=1.0,
        evaluations=2,
        generation=2,
        netadapt=False,
        arm_s=1000,
    )
    return SearchState(
        config=SearchConfig(data="photos", budget=Budget(latency_ms=1.0)),
        fingerprint="",
        space=space,
        runtime="onnxruntime",
        precision="f32",
        scale=1.0,
        limit_ms=1.0,
        threads=1,
        plan=plan,
        multiplied=spec("mobilenet_v3_small", num_classes=4, width=0.5, resolution=96),
        published=spec("mobilenet_v3_small", num_classes=4, resolution=96) if published else None,
        search_s=500.0,
        found=found,
        drawn=found if drawn else None,
    )


@pytest.mark.parametrize(("drawn", "published"), [(True, True), (False, True), (True, False)])
def test_time_left_is_shared_so_that_all_arms_end_with_it(drawn: bool, published: bool) -> None:
    found = state(drawn=drawn, published=published)
    arms = found.arm_names
    assert arms == (
        "search",
        *(["random"] if drawn else []),
        "multipliers",
        *(["published"] if published else []),
    )
    plan = evened_out(found, 3000.0)
    assert plan.arm_s is not None
    still = [plan.arm_s - 500 if name in ("search", "random") else plan.arm_s for name in arms]
    assert sum(still) == pytest.approx(SHIPPING_SHARE * 3000, abs=len(arms))
    assert replace(plan, arm_s=found.plan.arm_s) == found.plan
    assert evened_out(found, None) == found.plan
    assert (evened_out(found, -9000.0).arm_s or 0) > 0


def test_random_search_takes_less_than_an_arm_of_the_time() -> None:
    """Before the search begins: what is planned of it is what it shares."""
    four = seconds_of_an_arm(1000.0, ("search", "random", "multipliers", "published"))
    three = seconds_of_an_arm(1000.0, ("search", "multipliers", "published"))
    shared = SUPERNET_SHARE + SCORING_SHARE
    assert four * (4 - shared) == pytest.approx(three * 3) == pytest.approx(SHIPPING_SHARE * 1000)
    assert four < three


def test_few_epochs_of_a_supernet_are_told() -> None:
    assert ranking_doubt(epochs=AMPLE_EPOCHS) == ""
    told = ranking_doubt(epochs=16.2)
    assert re.match(r"The supernet gets about 16 epochs; with fewer than 30 its scores", told)
    assert "More --time or a smaller --resolution" in told
