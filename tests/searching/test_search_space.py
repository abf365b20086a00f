"""Which space is searched: around the best network whose supernet can be trained in the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pocketvision.budget import Budget
from pocketvision.errors import BudgetError, ConfigError
from pocketvision.fitting.candidates import Candidate, as_candidate
from pocketvision.fitting.reporter import Silent
from pocketvision.fitting.run import Clock
from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.space import SearchSpace
from pocketvision.models.spaces import V2, V3_SMALL
from pocketvision.models.weights import save
from pocketvision.record.timing import Latency
from pocketvision.searching import search_space
from pocketvision.searching.scaled_table import ScaledTable
from pocketvision.searching.search_config import SearchConfig
from pocketvision.searching.search_plan import (
    AMPLE_EPOCHS,
    GOOD_EPOCHS,
    SHIPPING_SHARE,
    SUPERNET_SHARE,
)
from pocketvision.searching.search_rivals import Planned, Planner, published_network
from pocketvision.searching.search_space import RESERVE_S, chosen_space, idle_limit

STEPS = 10  # of an epoch
MINIMALISTIC = "mobilenet_v3_small_minimalistic"
HAS_ROOM = search_space._has_room  # which the other tests replace
CONFIG = SearchConfig(data="photos", budget=Budget(latency_ms=1.0), baselines="none")


def candidate(name: str, width: float, resolution: int) -> Candidate:
    return as_candidate(registry.spec(name, width=width, resolution=resolution, num_classes=2))


RANKING = [candidate("mobilenet_v3_large", 0.5, 96), candidate("mobilenet_v3_small", 0.35, 64)]


def seconds(space: SearchSpace) -> float:
    """A second for a million multiply-adds of the largest member."""
    return 1e-6 * count(space.spec(space.largest(), 2)).macs


@pytest.fixture(autouse=True)
def _ideal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_space, "_step_seconds", lambda planner, spaces: seconds)
    monkeypatch.setattr(search_space, "_has_room", lambda planner, planned, space, base: True)


def chosen(
    config: SearchConfig, time_s: float | None, ranking: list[Candidate] = RANKING
) -> tuple[SearchSpace, Candidate]:
    return chosen_space(planner_of(config, time_s), Planned(candidates=ranking, tried=()))


def planner_of(config: SearchConfig, time_s: float | None = None) -> Planner:
    samples: Any = SimpleNamespace(
        indices=lambda split: range(STEPS * config.batch_size), shorter_side=192
    )
    return Planner(
        config=replace(config, budget=replace(config.budget, time_s=time_s)),
        samples=samples,
        target=None,
        reporter=Silent(),
        clock=Clock(time_s),
    )


def time_for(epochs: float, space: SearchSpace) -> float:
    arm_s = RESERVE_S + epochs * STEPS * seconds(space) / SUPERNET_SHARE
    return 1 + arm_s / SHIPPING_SHARE


def test_space_is_whole_tightened_or_around_a_smaller_network_as_the_time_allows() -> None:
    whole, first = chosen(CONFIG, None)
    assert (whole.name, whole.widths, whole.resolutions) == ("v3_large", (0.5,), (96,))
    assert first == RANKING[0]
    tight = chosen(CONFIG, time_for(AMPLE_EPOCHS, whole) - 2)[0]
    assert tight.name == "v3_large_tightened"
    assert chosen(CONFIG, time_for(AMPLE_EPOCHS, whole))[0] == whole
    assert chosen(CONFIG, time_for(GOOD_EPOCHS, tight))[0] == tight
    smaller, second = chosen(CONFIG, time_for(GOOD_EPOCHS, tight) - 2)
    assert smaller.name.startswith("v3_small")
    assert (smaller.widths, smaller.resolutions, second) == ((0.35,), (64,), RANKING[1])
    assert chosen(CONFIG, RESERVE_S / SHIPPING_SHARE + 2)[1] == RANKING[1]


def test_space_whose_smallest_member_hardly_meets_the_latency_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def has_room(planner: Any, planned: Any, space: SearchSpace, base: Candidate) -> bool:
        return base == RANKING[1]

    monkeypatch.setattr(search_space, "_has_room", has_room)
    assert chosen(CONFIG, None)[1] == RANKING[1]
    monkeypatch.setattr(search_space, "_has_room", lambda *given: False)
    assert chosen(CONFIG, None)[1] == RANKING[0]


@pytest.mark.parametrize(("limit_ms", "room"), [(1e6, True), (1e-6, False)])
def test_room_is_measured(limit_ms: float, room: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, budget=Budget(latency_ms=limit_ms))
    monkeypatch.setattr(
        ScaledTable,
        "timed_whole",
        lambda table, spec: Latency(
            median_ms=1.0, p95_ms=1.0, low_ms=1.0, high_ms=1.0, runs=9, threads=1
        ),
    )
    monkeypatch.setattr(Planned, "fastest", lambda planned, base: ("onnxruntime", "f32"))
    samples: Any = SimpleNamespace(classes=("a", "b"))
    planner = Planner(
        config=config, samples=samples, target=None, reporter=Silent(), clock=Clock(None)
    )
    planned = Planned(candidates=RANKING, tried=())
    assert HAS_ROOM(planner, planned, replace(V3_SMALL, resolutions=(64,)), RANKING[1]) == room


def test_where_no_published_accuracy_is_near_the_most_work_within_the_budget_is_best() -> None:
    best, busier = candidate("mobilenet_v3_large", 0.35, 48), candidate(MINIMALISTIC, 1.0, 64)
    assert best.prior.source == "extrapolated"
    assert best.prior.top1 > busier.prior.top1
    assert best.count.macs < busier.count.macs
    space, base = chosen(CONFIG, None, [best, busier])
    assert base == busier
    assert (space.name, space.widths, space.resolutions) == ("v3_small", (1.0,), (64,))


@pytest.mark.parametrize(("latency_ms", "idle"), [(5.0, True), (1.5, False)])
def test_latency_that_rules_no_member_out_is_said(latency_ms: float, idle: bool) -> None:
    space = replace(V3_SMALL, widths=(0.35,), resolutions=(64,))
    most = count(space.spec(space.largest(), 2)).macs
    table: Any = SimpleNamespace(latency_ms=lambda spec: 2.0 * count(spec).macs / most)
    config = replace(CONFIG, budget=Budget(latency_ms=latency_ms))
    said = idle_limit(config, space, 2, table)
    assert bool(said) == idle
    if idle:
        assert said.startswith("Even the largest member of v3_small takes only about 2 ms of 5 ms")
        assert said.endswith(", with more --time it may be in a larger space.")
        by_work = idle_limit(replace(config, method="work"), space, 2, table)
        assert by_work.endswith(" has something to weigh.")


def test_a_search_by_work_is_in_other_sizes_of_the_best_network_whatever_the_time() -> None:
    for time_s in (300.0, None):
        space, _ = chosen(replace(CONFIG, method="work"), time_s)
        assert space.name == "v3_large_resized"
        assert all(len(stage.attention) == 1 for stage in space.stages)


@pytest.fixture
def weights(tmp_path: Path) -> Callable[..., str]:
    def write(*, width: float = 1.0, variant: str = "") -> str:
        network = registry.spec("mobilenet_v2", width=width, num_classes=2)
        folder = tmp_path / f"{width:g} {variant}"
        save(replace(network, variant=variant).build(seed=0), folder)
        return str(folder)

    return write


@pytest.mark.parametrize(
    ("sides", "expected"), [((32, 64, 48), 96), ((224,), 224), ((), 32), ((150,), 160)]
)
def test_weights_decide_on_the_space_and_the_input_side_next_above(
    sides: tuple[int, ...],
    expected: int,
    weights: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def among(planner: Planner, **named: object) -> Planned:
        assert named == {"models": ("mobilenet_v2",), "widths": (1.0,), "at_any_side": True}
        if not sides:
            raise BudgetError("No network meets 1 ms.")
        return Planned(
            candidates=[candidate("mobilenet_v2", 1.0, side) for side in sides], tried=()
        )

    monkeypatch.setattr(Planner, "among", among)
    space, _ = chosen(replace(CONFIG, weights=weights()), None)
    assert space == replace(V2, resolutions=(expected,))
    asked = replace(CONFIG, weights=weights(), resolutions=(72,))
    assert chosen(asked, None)[0] == replace(V2, resolutions=(72,))


def test_weights_of_no_space_or_of_several_networks_do_not_decide(
    weights: Callable[..., str],
) -> None:
    for name in (weights(width=0.5), "torchvision"):
        assert chosen(replace(CONFIG, weights=name), None)[0].name == "v3_large"


def test_published_rival_is_the_network_of_the_weights_within_the_budget(
    weights: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[dict[str, object]]()

    def among(planner: Planner, **named: object) -> Planned:
        asked.append(named)
        return Planned(candidates=RANKING, tried=())

    monkeypatch.setattr(Planner, "among", among)
    plain, begun, other = (
        planner_of(replace(CONFIG, weights=name))
        for name in (None, weights(), weights(variant="member of mine"))
    )
    best = RANKING[0].classifier
    assert published_network(plain, best) is None
    assert published_network(plain, RANKING[1].classifier) == best
    assert published_network(begun, best) == best  # it begins with the weights
    assert published_network(begun, None) == best
    assert published_network(other, best) is None
    assert published_network(plain, None) is None
    named = {"models": ("mobilenet_v2",), "widths": (1.0,), "at_any_side": True}
    assert asked == [{"widths": (1.0,)}, {"widths": (1.0,)}, named, named]


def test_steps_that_were_asked_for_are_made_in_the_best_space() -> None:
    assert chosen(replace(CONFIG, supernet_steps=5), 300.0)[0].name == "v3_large"


def test_rival_is_what_the_search_would_lie_around_with_all_time() -> None:
    """Minimalistic forms too: it is held against the best there is without a search."""
    best, busier = candidate("mobilenet_v3_large", 0.35, 48), candidate(MINIMALISTIC, 1.0, 64)
    assert Planned(candidates=[best, busier], tried=()).rival == busier.spec
    near = [candidate(MINIMALISTIC, 1.0, 224), candidate("mobilenet_v3_large", 0.5, 224)]
    assert near[0].prior.source != "extrapolated"
    assert Planned(candidates=near, tried=()).rival == near[0].spec


@pytest.mark.parametrize("named", [None, "v3_small"])
def test_channels_are_multiples_of_what_the_device_likes(named: str | None) -> None:
    space, _ = chosen(replace(CONFIG, multiple=16, space=named), None)
    spec = space.spec(space.largest(), 2)
    assert all(block.c_out % 16 == 0 for block in spec.blocks)
    assert chosen(CONFIG, None)[0].multiple == 8
    with pytest.raises(ConfigError, match="multiple=0 is out of range; expected 1 to 256"):
        replace(CONFIG, multiple=0)


def test_space_that_was_asked_for_is_taken() -> None:
    space, base = chosen(replace(CONFIG, space="v3_small"), 300.0)
    assert (space.name, space.resolutions, base) == ("v3_small", (96,), RANKING[0])
    sides = chosen(replace(CONFIG, space="v3_small", resolutions=(64, 96)), 300.0)[0].resolutions
    assert sides == (64, 96)
    with pytest.raises(ConfigError, match="space='v9' is not known"):
        chosen(replace(CONFIG, space="v9"), 300.0)
