"""Members that do most work within a limit, found before anything is trained."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketvision.compress.busiest import EASED, STEPS, busiest_members
from pocketvision.compress.sampling import Limit, RandomSearch
from pocketvision.measure.count import count
from pocketvision.models.space import BlockChoice, Member, SearchSpace, block_at
from pocketvision.models.spaces import V3_SMALL, tightened

SPACE = replace(tightened(V3_SMALL), resolutions=(64,), widths=(0.75,))
FEW = replace(
    SPACE,
    stages=tuple(
        replace(stage, depths=depths, expansions=(3.0, 6.0), attention=(False,), acts=("relu",))
        for stage, depths in zip(SPACE.stages[:3], ((1,), (2,), (1, 3)), strict=True)
    ),
    widths=(0.5, 1.0),
)
FEW = replace(FEW, stages=tuple(replace(stage, kernels=(3,)) for stage in FEW.stages))


@cache
def macs(member: Member) -> int:
    return count(SPACE.spec(member, 10)).macs


def latency_ms(member: Member) -> float:
    """Of a device on which every block, attention and h-swish takes time by itself."""
    blocks = [block for stage in member.stages for block in stage]
    extras = sum(block.attention + (block.act == "hswish") for block in blocks)
    return 0.02 * macs(member) / 1e6 + 0.006 * len(blocks) + 0.004 * extras


LIMIT = Limit(latency_of=latency_ms, limit_ms=0.14)


def all_members(space: SearchSpace) -> Iterator[Member]:
    stages = [
        [
            blocks
            for depth in stage.depths
            for blocks in itertools.product(
                [block_at(stage, number) for number in range(stage.blocks)], repeat=depth
            )
        ]
        for stage in space.stages
    ]
    for width, side, act in itertools.product(space.widths, space.resolutions, space.acts):
        for chosen in itertools.product(*stages):
            yield Member(width=width, resolution=side, stages=chosen, act=act)


@cache
def drawn(what: str) -> float:
    return random.Random(what).uniform(0.1, 1)


@dataclass(frozen=True)
class Priced:
    """Prices drawn by a seed; the first block of a stage has prices of its own."""

    seed: int

    def latency_ms(self, member: Member) -> float:
        ends = self._drawn(member.width, member.act)
        return ends + sum(self._drawn(*block) for block in self._blocks(member))

    def work(self, member: Member) -> int:
        ends = int(1e6 * self._drawn("work", member.width))
        blocks = (int(1e6 * self._drawn("work", *block)) for block in self._blocks(member))
        return ends + sum(blocks)

    def _blocks(self, member: Member) -> Iterator[tuple[float, int, bool, BlockChoice]]:
        for number, stage in enumerate(member.stages):
            for place, block in enumerate(stage):
                yield member.width, number, place == 0, block

    def _drawn(self, *what: object) -> float:
        return drawn(f"{self.seed} {what}")


@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
def test_no_member_that_is_within_does_more(seed: int, share: float) -> None:
    """But for what the latencies of blocks are rounded up."""
    members, priced = list(all_members(FEW)), Priced(seed)
    assert len(members) == FEW.members
    taken = {one: priced.latency_ms(one) for one in members}
    least, most = min(taken.values()), max(taken.values())
    limit = Limit(latency_of=taken.__getitem__, limit_ms=least + share * (most - least) + 1e-9)
    (found,) = busiest_members(FEW, limit, priced.work, number=1)
    assert limit.holds(found)
    rounded_ms = 6 * limit.limit_ms / STEPS  # six blocks at most
    rivals = [one for one in members if taken[one] <= limit.limit_ms - rounded_ms]
    assert priced.work(found) >= max(map(priced.work, rivals), default=0)


@pytest.fixture(scope="module")
def found() -> list[Member]:
    return busiest_members(SPACE, LIMIT, macs, number=4)


def test_they_are_within_the_limit_and_do_more_than_any_drawn_at_random(
    found: list[Member],
) -> None:
    assert len(set(found)) == 4
    assert all(LIMIT.holds(member) for member in found)
    work = [macs(member) for member in found]
    assert work == sorted(work, reverse=True)
    drawn = RandomSearch(SPACE, LIMIT, seed=1).ask(60)
    assert work[-1] > max(macs(member) for member in drawn)


def test_each_takes_less_than_the_one_before(found: list[Member]) -> None:
    limits = [LIMIT.limit_ms * EASED**times for times in range(4)]
    assert all(latency_ms(one) <= limit for one, limit in zip(found, limits, strict=True))
    assert latency_ms(found[0]) > limits[1]


def test_space_of_one_member_has_no_other() -> None:
    single = replace(SPACE.stages[0], kernels=(3,), attention=(False,), acts=("relu",))
    small = replace(SPACE, stages=(single,), acts=("relu",))
    assert small.members == 1
    any_of_them = Limit(latency_of=lambda member: 1.0, limit_ms=1.0)
    assert busiest_members(small, any_of_them, lambda member: 1, number=4) == [small.smallest()]
    none_of_them = Limit(latency_of=lambda member: 1.0, limit_ms=0.5)
    assert busiest_members(small, none_of_them, lambda member: 1, number=4) == []
