"""Evolution in a search space under a hard limit of latency.

Source: Guo et al., Single Path One-Shot Neural Architecture Search, section 3.4 and Algorithm 1:
the best so far are parents; one half of a generation is mutated from one of them, the other crossed
from two; what is over the limit is drawn again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from pocketvision.compress.sampling import (
    REWARD_EXPONENT,
    Limit,
    Scored,
    draw_within,
    fronts,
    generator_of,
    reward,
)
from pocketvision.errors import choice, in_range
from pocketvision.models.space import BlockChoice, Member, SearchSpace, StageSpace, sample_block

Objective = Literal["accuracy", "reward", "front"]
OBJECTIVES: tuple[Objective, ...] = ("accuracy", "reward", "front")
PARENTS = 8  # of a generation
MUTATION = 0.1  # probability of every single choice of a child to be drawn anew
ATTEMPTS = 50  # at a child that is new and within the limit; then a member is drawn
BLOCK_FIELDS = ("kernel", "expansion", "attention", "act")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvolutionConfig:
    """objective: what parents are best by: "accuracy"; "reward", ACC * (LAT / target)^exponent;
    "front": those that fewest others beat in latency, size and accuracy at once.

    Raises: ConfigError: a field outside its range.
    """

    objective: Objective = "accuracy"
    exponent: float = REWARD_EXPONENT

    def __post_init__(self) -> None:
        choice("objective", self.objective, OBJECTIVES)
        in_range("exponent", self.exponent, -1.0, 0.0)


class Evolution:
    """A `Sampler`; its first generation is drawn evenly, behind those of `start` that are within
    the limit."""

    def __init__(
        self,
        space: SearchSpace,
        limit: Limit,
        seed: int,
        config: EvolutionConfig | None = None,
        start: Sequence[Member] = (),
    ) -> None:
        self.space, self.limit, self.seed, self.start = space, limit, seed, start
        self.config = config or EvolutionConfig()
        self.scored: list[Scored] = []
        self.generation = 0

    def ask(self, count: int) -> list[Member]:
        """Raises: BudgetError: no further member is within the limit."""
        generator = generator_of(self.seed, self.generation)
        parents = [one.member for one in self._parents()]
        known = {one.member for one in self.scored}
        begun = [] if self.generation else [one for one in self.start if self.limit.holds(one)]
        children = list(dict.fromkeys(begun))[:count]
        known.update(children)
        for number in range(len(children), count):
            children.append(self._child(parents, number, generator, known))
            known.add(children[-1])
        return children

    def tell(self, scored: Sequence[Scored]) -> None:
        self.scored += scored
        self.generation += 1

    def _parents(self) -> list[Scored]:
        """The best of all generations that are within the limit now, the first of them best."""
        able = [one for one in self.scored if self.limit.holds(one.member)]
        match self.config.objective:
            case "accuracy":
                return sorted(able, key=lambda one: -one.accuracy)[:PARENTS]
            case "reward":
                return sorted(able, key=lambda one: -self._reward(one))[:PARENTS]
            case "front":
                return [one for layer in fronts(able) for one in layer][:PARENTS]

    def _reward(self, one: Scored) -> float:
        return reward(one.accuracy, one.latency_ms, self.limit.limit_ms, self.config.exponent)

    def _child(
        self, parents: list[Member], number: int, generator: random.Random, known: set[Member]
    ) -> Member:
        for _ in range(ATTEMPTS if parents else 0):
            if number % 2 and len(parents) > 1:
                one, other = generator.sample(parents, 2)
                child = crossed(one, other, generator)
            else:
                one = generator.choice(parents)
                child = mutated(self.space, one, MUTATION, generator)
            if child not in known and self.limit.holds(child):
                return child
        return draw_within(self.space, self.limit, generator, known)


def mutated(
    space: SearchSpace, member: Member, probability: float, generator: random.Random
) -> Member:
    """`member` with each of its choices drawn anew by `probability`."""

    def drawn(now: T, choices: Sequence[T]) -> T:
        return generator.choice(choices) if generator.random() < probability else now

    return Member(
        width=drawn(member.width, space.widths),
        resolution=drawn(member.resolution, space.resolutions),
        stages=tuple(
            _mutated_stage(stage, blocks, probability, generator)
            for stage, blocks in zip(space.stages, member.stages, strict=True)
        ),
        act=drawn(member.act, space.acts),
    )


def _mutated_stage(
    stage: StageSpace,
    blocks: tuple[BlockChoice, ...],
    probability: float,
    generator: random.Random,
) -> tuple[BlockChoice, ...]:
    depth = len(blocks)
    if generator.random() < probability:
        depth = generator.choice(stage.depths)
    more = (sample_block(stage, generator) for _ in range(depth - len(blocks)))
    grown = (*blocks[:depth], *more)
    return tuple(_mutated_block(stage, block, probability, generator) for block in grown)


def _mutated_block(
    stage: StageSpace, block: BlockChoice, probability: float, generator: random.Random
) -> BlockChoice:
    fresh = sample_block(stage, generator)
    taken = {name: generator.random() < probability for name in BLOCK_FIELDS}
    return BlockChoice(
        kernel=fresh.kernel if taken["kernel"] else block.kernel,
        expansion=fresh.expansion if taken["expansion"] else block.expansion,
        attention=fresh.attention if taken["attention"] else block.attention,
        act=fresh.act if taken["act"] else block.act,
    )


def crossed(first: Member, second: Member, generator: random.Random) -> Member:
    """Width, resolution, activation and every stage as a whole from one of two members."""

    def either(one: T, other: T) -> T:
        return one if generator.random() < 0.5 else other

    return Member(
        width=either(first.width, second.width),
        resolution=either(first.resolution, second.resolution),
        stages=tuple(either(*pair) for pair in zip(first.stages, second.stages, strict=True)),
        act=either(first.act, second.act),
    )
