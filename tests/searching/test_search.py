"""The search: what it ships, and the same after every death."""

from __future__ import annotations

import random
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ideal_search import MACS_A_MS, CrookedTable, state_of
from mortal import Killed, dying
from small_runs import Told
from target_tables import table_of, write_table
from tiny_space import TINY_SPACE

from pocketvision.budget import Budget, format_latency
from pocketvision.compress.sampling import RandomSearch, front
from pocketvision.errors import BudgetError, ConfigError, GateError
from pocketvision.fitting.artefact import Artefact, load, read_state
from pocketvision.fitting.reporter import Silent
from pocketvision.fitting.target_table import open_target
from pocketvision.fitting.verify import verify
from pocketvision.measure.count import count
from pocketvision.models.arch import ArchSpec
from pocketvision.models.channels import channel_map
from pocketvision.models.narrow import squared_norms
from pocketvision.models.space import Member
from pocketvision.models.spaces import find_space
from pocketvision.models.supernet import Supernet
from pocketvision.models.weights import load_classifier, save
from pocketvision.record.words import Precision, Sampling
from pocketvision.searching import finalists, search, search_arms, search_scoring, search_start
from pocketvision.searching.search import run_search
from pocketvision.searching.search_config import SearchConfig
from pocketvision.searching.search_log import LOG, ScoreLog
from pocketvision.searching.search_rivals import Planner
from pocketvision.searching.search_run import Searching
from pocketvision.searching.search_scoring import score_members
from pocketvision.searching.search_verdict import best_of
from pocketvision.searching.search_work import warm_start
from pocketvision.storage import sha256_file, to_json
from pocketvision.train.alarms import Diverged
from pocketvision.train.config import TrainConfig
from pocketvision.train.supernet import CHECKPOINT, train_supernet

pytestmark = pytest.mark.usefixtures("ideal")


def test_every_member_that_was_scored_is_within_the_limit(searched: Path) -> None:
    state, log = state_of(searched), ScoreLog(searched / "searching")
    assert state.limit_ms == pytest.approx(200 / 1.05 / 1.01)
    assert len(log.entries) == 8
    assert {entry.origin for entry in log.entries} == {"evolution", "random"}
    assert all(entry.latency_ms <= state.limit_ms for entry in log.entries)
    for origin in ("evolution", "random"):
        members = [entry.member for entry in log.entries if entry.origin == origin]
        assert len(set(members)) == 4


def test_chance_is_three_standard_errors_of_a_difference() -> None:
    generator = torch.Generator().manual_seed(0)
    shared = torch.rand(100_000, generator=generator)
    answers = [shared + 0.2 * torch.randn(len(shared), generator=generator) for _ in range(4)]
    error = 0.2 * 2**0.5 / len(shared) ** 0.5
    assert finalists.chance_between(answers) == pytest.approx(3 * error, rel=0.02)
    fewer = [one[:1000] for one in answers]
    assert finalists.chance_between(fewer) == pytest.approx(30 * error, rel=0.1)
    assert finalists.chance_between(answers[:1]) == 0.0


def test_what_all_members_know_is_no_chance() -> None:
    answers = [torch.tensor([0.1, 0.9, 0.5]) + shift for shift in (0.0, 0.05, 0.1)]
    assert finalists.chance_between(answers) == pytest.approx(0.0, abs=1e-6)


def test_found_is_the_busiest_of_the_best_finalists_within_the_limit(
    config: SearchConfig, searched: Path, tmp_path: Path
) -> None:
    shutil.copytree(searched, tmp_path / "out")
    searching, log, ways = reopened(config, tmp_path / "out")
    chance = finalists.chance_among_the_best(searching, log)
    assert 0 < chance < 1
    found = finalists.best_finalist(searching, log, ways, chance)
    assert found == state_of(searched).found
    best = max(one.accuracy for one in searching.state.finalists)
    equal = [one for one in searching.state.finalists if one.accuracy >= best - chance]
    work = {one.member: count(searching.state.space.spec(one.member, 2)).macs for one in equal}
    assert found == max(equal, key=lambda one: (work[one.member], one.accuracy))


def test_without_chance_the_most_accurate_is_found(
    config: SearchConfig, searched: Path, tmp_path: Path
) -> None:
    shutil.copytree(searched, tmp_path / "out")
    searching, log, ways = reopened(config, tmp_path / "out")
    found = finalists.best_finalist(searching, log, ways, 0.0)
    assert found.accuracy == max(one.accuracy for one in log.entries)


def reopened(config: SearchConfig, out: Path) -> tuple[Searching, ScoreLog, set[Sampling]]:
    """A search that has found, what it scored, and by which ways."""
    searching, log = search_start.open_search(config, out, Silent()), ScoreLog(out / "searching")
    return searching, log, {one.origin for one in log.entries}


def test_what_was_found_is_a_network_of_its_own(searched: Path) -> None:
    state = state_of(searched)
    assert state.found is not None
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
    usual = TrainConfig().learning_rate
    assert rates == [usual, usual / 10]
    assert any("went back to its start" in sentence for sentence in told.sentences)
    state = state_of(tmp_path / "out")
    assert 0 < state.lost_s < state.search_s  # the second has the time of the first again
    monkeypatch.setattr(search, "train_supernet", always)
    with pytest.raises(GateError, match=r"had diverged before, .*0\.0003 since\. Look for broken"):
        run_search(config, tmp_path / "other")


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
    images = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(supernet.eval().extract(member)(images), network.eval()(images))
    warm_start(supernet, str(tmp_path / "begun"), Silent())
    found = supernet.extract(member)
    torch.testing.assert_close(found(images), network(images))
    norms, channels = squared_norms(found), channel_map(found.spec)
    inside = next(axis for axis in channels.axes if axis.tensor == "blocks.2.expand.conv.weight")
    sizes = [norms[slot] for slot in inside.slots]
    assert sizes == sorted(sizes, reverse=True)  # a narrower member has the largest of them


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


def test_shipping_that_was_cut_off_is_done_again(shipped: Artefact, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(shipped.folder, out)
    (out / "run.json").unlink()
    (out / "report.html").unlink()
    again = run_search(state_of(out).config, out)
    assert again.record.search == shipped.record.search
    assert (out / "report.html").is_file()


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
    assert state_of(tmp_path / "out").multiplied is None
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
    assert (state.runtime, state.multiplied, state.published) == ("onnxruntime", None, None)
    with pytest.raises(BudgetError, match="No network meets 200 ms"):
        run_search(replace(config, space="v3_small", resolutions=()), tmp_path / "other")
