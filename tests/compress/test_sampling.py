"""Ways to search: within the limit, never twice, the same again when told the log again."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketvision.compress.evolution import Evolution, EvolutionConfig, crossed, mutated
from pocketvision.compress.sampling import (
    Limit,
    RandomSearch,
    Sampler,
    Scored,
    front,
    fronts,
    reward,
)
from pocketvision.errors import BudgetError, ConfigError
from pocketvision.measure.count import count
from pocketvision.models.space import Member
from pocketvision.models.spaces import V3_SMALL

SPACE = replace(V3_SMALL, resolutions=(64, 96), widths=(0.5, 1.0))


def work_of(member: Member) -> float:
    """A device on which a million multiply-adds take a millisecond."""
    return count(SPACE.spec(member, 10)).macs / 1e6


LIMIT = Limit(latency_of=work_of, limit_ms=6.0)
Way = Callable[[Limit], Sampler]
WAYS: dict[str, Way] = {
    "evolution": lambda limit: Evolution(SPACE, limit, 0),
    "reward": lambda limit: Evolution(SPACE, limit, 0, EvolutionConfig(objective="reward")),
    "front": lambda limit: Evolution(SPACE, limit, 0, EvolutionConfig(objective="front")),
    "random": lambda limit: RandomSearch(SPACE, limit, 0),
}


def kernels(member: Member) -> float:
    """What is to be found: large kernels."""
    blocks = [block for stage in member.stages for block in stage]
    return sum(block.kernel == 7 for block in blocks) / len(blocks)


def scored(members: list[Member], generation: int) -> list[Scored]:
    return [
        Scored(
            member=member,
            generation=generation,
            latency_ms=work_of(member),
            size_bytes=4 * count(SPACE.spec(member, 10)).parameters,
            accuracy=kernels(member),
        )
        for member in members
    ]


def searched(way: Sampler, generations: int, count: int = 12) -> list[Scored]:
    log: list[Scored] = []
    for generation in range(generations):
        found = scored(way.ask(count), generation)
        way.tell(found)
        log += found
    return log


@pytest.mark.parametrize("name", WAYS)
def test_all_that_is_asked_for_is_new_and_within_the_limit(name: str) -> None:
    log = searched(WAYS[name](LIMIT), 4)
    assert len({one.member for one in log}) == len(log)
    assert all(one.latency_ms <= LIMIT.limit_ms for one in log)
    for one in log:
        SPACE.check(one.member)


@pytest.mark.parametrize("name", WAYS)
def test_told_its_log_again_it_goes_on_as_before(name: str) -> None:
    first, again = WAYS[name](LIMIT), WAYS[name](LIMIT)
    log = searched(first, 3)
    for generation in range(3):
        again.tell([one for one in log if one.generation == generation])
    assert again.ask(9) == first.ask(9)


def best_accuracy(log: list[Scored]) -> float:
    return max(one.accuracy for one in log)


def best_reward(log: list[Scored]) -> float:
    return max(reward(one.accuracy, one.latency_ms, LIMIT.limit_ms, -0.07) for one in log)


def under_the_front(log: list[Scored]) -> float:
    """Best accuracy within each of a row of latencies, on average."""
    found = front(log)
    reached = [
        max([one.accuracy for one in found if one.latency_ms <= ms], default=0.0)
        for ms in np.linspace(1.0, LIMIT.limit_ms, 30)
    ]
    return float(np.mean(reached))


@pytest.mark.parametrize(
    ("name", "merit"),
    [("evolution", best_accuracy), ("reward", best_reward), ("front", under_the_front)],
)
def test_evolution_finds_more_than_chance_at_equal_evaluations(
    name: str, merit: Callable[[list[Scored]], float]
) -> None:
    by_chance = merit(searched(WAYS["random"](LIMIT), 12))
    assert merit(searched(WAYS[name](LIMIT), 12)) > by_chance + 0.05


def test_evolution_begins_with_what_is_known_and_fast_enough() -> None:
    drawn = RandomSearch(SPACE, LIMIT, 3).ask(2)
    slow = SPACE.largest()
    way = Evolution(SPACE, LIMIT, 0, start=(slow, *drawn, drawn[0]))
    first = way.ask(8)
    assert first[:2] == drawn
    assert slow not in first
    assert len(set(first)) == 8
    way.tell(scored(first, 0))
    assert not set(way.ask(8)) & set(drawn)


def test_seeds_differ() -> None:
    first, second = (Evolution(SPACE, LIMIT, seed).ask(3) for seed in (0, 1))
    assert first != second


def test_limit_below_every_member_names_the_fastest() -> None:
    limit = replace(LIMIT, limit_ms=0.01)
    with pytest.raises(
        BudgetError, match=r"no new one is within 0.01 ms; the fastest takes [\d.]+ ms"
    ):
        RandomSearch(SPACE, limit, 0).ask(1)


def test_space_that_is_used_up_is_told() -> None:
    stages = tuple(
        replace(
            stage,
            depths=stage.depths[:1],
            kernels=(3,),
            expansions=stage.expansions[:1],
            attention=(False,),
            acts=("relu",),
        )
        for stage in SPACE.stages
    )
    space = replace(SPACE, stages=stages, resolutions=(64, 96), widths=(0.5,), acts=("relu",))
    way = RandomSearch(space, LIMIT, 0)
    assert len(set(way.ask(2))) == space.members == 2
    with pytest.raises(BudgetError, match="all within 6 ms that were drawn are known"):
        way.ask(3)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.01, 1.0))
def test_children_are_members(seed: int, probability: float) -> None:
    generator = random.Random(seed)
    one, other = SPACE.sample(generator), SPACE.sample(generator)
    SPACE.check(mutated(SPACE, one, probability, generator))
    child = crossed(one, other, generator)
    SPACE.check(child)
    for stage, theirs, ours in zip(child.stages, one.stages, other.stages, strict=True):
        assert stage in (theirs, ours)


def test_rare_mutations_change_little() -> None:
    generator = random.Random(0)
    one = SPACE.sample(generator)
    unchanged = sum(mutated(SPACE, one, 0.001, generator) == one for _ in range(200))
    assert 160 < unchanged < 200


def made(accuracy: float, latency_ms: float, size_bytes: int = 1) -> Scored:
    return Scored(
        member=SPACE.smallest(),
        generation=0,
        latency_ms=latency_ms,
        size_bytes=size_bytes,
        accuracy=accuracy,
    )


def test_front_is_what_nobody_beats() -> None:
    slow, fast, beaten, same = made(0.9, 3.0), made(0.5, 1.0), made(0.4, 2.0), made(0.9, 3.0)
    assert front([slow, beaten, fast, same]) == [fast, slow]


points = st.tuples(st.integers(0, 5), st.integers(1, 5), st.integers(1, 5))


@given(st.lists(points, min_size=1, max_size=30))
def test_layers_hold_everything_once_and_nothing_in_one_beats_another(
    found: list[tuple[int, int, int]],
) -> None:
    all_scored = [made(a / 10, ms, size) for a, ms, size in found]
    layers = list(fronts(all_scored))
    assert sorted(map(cost, (one for layer in layers for one in layer))) == sorted(
        map(cost, all_scored)
    )
    for layer in layers:
        for one in layer:
            assert not any(beats(cost(other), cost(one)) for other in layer)
    for before, layer in itertools.pairwise(layers):
        for one in layer:
            assert any(
                beats(cost(other), cost(one)) or cost(other) == cost(one) for other in before
            )


def cost(one: Scored) -> tuple[float, float, int]:
    return -one.accuracy, one.latency_ms, one.size_bytes


def beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def test_reward_is_the_paper_s() -> None:
    """MnasNet, section 3: twice the latency is worth 5 % more accuracy, relatively."""
    assert reward(0.5, 80.0, 80.0, -0.07) == 0.5
    assert reward(0.5 * 1.05, 160.0, 80.0, -0.07) == pytest.approx(0.5, rel=0.002)
    with pytest.raises(ConfigError, match=r"exponent=0.07 is out of range; expected -1.0 to 0.0"):
        reward(0.5, 1.0, 1.0, 0.07)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": "size"}, "objective='size' is unknown; expected one of"),
        ({"exponent": 0.5}, "exponent=0.5 is out of range"),
    ],
)
def test_config_refuses_what_is_not_allowed(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(EvolutionConfig(), **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", WAYS)
def test_a_limit_near_the_smallest_member_leaves_more_than_that(name: str) -> None:
    """Drawn evenly, not one of thousands would be within it."""
    smallest_ms = work_of(SPACE.smallest())
    limit = Limit(latency_of=work_of, limit_ms=1.25 * smallest_ms)
    generator = random.Random(0)
    assert not any(limit.holds(SPACE.sample(generator)) for _ in range(300))
    members = WAYS[name](limit).ask(8)
    assert len(set(members)) == 8
    assert all(limit.holds(member) for member in members)
