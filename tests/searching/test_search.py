"""The search: what it ships, the same after every death, and what is refused."""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mortal import Killed, dying
from small_runs import Told, write_photos
from target_tables import table_of, write_table
from tiny_space import TINY_SPACE

from pocketvision.budget import Budget, format_latency
from pocketvision.compress.pace import TooLittleTime
from pocketvision.compress.sampling import RandomSearch, front
from pocketvision.errors import (
    ArtefactError,
    BudgetError,
    ConfigError,
    GateError,
    MissingExtraError,
    NoisyError,
)
from pocketvision.fitting.artefact import Artefact, load, read_state
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.reporter import Silent
from pocketvision.fitting.target_table import open_target
from pocketvision.fitting.verify import verify
from pocketvision.measure.count import count
from pocketvision.measure.latency import PLANNING
from pocketvision.models.arch import ArchSpec
from pocketvision.models.space import Member
from pocketvision.models.spaces import find_space
from pocketvision.models.supernet import Supernet
from pocketvision.models.weights import load_classifier, save
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision, Sampling
from pocketvision.runtimes.runtime import Runtime
from pocketvision.searching import (
    arms_in_turns,
    fastest,
    finalists,
    search,
    search_arms,
    search_networks,
    search_scoring,
    search_start,
    shrink_start,
)
from pocketvision.searching.search import run_search
from pocketvision.searching.search_config import Finalist, SearchConfig, SearchState
from pocketvision.searching.search_log import LOG, ScoreLog
from pocketvision.searching.search_networks import Planner
from pocketvision.searching.search_plan import (
    SCORING_SHARE,
    SUPERNET_RATE,
    SUPERNET_SHARE,
    SearchPace,
    plan_of,
)
from pocketvision.searching.search_run import Searching
from pocketvision.searching.search_scoring import score_members
from pocketvision.searching.search_verdict import best_of
from pocketvision.searching.search_work import warm_start
from pocketvision.storage import from_json, sha256_file, to_json, write_into
from pocketvision.train.alarms import Diverged
from pocketvision.train.supernet import CHECKPOINT, train_supernet

MACS_A_MS = 2_000


class IdealTable:
    """A machine whose latency is its work: members take 70 to 400 ms."""

    def __init__(self, runtime: Runtime, precision: Precision, threads: int) -> None:
        self.scale = 1.0

    def ensure(self, specs: Iterable[ArchSpec]) -> None:
        pass

    def latency_ms(self, spec: ArchSpec) -> float:
        return self.scale * count(spec).macs / MACS_A_MS

    def meet(self, spec: ArchSpec, latency: Latency) -> None:
        self.scale = latency.median_ms / (count(spec).macs / MACS_A_MS)

    def timed_whole(self, spec: ArchSpec) -> Latency:
        ms = self.beyond(spec) * count(spec).macs / MACS_A_MS
        return Latency(median_ms=ms, p95_ms=ms, low_ms=ms, high_ms=ms, runs=9, threads=1)

    def beyond(self, spec: ArchSpec) -> float:
        """What a whole network takes, as a multiple of its blocks."""
        return 1.0


class CrookedTable(IdealTable):
    """Some networks take more than their blocks, so that limits are corrected again and again."""

    def beyond(self, spec: ArchSpec) -> float:
        return 1.0 + count(spec).macs % 7 / 20


@pytest.fixture(scope="module", autouse=True)
def ideal() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (search_start, shrink_start, fastest):
            patch.setattr(module, "ScaledTable", IdealTable)
        patch.setattr(fastest, "best_in_turns", lambda spec, offers, threads: offers[0])
        patch.setattr(search_networks, "MAX_CANDIDATES", 2)
        yield


