"""Proposals: the widest that is fast enough; the choice: least accuracy lost per millisecond."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from pocketvision.compress.netadapt import (
    Proposal,
    Tried,
    best,
    check_reachable,
    narrowest,
    next_target,
    proposals_of_a_step,
    propose,
)
from pocketvision.errors import BudgetError, ConfigError
from pocketvision.measure.count import count
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec
from pocketvision.models.networks import AnySpec
from pocketvision.models.width_groups import resized, width_groups
from pocketvision.models.widths import widths_of

NETWORKS = ("mobilenet_v1", "mobilenet_v3_small", "shufflenet_v2_x0_5", "resnet18")


class Work:
    """A table on which the seed takes 1000 ms, all of it work; it notes how much it was asked."""

    def __init__(self, seed: AnySpec) -> None:
        self.unit = count(seed).macs / 1000
        self.asked: list[int] = []

    def ensure(self, specs: Iterable[AnySpec]) -> None:
        self.asked.append(len(list(specs)))

    def latency_ms(self, spec: AnySpec) -> float:
        return count(spec).macs / self.unit


def seed_of(name: str) -> ArchSpec:
    return registry.spec(name, resolution=32, num_classes=10)


@pytest.mark.parametrize("share", [0.8, 0.97])
@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v3_small", "resnet18"])
def test_proposals_are_the_widest_that_are_fast_enough(name: str, share: float) -> None:
    spec = seed_of(name)
    table = Work(spec)
    proposals = propose(spec, table, 1000 * share)
    proposed = {proposal.group: proposal for proposal in proposals}
    for group in width_groups(spec):
        widths = widths_of(spec, group, 8)
        fast = [w for w in widths if table.latency_ms(resized(spec, group, w)) <= 1000 * share]
        assert (group.name in proposed) == bool(fast)
        if fast:
            found = proposed[group.name]
            assert found.width == max(fast)
            assert found.spec == resized(spec, group, max(fast))
            assert found.latency_ms == table.latency_ms(found.spec) <= 1000 * share


def test_table_is_asked_for_all_groups_at_once() -> None:
    spec = seed_of("mobilenet_v3_small")
    table = Work(spec)
    propose(spec, table, 950)
    assert len(table.asked) <= 8  # halvings of 72 widths of 8, not one by one
    assert table.asked[0] == sum(bool(widths_of(spec, g, 8)) for g in width_groups(spec))


def tried(latency_ms: float, accuracy: float) -> Tried[AnySpec]:
    spec = seed_of("mobilenet_v1")
    proposal = Proposal(group=f"{latency_ms}", width=8, spec=spec, latency_ms=latency_ms)
    return Tried(proposal=proposal, accuracy=accuracy)


def test_the_least_loss_for_each_millisecond_wins() -> None:
    """Not the least loss alone, and not the fastest."""
    small, fair, large = tried(9.9, 0.899), tried(9.0, 0.895), tried(5.0, 0.80)
    assert best([small, fair, large], 0.90, 10.0) is fair
    assert best([small, large], 0.90, 10.0) is small


def test_gain_is_taken_before_any_loss() -> None:
    assert best([tried(9.0, 0.91), tried(5.0, 0.899)], 0.90, 10.0).accuracy == 0.91


def test_targets_fall_by_steps_of_the_seed_and_stop_at_the_budget() -> None:
    assert next_target(90.0, 100.0, 50.0, 0.01) == 89.0
    assert next_target(50.5, 100.0, 50.0, 0.01) == 50.0
    with pytest.raises(ConfigError, match=r"step=0.6 is out of range; expected 0.001 to 0.5"):
        next_target(90.0, 100.0, 50.0, 0.6)


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_leads_beyond_the_narrowest(name: str) -> None:
    spec = narrowest(seed_of(name), 8)
    assert isinstance(spec, ArchSpec)
    assert not any(widths_of(spec, group, 8) for group in width_groups(spec))
    assert propose(spec, Work(spec), 999.0) == []


def test_budget_below_the_narrowest_names_the_nearest() -> None:
    spec = seed_of("mobilenet_v1")
    table = Work(spec)
    check_reachable(spec, table, 900, 8, 950)
    with pytest.raises(BudgetError, match=r"be made as fast as 0.002 ms .* --latency .*ms") as told:
        check_reachable(spec, table, 0.001, 8, 0.002)
    found = re.search(r"--latency ([\d.]+)ms", str(told.value))
    assert found is not None
    enough_ms = float(found[1])
    assert enough_ms > table.latency_ms(narrowest(spec))
    check_reachable(spec, table, enough_ms / 2, 8, enough_ms)


def test_a_step_that_no_width_alone_can_cut_is_halved_until_one_can() -> None:
    spec = seed_of("mobilenet_v1")
    table = Work(spec)

    def found(step: float) -> list[Proposal[AnySpec]]:
        return proposals_of_a_step(
            spec, table, seed_ms=1000.0, budget_ms=1.0, asked_ms=1.0, step=step, multiple=8
        )

    assert propose(spec, table, 500.0) == []
    halves = (propose(spec, table, 1000.0 * (1 - 0.5**n)) for n in range(2, 9))
    assert found(0.5) == next(proposals for proposals in halves if proposals)
    assert found(0.01) == propose(spec, table, 990.0)
    with pytest.raises(BudgetError, match=r"cannot be narrowed further in multiples of 4096\. Ask"):
        proposals_of_a_step(
            spec, table, seed_ms=1000.0, budget_ms=1.0, asked_ms=1.0, step=0.1, multiple=4096
        )
