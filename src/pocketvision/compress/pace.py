"""How fast NetAdapt goes: as asked, or as the time allows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pocketvision.budget import format_time
from pocketvision.errors import BudgetError

MARGIN = 1.3  # proposals and measurements take longer on a machine that others use too
TIMING_S = 4.0  # of new blocks and of the whole network, a step
MIN_BRIEF_STEPS = 5
HURRIED = 0.5  # of the first latency: a step of a narrowing whose time is over
LARGER_STEPS = (0.02, 0.03, 0.05, 0.08)  # of the latency, where the time is short


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How large steps are, how many, of how many proposals, and how long each of these is trained;
    seconds of all of it.
    """

    step: float
    proposals: int
    brief_steps: int
    count: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """Seconds. table_s: of timing what is new, a step. fixed_s: of a proposal whatever its
    training: calibrating its norms, judging it. step_s: of one batch of its training.
    """

    table_s: float
    fixed_s: float
    step_s: float

    def proposal_s(self, brief_steps: int) -> float:
        """Of scoring one proposal."""
        return self.fixed_s + brief_steps * self.step_s


def pace_for(
    step: float,
    brief_steps: int,
    *,
    to_cut: float,
    proposals_of: Callable[[float], int],
    costs: Costs,
    share_s: float | None,
    crew: int = 1,
) -> Pace:
    """The pace asked for; where the time does not hold it, larger steps, then shorter trainings.

    step, brief_steps: asked for. to_cut: share of the latency. proposals_of: how many there are for
    a step of that size; few widths alone can cut a large one. share_s: what there is; None: as much
    as it takes. crew: of workers that score proposals side by side.
    """

    def pace(step: float, brief_steps: int) -> Pace:
        count = max(1, math.ceil(to_cut / step - 1e-9))
        proposals = max(1, proposals_of(step))
        each_s = MARGIN * costs.proposal_s(brief_steps) / crew
        return Pace(
            step=step,
            proposals=proposals,
            brief_steps=brief_steps,
            count=count,
            seconds=count * (costs.table_s + proposals * each_s),
        )

    found = pace(step, brief_steps)
    if share_s is None:
        return found
    fewer = min(brief_steps, MIN_BRIEF_STEPS)
    for shorter in (brief_steps, (brief_steps + fewer) // 2, fewer):
        for larger in (step, *(each for each in LARGER_STEPS if each > step)):
            if larger > step and not proposals_of(larger):
                continue
            found = pace(larger, shorter)
            if found.seconds <= share_s:
                return found
    return found


class TooLittleTime(BudgetError):
    """The time does not hold a narrowing."""


def check_held(pace: Pace, share_s: float | None, *, fixed_s: float, adapting_share: float) -> None:
    """Raises: TooLittleTime: the time does not hold the pace.

    share_s: what there is for it, `adapting_share` of what is left beside `fixed_s`.
    """
    if share_s is None or pace.seconds <= share_s:
        return
    needed_s = fixed_s + pace.seconds / adapting_share
    raise TooLittleTime(
        f"The time is too short: even {pace.count} steps of {pace.step:.1%} with "
        f"{pace.proposals} proposals each take about {format_time(pace.seconds)}. Ask for "
        f"--time {math.ceil(needed_s / 60)}m, or for a less ambitious --latency."
    )
