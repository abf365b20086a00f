"""Members that do most work within a limit, found before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest

from pocketvision.compress import busiest
from pocketvision.compress.busiest import busiest_members
from pocketvision.compress.sampling import Limit, RandomSearch
from pocketvision.measure.count import count
from pocketvision.models.space import Member
from pocketvision.models.spaces import V3_SMALL, familiar, tightened

SPACE = replace(tightened(V3_SMALL), resolutions=(64,), widths=(0.75,))


@cache
def macs(member: Member) -> int:
    return count(SPACE.spec(member, 10)).macs


def latency_ms(member: Member) -> float:
    """Of a device on which every block, attention and h-swish takes time by itself."""
    blocks = [block for stage in member.stages for block in stage]
    extras = sum(block.attention + (block.act == "hswish") for block in blocks)
    return 0.02 * macs(member) / 1e6 + 0.006 * len(blocks) + 0.004 * extras


LIMIT = Limit(latency_of=latency_ms, limit_ms=0.14)


@pytest.fixture(scope="module", autouse=True)
def few_generations() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(busiest, "GENERATIONS", 6)
        yield


@pytest.fixture(scope="module")
def found() -> list[Member]:
    return busiest_members(SPACE, LIMIT, macs, number=4, seed=0, start=familiar(SPACE))


def test_they_are_within_the_limit_and_do_more_than_any_drawn_at_random(
    found: list[Member],
) -> None:
    assert len(set(found)) == 4
    assert all(LIMIT.holds(member) for member in found)
    work = [macs(member) for member in found]
    assert work == sorted(work, reverse=True)
    drawn = RandomSearch(SPACE, LIMIT, seed=1).ask(60)
    assert work[-1] > max(macs(member) for member in drawn)


def test_they_are_the_same_again(found: list[Member]) -> None:
    assert found == busiest_members(SPACE, LIMIT, macs, number=4, seed=0, start=familiar(SPACE))


def test_space_that_is_used_up_ends_it() -> None:
    single = replace(SPACE.stages[0], kernels=(3,), attention=(False,), acts=("relu",))
    small = replace(SPACE, stages=(single,), acts=("relu",))
    assert small.members == 1
    any_of_them = Limit(latency_of=lambda member: 1.0, limit_ms=1.0)
    assert busiest_members(small, any_of_them, lambda member: 1, number=4, seed=0) == []
