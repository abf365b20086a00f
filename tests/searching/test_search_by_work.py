"""A search that trains nothing before it has found: what it finds, and what it trains."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ideal_search import MACS_A_MS, CrookedTable, state_of
from mortal import Killed, dying
from small_runs import Told
from tiny_space import ONE_STAGE

from pocketvision.budget import Budget
from pocketvision.errors import BudgetError, ConfigError, GateError
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.training import FINE_TUNING_RATE
from pocketvision.measure.count import count
from pocketvision.models.narrow import largest_first
from pocketvision.models.spaces import find_space
from pocketvision.models.supernet import Supernet
from pocketvision.models.weights import load_classifier, load_weights, save
from pocketvision.searching import search_arms, search_by_work, search_start
from pocketvision.searching.search import run_search
from pocketvision.searching.search_by_work import TIMED
from pocketvision.searching.search_config import SearchConfig
from pocketvision.searching.search_log import LOG
from pocketvision.searching.search_plan import TooShort, arms_of, plan_by_work
from pocketvision.searching.search_run import Searching

pytestmark = pytest.mark.usefixtures("ideal")


@pytest.fixture(scope="module")
def by_work(config: SearchConfig) -> SearchConfig:
    return replace(config, method="work", supernet_steps=None, evaluations=None)


@pytest.mark.usefixtures("alone")
def test_nothing_within_the_limit_does_more_than_what_is_found(
    by_work: SearchConfig, tmp_path: Path
) -> None:
    run_search(by_work, tmp_path / "out", told := Told())
    state, generator = state_of(tmp_path / "out"), random.Random(7)
    assert state.found is not None
    drawn = (state.space.sample(generator) for _ in range(300))
    works = [count(state.space.spec(member, 2)).macs for member in drawn]
    most = max(macs for macs in works if macs <= MACS_A_MS * state.limit_ms)
    found = count(state.space.spec(state.found.member, 2)).macs
    assert most <= found <= MACS_A_MS * state.limit_ms
    assert any(f"ms, {found:,} multiply-accumulates." in one for one in told.sentences)


@pytest.mark.usefixtures("alone")
def test_what_is_timed_whole_sets_the_limit_right(
    by_work: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_start, "ScaledTable", CrookedTable)
    run_search(by_work, tmp_path / "out")
    state = state_of(tmp_path / "out")
    assert state.found is not None
    assert len(state.finalists) > TIMED
    assert {one.timed_in for one in state.finalists} > {0}
    assert max(one.latency.median_ms for one in state.finalists) > state.limit_ms
    assert state.found.latency.median_ms <= state.limit_ms


@pytest.mark.usefixtures("alone")
def test_where_nothing_timed_is_within_the_limit_the_fastest_is_found(
    by_work: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_by_work, "able_finalists", lambda *arguments: [])
    run_search(by_work, tmp_path / "out")
    state = state_of(tmp_path / "out")
    assert state.found == min(state.finalists, key=lambda one: one.latency.median_ms)


@pytest.mark.usefixtures("alone")
def test_death_at_any_measurement_comes_to_the_same(
    by_work: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_start, "ScaledTable", CrookedTable)
    run_search(by_work, tmp_path / "whole")
    deaths, calls = 0, [0]
    while True:
        with monkeypatch.context() as patch:
            dies: Any = dying(Searching.save, calls, after=3)
            patch.setattr(Searching, "save", dies)
            try:
                run_search(by_work, tmp_path / "mortal")
                break
            except Killed:
                deaths, calls = deaths + 1, [0]
    assert deaths >= 2
    states = [state_of(tmp_path / name) for name in ("whole", "mortal")]
    assert states[0].finalists == states[1].finalists
    assert states[0].found == states[1].found
    assert not any((tmp_path / name / "searching" / LOG).exists() for name in ("whole", "mortal"))


def test_what_was_found_is_trained_from_scratch_without_a_teacher(
    by_work: SearchConfig, tmp_path: Path
) -> None:
    artefact = run_search(by_work, tmp_path / "out", told := Told())
    record, state = artefact.record, state_of(tmp_path / "out")
    assert state.found is not None
    assert record.network.start == "from scratch"
    assert record.network.label == state.space.spec(state.found.member, 2).label
    assert artefact.state.config.teacher is None
    found = record.search
    assert found is not None
    assert (found.method, found.supernet_steps, found.held_out, found.scored) == ("work", 0, 0, ())
    assert [arm.name for arm in found.arms] == ["search"]
    assert sum("is trained, from scratch. 1 arm: search." in one for one in told.sentences) == 1
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Nothing was trained before the network was found" in report
    assert "Shared weights" not in report
    assert not any("Weights of" in one for one in told.sentences)
    built = state.space.spec(state.found.member, 2).build(seed=by_work.seed)
    network, file = load_classifier(tmp_path / "out" / "searching" / "found")
    assert not file.trained
    assert all(
        value.equal(network.state_dict()[name]) for name, value in built.state_dict().items()
    )
    assert not load_weights(built, tmp_path / "out" / "searching" / "found").trained


def test_what_was_found_begins_with_its_share_of_weights(
    by_work: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[FitConfig]()

    def refuse(config: FitConfig, *rest: Any, **named: Any) -> None:
        asked.append(config)
        raise GateError("It is too slow.")

    assert by_work.space is not None
    space = find_space(by_work.space)
    largest = space.spec(space.largest(), 2).build(seed=5)
    save(largest, tmp_path / "weights", classes=("a", "b"))
    monkeypatch.setattr(search_arms, "run_fit", refuse)
    config, out = replace(by_work, weights=str(tmp_path / "weights")), tmp_path / "out"
    with pytest.raises(GateError, match=r"search: It is too slow\."):
        run_search(config, out, told := Told())
    assert any("is trained, from its share of the weights." in one for one in told.sentences)
    state = state_of(out)
    assert state.found is not None
    shared = Supernet(space, 2).eval()
    shared.adopt(largest_first(largest))
    network, file = load_classifier(out / "searching" / "found")
    assert file.trained
    expected = shared.extract(state.found.member)
    assert all(
        value.equal(network.state_dict()[name]) for name, value in expected.state_dict().items()
    )
    (fit,) = asked
    assert (Path(fit.weights or "").name, fit.learning_rate) == ("found", FINE_TUNING_RATE)


def test_a_space_of_few_members_is_enough(by_work: SearchConfig, tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text(ONE_STAGE)
    asked = replace(by_work, space=str(path), budget=Budget(latency_ms=1e6))
    run_search(asked, tmp_path / "out")
    state = state_of(tmp_path / "out")
    assert state.found is not None
    assert state.found.member == find_space(str(path)).largest()
    assert {one.member for one in state.finalists} == {
        state.found.member,
        state.space.smallest(),
    }


def test_arms_hold_no_random_search(by_work: SearchConfig) -> None:
    assert arms_of(by_work) == ("search",)
    assert arms_of(replace(by_work, baselines="all")) == ("search", "multipliers", "published")


def test_options_of_shared_weights_are_refused(by_work: SearchConfig) -> None:
    message = r"--method work trains no supernet .*; leave --supernet-steps, --evaluations away, or"
    with pytest.raises(ConfigError, match=message):
        replace(by_work, evaluations=3, supernet_steps=3)
    with pytest.raises(ConfigError, match=r"leave --evaluations, --workers, --objective away"):
        replace(by_work, evaluations=3, workers=2, objective="front")


def test_time_that_leaves_nothing_for_training_is_refused() -> None:
    with pytest.raises(TooShort, match=r"has 60 s, and timing blocks .* take 80 s\. .* 3m more"):
        plan_by_work(arms=2, arm_s=60.0, finish_s=50.0, spent_s=30.0)
    plan = plan_by_work(arms=2, arm_s=600.0, finish_s=50.0, spent_s=30.0)
    assert (plan.supernet_steps, plan.evaluations, plan.generations) == (0, 0, 0)
    assert (plan.before_s, plan.arm_s, plan.netadapt) == (30.0, 600, False)
    assert plan_by_work(arms=1, arm_s=None, finish_s=50.0).arm_s is None


def test_time_is_refused_before_blocks_are_timed(by_work: SearchConfig, tmp_path: Path) -> None:
    hurried = replace(by_work, budget=Budget(latency_ms=200.0, time_s=10.0))
    with pytest.raises(BudgetError, match=r"too short for a search: its arm has .* s, and timing"):
        run_search(hurried, tmp_path / "out")
    assert not (tmp_path / "out").exists()