@pytest.fixture(scope="module")
def config(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchConfig:
    space = tmp_path_factory.mktemp("space") / "tiny.toml"
    space.write_text(TINY_SPACE)
    return SearchConfig(
        data=str(photos),
        budget=Budget(latency_ms=200.0),
        space=str(space),
        resolutions=(32,),
        runtime="onnxruntime",
        supernet_steps=4,
        evaluations=4,
        generation=2,
        netadapt=False,
        baselines="none",
        epochs=2,
        batch_size=16,
        max_drop_points=100,
    )


def no_arms(*arguments: Any) -> None:
    pass


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what comes behind the search."""
    monkeypatch.setattr(search, "run_arms", no_arms)
    monkeypatch.setattr(search, "ship_best", no_arms)


@pytest.fixture(scope="module")
def searched(config: SearchConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search without its arms, not to be changed."""
    out = tmp_path_factory.mktemp("searched") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "run_arms", no_arms)
        patch.setattr(search, "ship_best", no_arms)
        run_search(config, out)
    return out


@pytest.fixture(scope="module")
def shipped(
    config: SearchConfig, searched: Path, tmp_path_factory: pytest.TempPathFactory
) -> Artefact:
    """The same with its one arm, not to be changed."""
    out = tmp_path_factory.mktemp("shipped") / "out"
    shutil.copytree(searched, out)
    return run_search(config, out)


def state_of(out: Path) -> SearchState:
    path = out / "searching" / "search.json"
    return from_json(SearchState, path.read_bytes(), source=str(path))


def test_every_member_that_was_scored_is_within_the_limit(searched: Path) -> None:
    state, log = state_of(searched), ScoreLog(searched / "searching")
    assert state.limit_ms == pytest.approx(200 / 1.05 / 1.01)
    assert len(log.entries) == 8
    assert {entry.origin for entry in log.entries} == {"evolution", "random"}
    assert all(entry.latency_ms <= state.limit_ms for entry in log.entries)
    for origin in ("evolution", "random"):
        members = [entry.member for entry in log.entries if entry.origin == origin]
        assert len(set(members)) == 4


def test_found_is_the_busiest_of_the_best_finalists_within_the_limit(searched: Path) -> None:
    state = state_of(searched)
    assert state.found is not None
    best = max(one.accuracy for one in state.finalists)
    work = {
        count(state.space.spec(one.member, 2)).macs: one
        for one in state.finalists
        if one.accuracy >= best - finalists.CHANCE
    }
    assert state.found == work[max(work)]
    network, file = load_classifier(searched / "searching" / "found")
    assert network.spec == state.space.spec(state.found.member, 2)
    assert network.spec.variant == "member of tiny"
    assert file.preprocessing is not None
    assert file.preprocessing.resolution == 32
    largest, _ = load_classifier(searched / "searching" / "largest")
    assert count(largest.spec).macs > count(network.spec).macs


