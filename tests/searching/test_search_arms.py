"""The arms of a search: what each is given, and what comes of those that fail."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ideal_search import state_of
from small_runs import Told

from pocketvision.budget import Budget
from pocketvision.compress.pace import TooLittleTime
from pocketvision.errors import BudgetError, GateError, NoisyError
from pocketvision.fitting.artefact import Artefact, load, read_state
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.reporter import Silent
from pocketvision.measure.latency import PLANNING
from pocketvision.models import registry
from pocketvision.models.weights import load_classifier
from pocketvision.record.words import Sampling
from pocketvision.searching import (
    arms_in_turns,
    finalists,
    search,
    search_arms,
    search_ship,
    search_start,
)
from pocketvision.searching.search import run_search
from pocketvision.searching.search_config import Finalist, SearchConfig
from pocketvision.searching.search_log import ScoreLog
from pocketvision.searching.search_rivals import Planner
from pocketvision.searching.search_run import Searching
from pocketvision.searching.search_scoring import score_members
from pocketvision.storage import to_json, write_into

pytestmark = pytest.mark.usefixtures("ideal")


def test_time_of_an_arm_that_was_killed_counts(shipped: Artefact) -> None:
    state, arms = state_of(shipped.folder), shipped.folder / "searching" / "arms"
    spent_s = load(arms / "search").state.spent_s
    assert spent_s > 0
    assert search_start._spent_s(state, arms) == state.spent_s
    running = replace(state, arms=(), arm_begun_s=1000.0, spent_s=1000.0)
    assert search_start._spent_s(running, arms) == pytest.approx(1000 + spent_s)
    told = replace(running, spent_s=5000.0)  # one that ended by itself wrote all of it
    assert search_start._spent_s(told, arms) == 5000.0


def test_random_search_has_an_arm_of_its_own_with_the_same_time(
    config: SearchConfig, searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends as that of the search does, from its own network, taught by the same."""
    asked: dict[str, FitConfig] = {}

    def refuse(config: FitConfig, folder: Path, *rest: Any, **named: Any) -> None:
        asked[folder.name] = config
        raise GateError("It is too slow.")

    def without(*arguments: object, **named: object) -> None:
        raise BudgetError("No network meets 200 ms.")

    def scored(searching: Searching, log: ScoreLog, deadline: float | None, **named: Any) -> None:
        score_members(searching, log, deadline, **named)
        better = {"evolution": 0.5, "random": 0.0}
        log.entries = [replace(e, accuracy=e.accuracy + better[e.origin]) for e in log.entries]

    monkeypatch.setattr(Planner, "among", without)
    monkeypatch.setattr(search, "score_members", scored)
    monkeypatch.setattr(search_arms, "run_fit", refuse)
    out = tmp_path / "out"
    everything = replace(config, baselines="all", budget=Budget(latency_ms=200.0, time_s=3600.0))
    with pytest.raises(GateError, match=r"random: It is too slow\."):
        run_search(everything, out, told := Told())
    state = state_of(out)
    assert state.found is not None
    assert state.drawn is not None
    assert state.found.member != state.drawn.member
    assert any("2 arms" in one and "search, random." in one for one in told.sentences)
    assert list(asked) == ["search", "random"]
    for name, one in (("found", state.found), ("drawn", state.drawn)):
        network, _ = load_classifier(out / "searching" / name)
        assert network.spec == state.space.spec(one.member, 2)
    assert Path(asked["search"].weights or "").name == "found"
    assert replace(asked["random"], weights=asked["search"].weights) == asked["search"]
    assert [arm.name for arm in state.arms] == ["search", "random"]
    assert all(arm.seconds >= state.search_s for arm in state.arms)


def test_rivals_are_the_networks_that_were_timed_and_no_slow_minute_refuses_them(
    config: SearchConfig, searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, FitConfig] = {}

    def fit(config: FitConfig, folder: Path, *rest: Any, **named: Any) -> None:
        asked[folder.name] = config

    monkeypatch.setattr(search_arms, "run_fit", fit)
    rivals = {
        "multipliers": registry.spec(
            "mobilenet_v3_small_minimalistic", width=0.5, resolution=32, num_classes=2
        ),
        "published": registry.spec("mobilenet_v2", resolution=40, num_classes=2),
    }
    state = replace(
        state_of(searched),
        config=replace(config, baselines="all"),
        multiplied=rivals["multipliers"],
        published=rivals["published"],
    )
    searching: Any = SimpleNamespace(
        state=state, config=state.config, folder=searched, reporter=Silent(), lead=None
    )
    works = search_arms._works(searching)
    for name, spec in rivals.items():
        works[name](tmp_path / name, "")
        found = asked[name]
        assert (found.models, found.widths) == ((spec.name,), (spec.width,))
        assert (found.resolutions, found.timed_within) == ((spec.resolution,), True)
        assert found.weights is None
    searching.config = replace(state.config, weights="torchvision")
    for name, work in search_arms._works(searching).items():
        if name in rivals:
            work(tmp_path / name, "")
    assert (asked["multipliers"].weights, asked["published"].weights) == (None, "torchvision")


