"""What every way to search a space has in common: asked for members, told how they did.

Whatever a method draws depends on its seed and on what it was told alone, so that the log of all
scores is all there is to keep: told the log again, a method goes on as if it had never stopped.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from pocketvision.errors import BudgetError, in_range
from pocketvision.models.space import BlockChoice, Member, SearchSpace

REWARD_EXPONENT = -0.07  # alpha and beta of MnasNet
MAX_DRAWS = 400  # until one is within the limit
EVEN_DRAWS = 20  # of these, before choices of the smallest member are mixed in
MORE_A_DRAW = 0.01  # of them, up to
MOST_OF_THE_SMALLEST = 0.95

LatencyOf = Callable[[Member], float]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """A member with its latency, the bytes of its weights, and its accuracy (0..1).

    generation: the one that asked for it.
    """

    member: Member
    generation: int
    latency_ms: float
    size_bytes: int
    accuracy: float


class Sampler(Protocol):
    """A method of search."""

    def ask(self, count: int) -> list[Member]:
        """The members of the next generation, none of them asked for before."""
        ...

    def tell(self, scored: Sequence[Scored]) -> None:
        """All members of one generation with their scores, in the order they were asked for."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """A hard limit of latency. Every member that is asked for is within it."""

    latency_of: LatencyOf
    limit_ms: float

    def holds(self, member: Member) -> bool:
        """Whether the member is fast enough."""
        return self.latency_of(member) <= self.limit_ms


def reward(accuracy: float, latency_ms: float, target_ms: float, exponent: float) -> float:
    """ACC * (LAT / TAR)^w, with the same w on both sides of the target.

    Source: Tan et al., MnasNet, section 3, equation 2, alpha = beta = -0.07.

    Raises: ConfigError: an exponent outside -1..0.
    """
    in_range("exponent", exponent, -1.0, 0.0)
    return accuracy * float((latency_ms / target_ms) ** exponent)


def front(scored: Sequence[Scored]) -> list[Scored]:
    """Those that no other beats in both latency and accuracy, the fastest first."""
    found: list[Scored] = []
    for one in sorted(scored, key=lambda one: (one.latency_ms, -one.accuracy)):
        if not found or one.accuracy > found[-1].accuracy:
            found.append(one)
    return found


def fronts(scored: Sequence[Scored]) -> Iterator[list[Scored]]:
    """Layers: those that no other beats in latency, size and accuracy at once, then those that only
    the first layer beats, and so on. Within a layer, the most accurate comes first.

    Source: Deb et al., NSGA-II, section III-A.
    """
    left = sorted(scored, key=lambda one: (-one.accuracy, one.latency_ms, one.size_bytes))
    costs = np.array([[-one.accuracy, one.latency_ms, one.size_bytes] for one in left])
    while left:
        # What beats one stands before it in this order, and the first to be beaten by stays.
        kept: list[int] = []
        for place, cost in enumerate(costs):
            if not any((costs[better] <= cost).all() for better in kept):
                kept.append(place)
        yield [left[place] for place in kept]
        beaten = sorted(set(range(len(left))) - set(kept))
        left, costs = [left[place] for place in beaten], costs[beaten]


def generator_of(seed: int, generation: int) -> random.Random:
    """The random numbers of one generation, whatever came before."""
    return random.Random(f"{seed} {generation}")


def draw_within(
    space: SearchSpace, limit: Limit, generator: random.Random, known: set[Member]
) -> Member:
    """A new member within the limit: drawn evenly, and again where it is too slow.

    Where the limit is near the smallest member, hardly any that is drawn evenly is within it: from
    the 20th draw on, more and more of the choices are those of the smallest.

    Raises: BudgetError: none was found, and the fastest that was seen is named.
    """
    smallest = space.smallest()
    fastest: float | None = None
    for number in range(MAX_DRAWS):
        share = min(MORE_A_DRAW * max(0, number - EVEN_DRAWS), MOST_OF_THE_SMALLEST)
        member = blended(smallest, space.sample(generator), share, generator)
        if member in known:
            continue
        latency_ms = limit.latency_of(member)
        if latency_ms <= limit.limit_ms:
            return member
        fastest = min(latency_ms, fastest or latency_ms)
    if fastest is None:
        raise BudgetError(
            f"{space.name} is used up: all within {limit.limit_ms:.3g} ms that were drawn are "
            "known. Ask for fewer evaluations, or for a larger space."
        )
    raise BudgetError(
        f"{MAX_DRAWS} members of {space.name} were drawn, and no new one is within "
        f"{limit.limit_ms:.3g} ms; the fastest takes {fastest:.3g} ms. Ask for a higher --latency, "
        "for another --space, or for a lower --resolution."
    )


def blended(smallest: Member, other: Member, share: float, generator: random.Random) -> Member:
    """`other` with each of its choices as in the smallest member, by that probability."""

    def either(small: T, large: T) -> T:
        return small if generator.random() < share else large

    def block(small: BlockChoice, large: BlockChoice) -> BlockChoice:
        return BlockChoice(
            kernel=either(small.kernel, large.kernel),
            expansion=either(small.expansion, large.expansion),
            attention=either(small.attention, large.attention),
            act=either(small.act, large.act),
        )

    stages = []
    for few, many in zip(smallest.stages, other.stages, strict=True):
        depth = either(len(few), len(many))
        stages.append(tuple(block(few[0], large) for large in many[:depth]))
    return Member(
        width=either(smallest.width, other.width),
        resolution=either(smallest.resolution, other.resolution),
        stages=tuple(stages),
        act=either(smallest.act, other.act),
    )


class RandomSearch:
    """Members within the limit, drawn as `draw_within` does."""

    def __init__(self, space: SearchSpace, limit: Limit, seed: int) -> None:
        self.space, self.limit, self.seed = space, limit, seed
        self.generation = 0
        self.known: set[Member] = set()

    def ask(self, count: int) -> list[Member]:
        generator = generator_of(self.seed, self.generation)
        asked: set[Member] = set()
        members: list[Member] = []
        for _ in range(count):
            members.append(draw_within(self.space, self.limit, generator, self.known | asked))
            asked.add(members[-1])
        return members

    def tell(self, scored: Sequence[Scored]) -> None:
        self.generation += 1
        self.known.update(one.member for one in scored)