@pytest.mark.usefixtures("alone")
def test_death_at_any_score_or_save_comes_to_the_same(
    config: SearchConfig, searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resumed(config, tmp_path / "mortal", monkeypatch) >= 2
    assert_same(tmp_path / "mortal", searched)


def resumed(config: SearchConfig, out: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Have a search die again and again until it ends; how often it did."""
    deaths = 0
    while True:
        calls = [0]
        with monkeypatch.context() as patch:
            patch.setattr(ScoreLog, "add", dying(ScoreLog.add, calls, after=3))
            for name in ("save_network", "save_supernet"):
                patch.setattr(search, name, dying(getattr(search, name), calls, after=3))
            try:
                run_search(config, out)
                return deaths
            except Killed:
                deaths += 1


def assert_same(ours: Path, theirs: Path) -> None:
    """Of two searches: what they scored, and what they found."""
    logs = [(out / "searching" / LOG).read_text() for out in (ours, theirs)]
    assert logs[0] == logs[1]
    found = [out / "searching" / "found" / "network.safetensors" for out in (ours, theirs)]
    assert sha256_file(found[0]) == sha256_file(found[1])
    assert state_of(ours).found == state_of(theirs).found


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("method", ["evolution", pytest.param("rl", marks=pytest.mark.slow)])
def test_corrected_limits_are_the_same_after_every_death(
    method: Any, config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_start, "ScaledTable", CrookedTable)
    asked = replace(config, method=method, evaluations=6)
    run_search(asked, tmp_path / "whole")
    finalists = state_of(tmp_path / "whole").finalists
    assert {one.timed_in for one in finalists} >= {0, 1, 2}
    assert any(one.origin == method for one in finalists)
    assert resumed(asked, tmp_path / "mortal", monkeypatch) >= 4
    assert_same(tmp_path / "mortal", tmp_path / "whole")


@pytest.mark.usefixtures("alone")
def test_finalists_are_within_all_limits(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 9_000

    def weighed(spec: ArchSpec, *rest: object) -> tuple[int, None]:
        return count(spec).parameters, None

    handed: list[Searching] = []
    monkeypatch.setattr(search_scoring, "weighed", weighed)
    monkeypatch.setattr(search, "run_arms", lambda searching, asked: handed.append(searching))
    asked = replace(config, budget=replace(config.budget, size_bytes=limit))
    run_search(asked, tmp_path / "out")
    sizes = [one.size_bytes or 0 for one in state_of(tmp_path / "out").finalists]
    assert min(sizes) <= limit < max(sizes)
    found = state_of(tmp_path / "out").found
    assert found is not None
    assert (found.size_bytes or 0) <= limit
    assert search_arms._shrink_config(handed[0], tmp_path, 60.0).budget == replace(
        asked.budget, time_s=60.0
    )


@pytest.mark.usefixtures("alone")
def test_supernet_that_diverges_begins_anew_at_a_lower_rate_once(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, rates = train_supernet, list[float]()

    def once(supernet: Any, source: Any, pre: Any, config: Any, folder: Path, **named: Any) -> int:
        rates.append(config.learning_rate)
        assert not (folder / CHECKPOINT).exists()
        if len(rates) == 1:
            (folder / CHECKPOINT).touch()
            time.sleep(0.2)
            raise Diverged("The training loss became nan at step 3.")
        return original(supernet, source, pre, config, folder, **named)

    def always(*arguments: object, **named: object) -> int:
        raise Diverged("The training loss became nan at step 3.")

    monkeypatch.setattr(search, "train_supernet", once)
    run_search(config, tmp_path / "out", told := Told())
    assert rates == [SUPERNET_RATE, SUPERNET_RATE / 10]
    assert any("went back to its start" in sentence for sentence in told.sentences)
    state = state_of(tmp_path / "out")
    assert 0 < state.lost_s < state.search_s  # the second has the time of the first again
    monkeypatch.setattr(search, "train_supernet", always)
    with pytest.raises(GateError, match=r"had diverged before, .*0\.0003 since\. Look for broken"):
        run_search(config, tmp_path / "other")


def test_time_of_an_arm_that_was_killed_counts(shipped: Artefact) -> None:
    state, arms = state_of(shipped.folder), shipped.folder / "searching" / "arms"
    spent_s = load(arms / "search").state.spent_s
    assert spent_s > 0
    assert search_start._spent_s(state, arms) == state.spent_s
    running = replace(state, arms=(), arm_begun_s=1000.0, spent_s=1000.0)
    assert search_start._spent_s(running, arms) == pytest.approx(1000 + spent_s)
    told = replace(running, spent_s=5000.0)  # one that ended by itself wrote all of it
    assert search_start._spent_s(told, arms) == 5000.0


@pytest.mark.usefixtures("alone")
def test_other_workers_go_on_with_what_workers_began(
    config: SearchConfig, searched: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(searched, out)
    path = out / "searching" / "search.json"
    path.write_text(to_json(replace(state_of(out), config=replace(config, workers=2))))
    run_search(replace(config, workers=1), out, told := Told())
    assert f"Going on with the unfinished search in {out}." in told.sentences
    with pytest.raises(ConfigError, match="an unfinished run with other options"):
        run_search(config, out)


def test_weights_of_a_member_are_what_its_supernet_begins_with(
    config: SearchConfig, tmp_path: Path
) -> None:
    assert config.space is not None
    space = find_space(config.space)
    member = space.sample(random.Random(3))
    network = space.spec(member, 2).build(seed=5)
    save(network, tmp_path / "begun", classes=("a", "b"))
    supernet = Supernet(space, 2, seed=0)
    before = supernet.extract(member).state_dict()
    warm_start(supernet, str(tmp_path / "begun"), Silent())
    after = supernet.extract(member).state_dict()
    name = next(name for name in after if name.startswith("blocks") and name.endswith("weight"))
    assert torch.equal(after[name], network.state_dict()[name])
    assert not torch.equal(before[name], after[name])


@pytest.mark.usefixtures("alone")
def test_line_that_was_half_written_is_scored_again(
    config: SearchConfig, searched: Path, tmp_path: Path
) -> None:
    shutil.copytree(searched, tmp_path / "out")
    log = tmp_path / "out" / "searching" / LOG
    whole = log.read_text()
    log.write_text(whole[: len(whole) - 40])
    reopened = ScoreLog(log.parent)
    assert len(reopened.entries) == 7
    assert log.read_text() == "".join(line + "\n" for line in whole.splitlines()[:-1])


@pytest.mark.usefixtures("alone")
def test_scoring_ends_with_a_generation_where_the_time_is_over(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = score_members

    def hurried(searching: Searching, log: ScoreLog, deadline: float | None, **named: Any) -> None:
        assert deadline is None
        original(searching, log, 0.0, **named)

    monkeypatch.setattr(search, "score_members", hurried)
    run_search(config, tmp_path / "out", told := Told())
    origins = [entry.origin for entry in ScoreLog(tmp_path / "out" / "searching").entries]
    assert origins == ["evolution"] * 2 + ["random"] * 2
    assert "Scored 2 of 4 members by each way in the time there is." in told.sentences


@pytest.mark.usefixtures("alone")
def test_space_that_is_used_up_ends_the_scoring_and_not_the_search(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = RandomSearch.ask

    def ask(way: RandomSearch, count: int) -> list[Member]:
        if way.generation:
            raise BudgetError("No new one is within 1 ms.")
        return original(way, count)

    monkeypatch.setattr(RandomSearch, "ask", ask)
    run_search(config, tmp_path / "out", told := Told())
    origins = [entry.origin for entry in ScoreLog(tmp_path / "out" / "searching").entries]
    assert origins == ["evolution"] * 2 + ["random"] * 2 + ["evolution"] * 2
    assert "No new one is within 1 ms. What was scored has to do." in told.sentences
    assert state_of(tmp_path / "out").found is not None


def test_damaged_log_says_where(searched: Path, tmp_path: Path) -> None:
    (tmp_path / LOG).write_text('{"origin": "chance"}\n')
    with pytest.raises(ArtefactError, match=r"line 1 is not a valid LoggedScore.*Remove that file"):
        ScoreLog(tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_two_workers_come_to_the_same(config: SearchConfig, searched: Path, tmp_path: Path) -> None:
    alone = replace(config, workers=1)
    run_search(alone, tmp_path / "one")
    run_search(replace(config, workers=2), tmp_path / "two")
    logs = [(tmp_path / name / "searching" / LOG).read_text() for name in ("one", "two")]
    assert logs[0] == logs[1]


def test_what_ships_is_a_fitted_network_with_a_record_of_its_search(
    shipped: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = shipped.record
    again = {"shipped": record.latency}  # measuring it cannot be relied on
    monkeypatch.setattr("pocketvision.fitting.verify.measure_latency", lambda *_: again)
    assert record.search is not None
    assert [(arm.name, arm.shipped) for arm in record.search.arms] == [("search", True)]
    assert record.network.label == record.search.arms[0].network
    assert record.search.sentence.startswith("Nothing that needs no search was trained beside it")
    assert {one.origin for one in record.search.scored} == {"evolution", "random"}
    assert 'id="search"' in (shipped.folder / "report.html").read_text()
    image = next(Path(shipped.state.config.data).rglob("*.png"))
    assert load(shipped.folder).predict(image).classes
    assert verify(shipped.folder, shipped.state.config.data).passed


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


@pytest.mark.slow
def test_whole_search_with_netadapt_and_a_baseline(config: SearchConfig, tmp_path: Path) -> None:
    whole = replace(
        config,
        netadapt=True,
        baselines="multipliers",
        method="rl",
        accelerator="cpu",
        devices=2,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_start, "SLACK", 1.6)  # so that there is something to narrow
        shipped = run_search(whole, tmp_path / "out")
    found = shipped.record.search
    assert found is not None
    assert [arm.name for arm in found.arms] == ["search", "multipliers"]
    best = best_of(found.arms)
    assert best is not None
    assert [arm.name for arm in found.arms if arm.shipped] == [best.name]
    assert shipped.record.network.label == best.network
    assert {one.origin for one in found.scored} == {"rl", "evolution", "random"}
    state, arm = state_of(shipped.folder), shipped.folder / "searching" / "arms" / "search"
    assert state.found is not None
    spec = load(arm).classifier.spec
    assert ("narrowed" in spec.variant) == (state.found.latency.median_ms > 200 / 1.05 / 1.01)
    assert load(arm).state.config.teacher == str(shipped.folder / "searching" / "largest")
    trainings = [read_state(arm.with_name(name)).train for name in ("search", "multipliers")]
    assert [train.devices for train in trainings if train is not None] == [2, 2]
    assert count(spec).macs / MACS_A_MS <= 200


def test_finished_search_is_not_made_again(shipped: Artefact) -> None:
    config = state_of(shipped.folder).config
    with pytest.raises(ConfigError, match="exists and holds a finished run; nothing was changed"):
        run_search(config, shipped.folder)


def test_shipping_that_was_cut_off_is_done_again(shipped: Artefact, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(shipped.folder, out)
    (out / "run.json").unlink()
    (out / "report.html").unlink()
    again = run_search(state_of(out).config, out)
    assert again.record.search == shipped.record.search
    assert (out / "report.html").is_file()


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


@pytest.mark.usefixtures("alone")
def test_multipliers_and_input_sides_are_searched_too(config: SearchConfig, tmp_path: Path) -> None:
    space = tmp_path / "tiny.toml"
    space.write_text(TINY_SPACE.replace("[32]", "[32, 40]\nwidths = [0.5, 1.0]", 1))
    asked = replace(config, space=str(space), resolutions=(), evaluations=8, generation=4)
    run_search(asked, tmp_path / "out")
    state, log = state_of(tmp_path / "out"), ScoreLog(tmp_path / "out" / "searching")
    assert {entry.member.resolution for entry in log.entries} == {32, 40}
    assert {entry.member.width for entry in log.entries} == {0.5, 1.0}
    assert state.found is not None
    network, file = load_classifier(tmp_path / "out" / "searching" / "found")
    assert network.spec == state.space.spec(state.found.member, 2)
    assert file.preprocessing is not None
    assert file.preprocessing.resolution == state.found.member.resolution


def test_progress_shows_the_front_as_it_grows(searched: Path) -> None:
    log = ScoreLog(searched / "searching")
    entries = log.entries
    for known in (1, len(entries)):
        log.entries = entries[:known]
        best = front(log.all_scored)
        ends = [best[0], best[-1]] if len(best) > 1 else best
        told = [f"{format_latency(one.latency_ms)} {one.accuracy:.1%}" for one in ends]
        assert search_scoring._front_note(log) == f"front of {len(best)}: {' to '.join(told)}"


@pytest.mark.parametrize(("precision", "bytes_"), [("int8", 1), ("w8", 1), ("f32", 4), ("bf16", 4)])
def test_size_of_a_member_is_that_of_its_weights_in_the_precision(
    searched: Path, precision: Precision, bytes_: int
) -> None:
    state = replace(state_of(searched), precision=precision)
    searching: Any = SimpleNamespace(state=state, samples=SimpleNamespace(classes=("a", "b")))
    limit: Any = SimpleNamespace(latency_of=lambda member: 1.0)
    scoring: Any = SimpleNamespace(searching=searching, limit=limit)
    member = state.space.smallest()
    entry = search_scoring._Scoring.entry(scoring, "random", 0, member, 0.5)
    assert entry.size_bytes == bytes_ * count(state.space.spec(member, 2)).parameters


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


def test_side_at_which_nothing_could_be_trained_is_refused_before_the_search(
    config: SearchConfig, tmp_path: Path
) -> None:
    message = r"tiny has the resolution 160, .* enlarge the images \(24 px\) .*--resolution 32\.$"
    with pytest.raises(ConfigError, match=message):
        run_search(replace(config, resolutions=(32, 160)), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert config.space is not None
    large = replace(find_space(config.space), resolutions=(2048,))
    samples: Any = SimpleNamespace(shorter_side=900)
    with pytest.raises(ConfigError, match="resolution=2048 is out of range; expected 32 to 1024"):
        search_start._check_sides(large, samples)


def test_devices_that_cannot_be_are_refused_before_the_search(
    config: SearchConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="devices=1000 need at least 2000 training images"):
        run_search(replace(config, accelerator="cpu", devices=1000), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_latency_below_the_smallest_member_exits_3_and_names_the_nearest(
    config: SearchConfig, tmp_path: Path
) -> None:
    with pytest.raises(BudgetError, match=r"smallest member of tiny takes .* --latency [\d.]+ms"):
        run_search(replace(config, budget=Budget(latency_ms=20.0)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("alone")
def test_latency_of_a_target_is_by_its_table(config: SearchConfig, tmp_path: Path) -> None:
    assert config.space is not None
    space = find_space(config.space)
    members = [space.spec(member, 2) for member in space.covering()]
    path = write_table(tmp_path / "table.json", table_of(members))
    asked = replace(
        config, target=path, runtime=None, budget=Budget(latency_ms=1.0), baselines="all"
    )
    run_search(asked, tmp_path / "out", told := Told())
    assert any(
        sentence.startswith("Nothing with plain multipliers is beside this search: target=")
        for sentence in told.sentences
    )
    assert not state_of(tmp_path / "out").has_multipliers
    state, log = state_of(tmp_path / "out"), ScoreLog(tmp_path / "out" / "searching")
    assert (state.runtime, state.precision) == ("onnxruntime", "f32")
    assert state.limit_ms == pytest.approx(1.0 / 1.1)  # a table without whole networks
    table = open_target(path)
    assert table is not None
    for entry in log.entries:
        spec = space.spec(entry.member, 2)
        assert entry.latency_ms == pytest.approx(table.latency_ms(spec))
    assert all(finalist.latency.is_by_table for finalist in state.finalists)
    with pytest.raises(ConfigError, match="and --precision int8 was asked for"):
        run_search(replace(asked, precision="int8"), tmp_path / "other")
    Path(path).write_text(Path(path).read_text().replace("Cortex-A76", "Cortex-A55"))
    with pytest.raises(ConfigError, match="has changed since it began; put the table back"):
        run_search(asked, tmp_path / "out")


def test_time_too_short_for_one_generation_exits_3(config: SearchConfig) -> None:
    timed = replace(config, supernet_steps=None, evaluations=None, generation=16)
    slow = SearchPace(step_s=1, judging_s=1)
    with pytest.raises(BudgetError, match=r"one generation of 16 .* about 6m more, for"):
        plan_of(timed, 100, slow, arms=1, arm_s=60.0, finish_s=30.0)
    with pytest.raises(BudgetError, match=r"one generation of 16 .* about 17m more, for"):
        plan_of(timed, 100, slow, arms=3, arm_s=60.0, finish_s=30.0)
    few_steps = replace(timed, supernet_steps=2)
    with pytest.raises(BudgetError, match=r"and a search with one generation of 16 members needs"):
        plan_of(few_steps, 100, slow, arms=1, arm_s=60.0, finish_s=30.0)
    quick = SearchPace(step_s=0.1, judging_s=0.1)
    plan = plan_of(timed, 100, quick, arms=1, arm_s=3600.0, finish_s=60.0)
    assert plan.supernet_s <= SUPERNET_SHARE * 3540
    assert 2 * plan.evaluations * 0.1 <= SCORING_SHARE * 3540
    few = replace(timed, supernet_steps=3, evaluations=4)
    asked = plan_of(few, 100, quick, arms=1, arm_s=3600.0, finish_s=60.0)
    assert (asked.supernet_steps, asked.evaluations, asked.generation) == (3, 4, 4)
    many = replace(timed, supernet_steps=100_000)
    with pytest.raises(
        BudgetError, match=r"--supernet-steps or --evaluations asked for: they take"
    ):
        plan_of(many, 100, quick, arms=1, arm_s=3600.0, finish_s=60.0)


@pytest.mark.usefixtures("alone")
def test_space_of_the_user_needs_no_network_with_a_multiplier_within_the_budget(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*arguments: object, **named: object) -> None:
        raise BudgetError("No network meets 200 ms.")

    monkeypatch.setattr(Planner, "among", none)
    run_search(replace(config, baselines="all"), tmp_path / "out", told := Told())
    said = "Nothing with plain multipliers is beside this search: No network meets 200 ms."
    assert said in told.sentences
    state = state_of(tmp_path / "out")
    assert (state.runtime, state.has_multipliers, state.published) == ("onnxruntime", False, None)
    with pytest.raises(BudgetError, match="No network meets 200 ms"):
        run_search(replace(config, space="v3_small"), tmp_path / "other")


def test_other_images_and_other_options_are_refused(
    config: SearchConfig, searched: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(searched, out)
    with pytest.raises(ConfigError, match="an unfinished run with other options"):
        run_search(replace(config, seed=1), out)
    photos = write_photos(tmp_path / "photos", per_class=30)
    state = state_of(out)
    changed = replace(state, config=replace(config, data=str(photos)))
    path = out / "searching" / "search.json"
    path.write_text(to_json(changed))
    with pytest.raises(ConfigError, match="an unfinished search on other images than"):
        run_search(changed.config, out)
    path.write_text(json.dumps({"config": 1}))
    with pytest.raises(ConfigError, match="holds something else"):
        run_search(config, out)


def test_absent_ray_is_told_before_anything_is_done(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        MissingExtraError, match=r"needs ray.*pip install 'pocketvision\[cluster\]'"
    ):
        run_search(replace(config, workers="ray"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_absent_space_is_told_before_anything_is_measured(
    config: SearchConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Planner, "among", None)
    with pytest.raises(ConfigError, match=r"space='none.toml' cannot be read: No such file"):
        run_search(replace(config, space="none.toml"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_of_no_member_are_refused(
    config: SearchConfig, fitted: Artefact, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"weights=.* are of mobilenet_v1 .*: no member of tiny"):
        run_search(replace(config, weights=str(fitted.folder)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": Budget()}, "needs a budget of latency; give --latency"),
        ({"runtime": "tflite"}, "runtime='tflite' is unknown"),
        ({"precision": "int4"}, "precision='int4' is unknown"),
        ({"method": "grid"}, "method='grid' is unknown"),
        ({"objective": "size"}, "objective='size' is unknown"),
        ({"baselines": "some"}, "baselines='some' is unknown"),
        ({"members": 1}, "members=1 is out of range"),
        ({"generation": 1}, "generation=1 is out of range"),
        ({"evaluations": 0}, "evaluations=0 is out of range"),
        ({"supernet_steps": 0}, "supernet-steps=0 is out of range"),
        ({"workers": 0}, "workers=0 is out of range"),
        ({"exponent": 1.0}, "exponent=1.0 is out of range"),
        ({"resolutions": (16,)}, "resolution=16 is out of range"),
        ({"accelerator": "tpu"}, "accelerator='tpu' is unknown; expected one of"),
        ({"devices": 0}, "devices=0 is out of range"),
    ],
)
def test_config_refuses_what_is_not_allowed(
    config: SearchConfig, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(config, **change)