def test_arm_that_ended_just_before_the_search_died_is_not_made_again(
    shipped: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError("made again")

    out = tmp_path / "out"
    shutil.copytree(shipped.folder, out)
    (out / "run.json").unlink()
    state = state_of(out)
    (out / "searching" / "search.json").write_text(to_json(replace(state, arms=())))
    monkeypatch.setattr(search_arms, "run_fit", refuse)
    again = run_search(state.config, out).record.search
    assert again is not None
    assert shipped.record.search is not None
    assert again.arms == shipped.record.search.arms


def test_record_says_where_the_weights_come_from_and_names_no_folder_inside(
    shipped: Artefact,
) -> None:
    config = state_of(shipped.folder).config
    assert shipped.record.network.start == "from scratch, at first in a supernet"
    begun = replace(config, weights="v2.pth")
    assert search_ship._start(begun) == "fine-tuned from part of v2.pth, at first in a supernet"
    by_work = replace(begun, method="work", supernet_steps=None, evaluations=None, workers=None)
    assert search_ship._start(by_work) == "fine-tuned from part of v2.pth"
    assert search_ship._start(replace(by_work, weights=None)) == "from scratch"


def test_files_of_arms_are_timed_in_turns_once_where_there_are_several(
    shipped: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, told = tmp_path / "out", Told()
    shutil.copytree(shipped.folder, out)
    arms = out / "searching" / "arms"
    shutil.copytree(arms / "search", arms / "random")
    state = state_of(out)
    alone = state.arms[0]
    assert alone.in_turns is None
    nothing = replace(alone, name="published", latency=None, accuracy=None, note="It is too slow.")
    three = replace(state, arms=(alone, replace(alone, name="random"), nothing))
    write_into(out / "searching" / "search.json", to_json(three))
    monkeypatch.setattr(arms_in_turns, "IN_TURNS", replace(PLANNING, seconds=0.01, retries=0))
    for _ in range(2):
        (out / "run.json").unlink()
        found = run_search(state.config, out, told).record.search
    assert found is not None
    both, third = found.arms[:2], found.arms[2]
    assert all(arm.in_turns for arm in both)
    assert all(arm.latency == alone.latency for arm in both)
    assert third.in_turns is None
    assert told.sentences.count("Timing the arms in turns") == 1


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize("quick", [True, False])
def test_arm_that_was_too_slow_in_its_minutes_is_measured_again(
    shipped: Artefact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quick: bool,
    interrupted: bool,
) -> None:
    """Also where the second measurement was interrupted before."""
    out, told = tmp_path / "out", Told()
    shutil.copytree(shipped.folder, out)
    (out / "run.json").unlink()
    folder = out / "searching" / "arms" / "search"
    done = read_state(folder)
    before = replace(done, status="failed", too_slow=True)
    if interrupted:
        before = replace(done, status="unfinished")
    write_into(folder / "run.json", to_json(before))
    search_before = shipped.record.search
    assert search_before is not None
    state, arm = state_of(out), search_before.arms[0]
    missed = replace(arm, accuracy=None, latency=None, note="It takes up to 920 ms.")
    write_into(out / "searching" / "search.json", to_json(replace(state, arms=(missed,))))

    def measured(config: FitConfig, out: Path, *rest: Any, **named: Any) -> Artefact:
        if not quick:
            raise GateError("It takes up to 930 ms.")
        write_into(out / "run.json", to_json(done))
        return load(out)

    monkeypatch.setattr(search_arms, "run_fit", measured)
    if quick:
        found = run_search(state.config, out, told).record.search
        assert found is not None
        assert [one.note for one in found.arms] == [""]
        assert found.arms[0].accuracy == arm.accuracy
    else:
        with pytest.raises(GateError, match=r"search: It takes up to 920 ms\."):
            run_search(state.config, out, told)
    assert "Measuring arm 'search' again." in told.sentences


def test_second_look_on_a_noisy_machine_is_told_and_leaves_the_arm_as_it_was(
    shipped: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, told = tmp_path / "out", Told()
    shutil.copytree(shipped.folder, out)
    (out / "run.json").unlink()
    folder = out / "searching" / "arms" / "search"
    done = read_state(folder)
    write_into(folder / "run.json", to_json(replace(done, status="failed", too_slow=True)))
    state = state_of(out)
    missed = replace(state.arms[0], accuracy=None, latency=None, note="It takes up to 920 ms.")
    write_into(out / "searching" / "search.json", to_json(replace(state, arms=(missed,))))

    def noisy(*arguments: Any, **named: Any) -> None:
        raise NoisyError("The machine is too noisy to say.")

    monkeypatch.setattr(search_arms, "run_fit", noisy)
    with pytest.raises(GateError, match=r"search: It takes up to 920 ms\."):
        run_search(state.config, out, told)
    assert "Arm 'search' stays what it was: The machine is too noisy to say." in told.sentences


def test_arm_with_too_little_time_for_narrowing_trains_what_needs_none(
    config: SearchConfig, searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, asked = tmp_path / "out", list[str | None]()
    shutil.copytree(searched, out)
    state = state_of(out)
    found = state.found
    assert found is not None
    folder = out / "searching"
    assert (folder / "found_fast").is_dir()
    slow = replace(found, latency=replace(found.latency, median_ms=1e6))
    plan = replace(state.plan, netadapt=True)
    write_into(folder / "search.json", to_json(replace(state, found=slow, plan=plan)))

    def too_short(*arguments: Any, **named: Any) -> None:
        raise TooLittleTime("The time is too short: even 3 steps take long.")

    def fit(config: FitConfig, *rest: Any, **named: Any) -> None:
        asked.append(config.weights)
        raise GateError("It is too slow.")

    monkeypatch.setattr(search_arms, "run_shrink", too_short)
    monkeypatch.setattr(search_arms, "run_fit", fit)
    with pytest.raises(GateError, match=r"search: It is too slow\."):
        run_search(config, out, told := Told())
    assert asked == [str(folder / "found_fast")]
    assert any(one.startswith("The time is too short for NetAdapt: ") for one in told.sentences)
    shutil.rmtree(folder / "found_fast")
    write_into(folder / "search.json", to_json(replace(state, found=slow, plan=plan)))
    with pytest.raises(GateError, match="search: The time is too short: even 3 steps"):
        run_search(config, out)


def test_what_needs_no_narrowing_is_of_the_way_that_asked_for_it(searched: Path) -> None:
    """The arm of random search trains nothing that evolution found."""
    state = state_of(searched)
    assert state.found is not None
    quick = replace(state.found.latency, median_ms=1.0)
    better = replace(state.found, latency=quick, accuracy=0.9, origin="evolution")
    drawn = replace(better, accuracy=0.4, origin="random")
    slow = replace(better, accuracy=1.0, latency=replace(quick, median_ms=1e6))
    searching: Any = SimpleNamespace(
        state=replace(state, finalists=(better, drawn, slow)), target_ms=10.0
    )
    cases: list[tuple[set[Sampling], Finalist | None]] = [
        ({"evolution", "random"}, better),
        ({"random"}, drawn),
        ({"rl"}, None),
    ]
    for ways, best in cases:
        assert finalists.fast_finalist(searching, better, ways) == best


def test_arm_that_comes_to_nothing_says_why_and_all_of_them_end_with_an_error(
    config: SearchConfig, searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise GateError("It is too slow.")

    shutil.copytree(searched, tmp_path / "out")
    monkeypatch.setattr(search_arms, "run_fit", refuse)
    with pytest.raises(GateError, match=r"No arm came to a network .*search: It is too slow\."):
        run_search(config, tmp_path / "out")
    assert state_of(tmp_path / "out").arms[0].note == "It is too slow."


def test_machine_that_is_too_noisy_does_not_end_an_arm(
    config: SearchConfig, searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise NoisyError("The machine is too noisy to say.")

    shutil.copytree(searched, tmp_path / "out")
    monkeypatch.setattr(search_arms, "run_fit", refuse)
    with pytest.raises(NoisyError, match="too noisy to say"):
        run_search(config, tmp_path / "out")
    assert not state_of(tmp_path / "out").arms
