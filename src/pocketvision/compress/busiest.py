"""The members of a space that do most work within a limit of latency: known before any is trained.

Source: of work within the budget, Lin et al., MCUNet, section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pocketvision.compress.evolution import Evolution
from pocketvision.compress.sampling import Limit, Scored
from pocketvision.errors import BudgetError
from pocketvision.models.space import Member, SearchSpace

GENERATIONS, ASKED = 40, 32


def busiest_members(
    space: SearchSpace,
    limit: Limit,
    work: Callable[[Member], int],
    *,
    number: int,
    seed: int,
    start: Sequence[Member] = (),
) -> list[Member]:
    """So many members within the limit that do most, as far as evolution finds them, most first.

    work: multiply-accumulates of a member. start: members to begin with. Fewer, or none, of a space
    that is used up on the way: a search scores all of it.
    """
    sampler = Evolution(space, limit, seed, start=start)
    found: dict[Member, int] = {}
    for generation in range(GENERATIONS):
        try:
            members = sampler.ask(ASKED)
        except BudgetError:  # the space is used up
            break
        done = {member: work(member) for member in members}
        sampler.tell([_as_score(member, done[member], generation, limit) for member in members])
        found |= done
    return sorted(found, key=lambda member: -found[member])[:number]


def _as_score(member: Member, work: int, generation: int, limit: Limit) -> Scored:
    """Work in the place of accuracy, which evolution makes as large as it can."""
    return Scored(
        member=member,
        generation=generation,
        latency_ms=limit.latency_of(member),
        size_bytes=0,
        accuracy=work,
    )
