"""The recurrent controller: what it asks for, that its log rebuilds it, that it learns."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from pocketvision.compress.controller import (
    BATCH,
    CLIP,
    Controller,
    clipped_gain,
    decisions_of,
    decode,
    encode,
)
from pocketvision.compress.sampling import Limit, RandomSearch, Sampler, Scored
from pocketvision.errors import BudgetError, ConfigError
from pocketvision.models.space import BlockChoice, Member, SearchSpace, StageSpace
from pocketvision.models.spaces import V3_SMALL

SMALL = SearchSpace(
    name="small",
    stages=(
        StageSpace(c_out=16, stride=2, depths=(3, 1)),  # the deepest need not come last
        StageSpace(c_out=24, stride=2, expansions=(1.0, 3.0), acts=("relu",)),
    ),
    last=64,
    hidden=32,
    widths=(0.5, 1.0),
    resolutions=(32, 48),
)
TARGET_MS = 10.0


def blocks_of(member: Member) -> list[BlockChoice]:
    return [block for stage in member.stages for block in stage]


def latency_of(member: Member) -> float:
    return sum(block.kernel * block.expansion for block in blocks_of(member)) / 10


def share_of_kernel_5(member: Member) -> float:
    kernels = [block.kernel for block in blocks_of(member)]
    return kernels.count(5) / len(kernels)


LIMIT = Limit(latency_of=latency_of, limit_ms=TARGET_MS)
NO_LIMIT = Limit(latency_of=lambda member: 1.0, limit_ms=1.0)


def controller(space: SearchSpace = SMALL, limit: Limit = LIMIT, seed: int = 0) -> Controller:
    return Controller(space, limit, seed, target_ms=TARGET_MS)


def search(
    sampler: Sampler,
    limit: Limit,
    generations: int,
    accuracy_of: Callable[[Member], float] = share_of_kernel_5,
    count: int = 16,
) -> list[list[Scored]]:
    log = []
    for generation in range(generations):
        log.append(
            [
                Scored(
                    member=member,
                    generation=generation,
                    latency_ms=limit.latency_of(member),
                    size_bytes=1,
                    accuracy=accuracy_of(member),
                )
                for member in sampler.ask(count)
            ]
        )
        sampler.tell(log[-1])
    return log


def mean_accuracy(log: list[list[Scored]]) -> float:
    return statistics.fmean(one.accuracy for generation in log for one in generation)


def test_members_are_new_in_the_space_and_within_the_limit() -> None:
    log = search(controller(), LIMIT, generations=6)
    members = [one.member for generation in log for one in generation]
    assert len(set(members)) == len(members) == 6 * 16
    for member in members:
        SMALL.check(member)
        assert latency_of(member) <= LIMIT.limit_ms


def test_told_the_same_log_it_goes_on_the_same() -> None:
    first = controller()
    log = search(first, LIMIT, generations=3)
    again = controller()
    for generation in log:
        again.tell(generation)  # without having been asked
    assert again.ask(16) == again.ask(16) == first.ask(16)


def test_seed_and_log_decide_what_is_asked_for() -> None:
    assert controller(seed=0).ask(8) != controller(seed=1).ask(8)
    first, other = controller(), controller()
    (told,) = search(first, LIMIT, generations=1)
    other.tell([replace(one, accuracy=1 - one.accuracy) for one in told])
    assert first.ask(16) != other.ask(16)


def test_it_learns_what_random_search_does_not() -> None:
    """In 10 generations of 16; the mean over the last three."""
    learned = search(controller(V3_SMALL, NO_LIMIT), NO_LIMIT, generations=10)
    drawn = search(RandomSearch(V3_SMALL, NO_LIMIT, 0), NO_LIMIT, generations=10)
    by_chance = mean_accuracy(drawn)
    assert mean_accuracy(learned[:1]) == pytest.approx(by_chance, abs=0.1)
    assert mean_accuracy(learned[-3:]) > by_chance + 0.4


def test_latency_counts_as_the_exponent_says() -> None:
    """All are as accurate, so that the fastest have the best reward."""
    limit = Limit(latency_of=latency_of, limit_ms=100.0)
    sampler = Controller(SMALL, limit, 0, target_ms=TARGET_MS, exponent=-0.5)
    log = search(sampler, limit, generations=10, accuracy_of=lambda member: 0.5)
    first, last = (sum(one.latency_ms for one in log[place]) for place in (0, -1))
    assert last < 0.8 * first


def test_policy_does_not_drift_beyond_the_limit() -> None:
    """The slowest are the most accurate, and what is too slow is never told."""
    limit = Limit(latency_of=latency_of, limit_ms=7.0)
    sampler = Controller(SMALL, limit, 0, target_ms=7.0, exponent=0.0)
    search(sampler, limit, generations=8, accuracy_of=lambda member: latency_of(member) / 10)
    drawn = sampler.policy.sample(BATCH, torch.Generator().manual_seed(0)).tolist()
    members = [decode(SMALL, sampler.decisions, choices) for choices in drawn]
    assert sum(map(limit.holds, members)) > BATCH / 3


def test_space_of_one_member_is_asked_for_once() -> None:
    stage = StageSpace(
        c_out=16, stride=2, depths=(2,), kernels=(3,), expansions=(3.0,), attention=(True,),
        acts=("relu",),
    )  # fmt: skip
    space = replace(SMALL, stages=(stage,), widths=(1.0,), resolutions=(32,))
    sampler = controller(space, NO_LIMIT)
    ((only,),) = search(sampler, NO_LIMIT, generations=1, count=1)
    assert only.member == space.smallest() == space.largest()
    assert all(parameter.isfinite().all() for parameter in sampler.policy.parameters())
    with pytest.raises(BudgetError, match="small is used up: all within 1 ms"):
        sampler.ask(1)


def test_every_member_is_found_where_the_policy_has_few_left() -> None:
    """A space of 144 members; what the policy does not draw, chance does."""
    space = replace(SMALL, stages=(StageSpace(c_out=16, stride=2, depths=(1,)),))
    assert space.members == 144
    log = search(controller(space, NO_LIMIT), NO_LIMIT, generations=9)
    assert len({one.member for generation in log for one in generation}) == 144


def test_limit_that_nothing_meets_is_refused() -> None:
    limit = Limit(latency_of=latency_of, limit_ms=0.1)
    with pytest.raises(BudgetError, match=r"within 0\.1 ms; the fastest takes"):
        controller(limit=limit).ask(1)


def test_global_random_state_is_untouched() -> None:
    before = torch.get_rng_state()
    search(controller(), LIMIT, generations=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_members_are_sequences_and_back() -> None:
    decisions = decisions_of(SMALL)
    for member in RandomSearch(SMALL, NO_LIMIT, 0).ask(50):
        assert decode(SMALL, decisions, encode(SMALL, decisions, member)) == member


def test_sampled_sequences_have_nothing_beyond_the_depth() -> None:
    sampler = controller()
    choices = sampler.policy.sample(20, torch.Generator().manual_seed(0))
    for row in choices.tolist():
        member = decode(SMALL, sampler.decisions, row)
        assert encode(SMALL, sampler.decisions, member) == row
    used = sampler.policy.used(choices).sum(1).tolist()
    members = [decode(SMALL, sampler.decisions, row) for row in choices.tolist()]
    assert used == [3 + len(SMALL.stages) + 4 * len(blocks_of(member)) for member in members]


def test_probabilities_are_those_that_are_drawn_from() -> None:
    """The whole sequence read at once gives what sampling step by step does."""
    policy = controller().policy
    choices = policy.sample(2000, torch.Generator().manual_seed(0))
    with torch.no_grad():
        probs = policy(choices).exp()
    assert probs.sum(-1) == pytest.approx(1.0, abs=1e-5)
    assert (probs * ~policy.offered).max() == 0
    place = 3  # the kernel of the first block
    drawn = torch.nn.functional.one_hot(choices[:, place], probs.shape[-1]).float().mean(0)
    assert drawn == pytest.approx(probs[:, place].mean(0), abs=0.04)


@pytest.mark.parametrize(
    ("ratio", "advantage", "gain"),
    [
        (1.5, 1.0, 1 + CLIP),
        (0.5, 1.0, 0.5),
        (1.5, -1.0, -1.5),
        (0.5, -1.0, -(1 - CLIP)),
    ],
)
def test_gain_is_clipped_as_ppo_does(ratio: float, advantage: float, gain: float) -> None:
    found = clipped_gain(torch.tensor([[ratio]]), torch.tensor([[advantage]]))
    assert found.item() == pytest.approx(gain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_ms": 0.0}, "target_ms=0.0 is out of range"),
        ({"exponent": 0.07}, r"exponent=0.07 is out of range; expected -1.0 to 0.0"),
        ({"target_ms": math.nan}, "target_ms=nan is out of range"),
    ],
)
def test_number_outside_what_is_allowed_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Controller(SMALL, LIMIT, 0, **{"target_ms": TARGET_MS, **change})
