"""The members of a space that do most work within a limit of latency: known before any is trained.

Latency by a table and work are both sums over blocks. So this is a knapsack in which every block
takes one choice, and dynamic programming over latencies solves it.

Source: of work within the budget, Lin et al., MCUNet, section 3.1.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pocketvision.compress.sampling import Limit
from pocketvision.models.space import BlockChoice, Member, SearchSpace, StageSpace, block_at

STEPS = 2000  # of the latency that there is to choose; each block's is rounded up to one
EASED = 0.97  # of the limit, for the next of several members
NONE = np.int64(-(2**60))  # work that no choices come to

WorkOf = Callable[[Member], int]
Ints = NDArray[np.int64]


def busiest_members(space: SearchSpace, limit: Limit, work: WorkOf, *, number: int) -> list[Member]:
    """The member within the limit that does most, and those that do most in ever less time: so
    many at most, most work first.

    limit: whose latencies are sums over blocks, as `work`, multiply-accumulates, is.
    """
    kinds = [
        _Kind.of(space, width, resolution, limit, work)
        for width, resolution in itertools.product(space.widths, space.resolutions)
    ]
    found: dict[Member, int] = {}
    for times in range(number):
        limit_ms = limit.limit_ms * EASED**times
        packed = (member for kind in kinds for member in kind.busiest(limit_ms))
        within = {member: work(member) for member in packed if limit.holds(member)}
        if within:
            best = max(within, key=within.__getitem__)
            found[best] = within[best]
    return sorted(found, key=lambda member: -found[member])


@dataclass(frozen=True, slots=True)
class _Place:
    """What one block may be: latencies, none below 0, and work, both of each of the choices."""

    latency_ms: NDArray[np.float64]
    work: Ints


@dataclass(frozen=True, slots=True)
class _Stage:
    """places: of its blocks, as many as there may be."""

    depths: tuple[int, ...]
    choices: tuple[BlockChoice, ...]
    places: tuple[_Place, ...]


@dataclass(frozen=True, slots=True)
class _Kind:
    """Members of one multiplier and input side. ends: one with each activation of the ends, and
    what it takes with nothing of what `stages` adds.
    """

    ends: tuple[tuple[Member, float], ...]
    stages: tuple[_Stage, ...]

    @classmethod
    def of(
        cls, space: SearchSpace, width: float, resolution: int, limit: Limit, work: WorkOf
    ) -> _Kind:
        """Price every block that its members may have."""
        usual = Member(
            width=width,
            resolution=resolution,
            stages=tuple((block_at(stage, 0),) * min(stage.depths) for stage in space.stages),
            act=space.acts[0],
        )
        stages, least_ms = [], 0.0
        for number, stage in enumerate(space.stages):
            priced, cheaper_ms = _priced(stage, partial(_cost, usual, number, limit, work))
            stages.append(priced)
            least_ms += cheaper_ms
        ends = [replace(usual, act=act) for act in space.acts]
        return cls(tuple((one, limit.latency_of(one) + least_ms) for one in ends), tuple(stages))

    def busiest(self, limit_ms: float) -> list[Member]:
        """The busiest within the limit, with each activation of the ends that leaves time."""
        return [
            replace(member, stages=_packed(self.stages, limit_ms - least_ms))
            for member, least_ms in self.ends
            if least_ms <= limit_ms
        ]


def _cost(
    usual: Member, number: int, limit: Limit, work: WorkOf, blocks: tuple[BlockChoice, ...]
) -> tuple[float, int]:
    """Latency and work of a member that has these blocks in one stage."""
    stages = (*usual.stages[:number], blocks, *usual.stages[number + 1 :])
    member = replace(usual, stages=stages)
    return limit.latency_of(member), work(member)


def _priced(
    stage: StageSpace, cost: Callable[[tuple[BlockChoice, ...]], tuple[float, int]]
) -> tuple[_Stage, float]:
    """The stage, and what its cheapest blocks take beyond the first choice in the places that it
    always has: a negative number, or 0.

    cost: of a member with these blocks in this stage.
    """
    choices = tuple(block_at(stage, number) for number in range(stage.blocks))
    least, most = min(stage.depths), max(stage.depths)
    usual = choices[0]

    def beyond(forms: Sequence[tuple[BlockChoice, ...]]) -> tuple[NDArray[np.float64], Ints]:
        """What the choices take beyond the first one, each in its form of the stage."""
        costs = [cost(form) for form in forms]
        ms, work = np.array([c[0] for c in costs]), np.array([c[1] for c in costs], np.int64)
        return ms - ms[0], work - work[0]

    ms, work = beyond([(one, *(usual,) * (least - 1)) for one in choices])
    places, cheaper_ms = [_Place(ms - ms.min(), work)], float(ms.min())
    if most > 1:
        ms, work = beyond([(*(usual,) * (most - 1), one) for one in choices])
        places += [_Place(ms - ms.min(), work)] * (least - 1)
        cheaper_ms += (least - 1) * float(ms.min())
        if most > least:
            (more_ms, more), (less_ms, less) = cost((usual,) * most), cost((usual,) * least)
            each_ms, each = (more_ms - less_ms) / (most - least), (more - less) // (most - least)
            places += [_Place(np.maximum(0.0, each_ms + ms), each + work)] * (most - least)
    return _Stage(stage.depths, choices, tuple(places)), cheaper_ms


@dataclass(frozen=True, slots=True)
class _Filled:
    """How a stage comes to every latency. picked, steps: by place, of each choice the latter."""

    stage: _Stage
    depth: Ints
    picked: list[Ints]
    steps: list[Ints]

    def blocks(self, end: int) -> tuple[tuple[BlockChoice, ...], int]:
        """Those that end at a latency, and where they began."""
        found: list[BlockChoice] = []
        for place in reversed(range(int(self.depth[end]))):
            choice = int(self.picked[place][end])
            found.insert(0, self.stage.choices[choice])
            end -= int(self.steps[place][choice])
        return tuple(found), end


def _packed(stages: Sequence[_Stage], left_ms: float) -> tuple[tuple[BlockChoice, ...], ...]:
    """The blocks of all stages that do most work and together take no more than is left."""
    most = np.full(STEPS + 1, NONE)
    most[0] = 0
    filled = []
    for stage in stages:
        most, one = _fill(stage, most, left_ms / STEPS)
        filled.append(one)
    found: list[tuple[BlockChoice, ...]] = []
    end = int(np.argmax(most))
    for one in reversed(filled):
        blocks, end = one.blocks(end)
        found.insert(0, blocks)
    return tuple(found)


def _fill(stage: _Stage, most: Ints, step_ms: float) -> tuple[Ints, _Filled]:
    """The most work for every latency behind a stage, given that before it."""
    by_depth: dict[int, Ints] = {}
    picked, steps = [], []
    for depth, place in enumerate(stage.places, start=1):
        costs = np.ceil(place.latency_ms / step_ms) if step_ms > 0 else 0 * place.latency_ms
        taken = np.where(costs <= STEPS, costs, STEPS + 1).astype(np.int64)
        ways = np.full((len(taken), STEPS + 1), NONE)
        for choice, (cost, work) in enumerate(zip(taken, place.work, strict=True)):
            before = most[: max(0, STEPS + 1 - cost)]
            ways[choice, cost:] = np.where(before > NONE, before + work, NONE)
        picked.append(ways.argmax(axis=0))
        steps.append(taken)
        most = ways.max(axis=0)
        if depth in stage.depths:
            by_depth[depth] = most
    depths, ends = np.array(list(by_depth)), np.stack(list(by_depth.values()))
    return ends.max(axis=0), _Filled(stage, depths[ends.argmax(axis=0)], picked, steps)
