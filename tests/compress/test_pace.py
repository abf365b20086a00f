"""The pace of a narrowing follows the time there is."""

from __future__ import annotations

import pytest

from pocketvision.compress.pace import MARGIN, Costs, Pace, check_held, pace_for
from pocketvision.errors import BudgetError


def test_pace_is_kept_where_there_is_time_and_quickened_where_there_is_not() -> None:
    def pace(share_s: float | None) -> tuple[float, int]:
        costs = Costs(table_s=4.0, fixed_s=0.1, step_s=0.05)
        found = pace_for(
            0.01, 20, to_cut=0.4, proposals_of=lambda step: 10, costs=costs, share_s=share_s
        )
        assert found.count == pytest.approx(0.4 / found.step)
        return found.step, found.brief_steps

    assert pace(None) == pace(1e6) == (0.01, 20)
    assert pace(400)[0] > 0.01
    assert pace(400)[1] == 20
    assert pace(60)[1] < 20
    assert pace(0) == (0.08, 5)


def test_steps_that_few_widths_can_cut_are_foretold_as_quick() -> None:
    able = {0.01: 20, 0.02: 10, 0.03: 2, 0.05: 0, 0.08: 0}

    def found(share_s: float) -> tuple[float, int, int, int]:
        costs = Costs(table_s=0.0, fixed_s=1.0, step_s=0.0)
        pace = pace_for(
            0.01,
            20,
            to_cut=0.3,
            proposals_of=able.__getitem__,
            costs=costs,
            share_s=share_s,
        )
        return pace.step, pace.proposals, pace.count, round(pace.seconds / MARGIN)

    assert found(30 * MARGIN) == (0.03, 2, 10, 20)
    assert found(0.0)[0] == 0.03  # at a larger one, no width alone could be taken


def test_workers_side_by_side_score_as_many_in_less_time() -> None:
    costs = Costs(table_s=0.0, fixed_s=1.0, step_s=0.0)
    alone, two = (
        pace_for(
            0.1,
            1,
            to_cut=0.3,
            proposals_of=lambda step: 4,
            costs=costs,
            share_s=None,
            crew=crew,
        )
        for crew in (1, 2)
    )
    assert two.seconds == pytest.approx(alone.seconds / 2)


def test_time_that_does_not_hold_the_pace_names_what_would() -> None:
    pace = Pace(step=0.08, proposals=4, brief_steps=5, count=10, seconds=600.0)
    check_held(pace, None, fixed_s=60.0, adapting_share=0.5)
    check_held(pace, 600.0, fixed_s=60.0, adapting_share=0.5)
    with pytest.raises(BudgetError, match=r"even 10 steps of 8.0% with 4 .* about 10 m\. Ask for"):
        check_held(pace, 599.0, fixed_s=60.0, adapting_share=0.5)
    with pytest.raises(BudgetError, match=r"--time 21m, or for a less ambitious --latency"):
        check_held(pace, 1.0, fixed_s=60.0, adapting_share=0.5)
