"""NetAdapt: never above the latency asked for, the same after every death, and what is refused."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ideal_search import IdealTable
from mortal import Killed, dying
from small_runs import Told, write_photos
from target_tables import DEVICE, small_networks, table_of, write_table

from pocketvision.budget import Budget
from pocketvision.compress.netadapt import narrowest
from pocketvision.data.transforms import Augmentation
from pocketvision.errors import ArtefactError, BudgetError, ConfigError, MissingExtraError
from pocketvision.fitting.artefact import Artefact, load
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.run import Clock
from pocketvision.fitting.target_table import TargetTable
from pocketvision.measure.count import count
from pocketvision.models.arch import ArchSpec
from pocketvision.models.weights import load_classifier
from pocketvision.narrowing import loop
from pocketvision.record.timing import Latency
from pocketvision.searching import adapting, fastest, shrink, shrink_start, shrink_work
from pocketvision.searching.adapting import Adapting
from pocketvision.searching.shrink import run_shrink
from pocketvision.searching.shrink_config import ShrinkConfig, ShrinkState
from pocketvision.storage import from_json, sha256_file, to_json
from pocketvision.workers.pool import HANG_S, LONGEST_HANG_S, hanging_s

SEED_MS = 100.0


class NarrowingTable(IdealTable):
    """The seed takes SEED_MS, and measurements of narrower forms are a little above the sums."""

    def work_ms(self, spec: ArchSpec) -> float:
        return count(spec).macs / SEED_MACS * SEED_MS

    def beyond(self, spec: ArchSpec) -> float:
        return 1.1 - 0.1 * count(spec).macs / SEED_MACS


SEED_MACS = 0


@pytest.fixture(scope="module", autouse=True)
def ideal(fitted: Artefact) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "SEED_MACS", count(fitted.classifier.spec).macs)
        for module in (shrink_start, fastest):
            patch.setattr(module, "ScaledTable", NarrowingTable)
        patch.setattr(fastest, "best_in_turns", lambda spec, offers, threads: offers[0])
        yield


@pytest.fixture(scope="module")
def config(fitted: Artefact, photos: Path) -> ShrinkConfig:
    return ShrinkConfig(
        source=str(fitted.folder),
        images=str(photos),
        budget=Budget(latency_ms=80.0),
        runtime="onnxruntime",
        step=0.1,
        brief_steps=1,
        batch_size=16,
        augmentation=Augmentation(),
        epochs=2,
        max_drop_points=100,
    )


def give_config(config: FitConfig, out: Path, *rest: Any, **named: Any) -> FitConfig:
    return config


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the fine-tuning at the end."""
    monkeypatch.setattr(shrink, "run_fit", give_config)


@pytest.fixture(scope="module")
def narrowed(config: ShrinkConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole narrowing, not to be changed."""
    out = tmp_path_factory.mktemp("narrowed") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shrink, "run_fit", give_config)
        run_shrink(config, out)
    return out


def state_of(out: Path) -> ShrinkState:
    path = out / "shrinking" / "shrink.json"
    return from_json(ShrinkState, path.read_bytes(), source=str(path))


def test_network_is_narrowed_to_the_latency_and_shipped(
    config: ShrinkConfig, tmp_path: Path, fitted: Artefact
) -> None:
    artefact = run_shrink(config, tmp_path / "out", told := Told())
    state = state_of(tmp_path / "out")
    assert state.done
    latencies = [step.latency.median_ms for step in state.steps if step.latency]
    assert latencies[-1] <= 80.0 / 1.05
    assert latencies == sorted(latencies, reverse=True)
    spec = artefact.network.spec
    assert spec == state.steps[-1].network
    assert count(spec).macs < count(fitted.classifier.spec).macs
    assert artefact.record.verdict.met
    assert 0 < state.narrowed_s < artefact.record.spent_s  # the clock is that of all of it
    assert artefact.record.narrowing is not None
    steps = artefact.record.narrowing.steps
    assert [step.chosen for step in steps] == [step.chosen for step in state.steps]
    assert 'id="narrowing"' in (tmp_path / "out" / "report.html").read_text()
    assert artefact.state.config.teacher == str(fitted.folder)
    assert load(tmp_path / "out").predict(next(Path(config.images).rglob("*.png"))).classes
    assert any("are asked for. About" in sentence for sentence in told.sentences)


def test_every_step_takes_the_proposal_that_loses_least_for_what_it_saves(narrowed: Path) -> None:
    state = state_of(narrowed)
    assert len(state.steps) >= 3
    for before, step in zip(state.steps, state.steps[1:], strict=False):
        assert before.latency is not None
        latency_ms = before.latency.median_ms
        accuracy = before.accuracy
        ratios = [(p.accuracy - accuracy) / (latency_ms - p.latency_ms) for p in step.proposals]
        assert step.chosen == step.proposals[ratios.index(max(ratios))].group
        for proposal in step.proposals:
            assert proposal.latency_ms <= max(state_target(state), latency_ms - 0.1 * SEED_MS)


def state_target(state: ShrinkState) -> float:
    return state.config.latency_ms / 1.05 / 1.01


@pytest.mark.usefixtures("alone")
def test_death_at_any_score_or_save_comes_to_the_same_network(
    config: ShrinkConfig, narrowed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = state_of(narrowed)
    mortal = tmp_path / "mortal"
    deaths = 0
    while True:
        calls = [0]
        with monkeypatch.context() as patch:
            for module, name in ((shrink_work, "fine_tune_briefly"), (adapting, "save_network")):
                patch.setattr(module, name, dying(getattr(module, name), calls, after=4))
            try:
                run_shrink(config, mortal)
                break
            except Killed:
                deaths += 1
    found = state_of(mortal)
    assert deaths > len(wanted.steps)
    assert found.steps == wanted.steps
    place = f"shrinking/{(len(wanted.steps) - 1) % 2}/network.safetensors"
    assert sha256_file(mortal / place) == sha256_file(narrowed / place)


def test_slow_proposals_are_not_taken_for_workers_that_hang(
    config: ShrinkConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[float] = []

    def pool(workers: object, *, hang_s: float) -> None:
        allowed.append(hang_s)
        raise KeyboardInterrupt

    clock = itertools.count(0.0, 100.0)  # seconds, between two looks
    monkeypatch.setattr(shrink, "open_pool", pool)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with pytest.raises(KeyboardInterrupt):
        run_shrink(replace(config, workers=2), tmp_path / "out")
    score_s = state_of(tmp_path / "out").score_s
    assert score_s >= 100
    assert allowed == [10 * score_s]


def test_a_quick_score_leaves_workers_their_usual_time() -> None:
    assert hanging_s(0.5) == HANG_S
    assert hanging_s(1e6) == LONGEST_HANG_S


@pytest.mark.usefixtures("alone")
def test_scores_of_other_proposals_are_not_taken_for_these(
    config: ShrinkConfig, narrowed: Path, tmp_path: Path
) -> None:
    """As where the table of the machine was removed meanwhile, and came out otherwise."""
    shutil.copytree(narrowed, tmp_path / "out")
    state = state_of(narrowed)
    others = state.steps[1].proposals[:-4:-1]
    assert others[0].group != state.steps[1].proposals[0].group
    begun = replace(state, steps=state.steps[:1], pending=others, done=False)
    (tmp_path / "out" / "shrinking" / "shrink.json").write_text(to_json(begun))
    run_shrink(config, tmp_path / "out")
    assert state_of(tmp_path / "out").steps == state.steps


@pytest.mark.slow
def test_long_fine_tuning_is_on_the_devices_asked_for(config: ShrinkConfig, tmp_path: Path) -> None:
    shipped = run_shrink(replace(config, accelerator="cpu", devices=2), tmp_path / "out")
    assert shipped.record.verdict.met
    assert shipped.state.train is not None
    assert (shipped.state.train.accelerator, shipped.state.train.devices) == ("cpu", 2)


def test_devices_that_cannot_be_are_refused_before_anything_is_done(
    config: ShrinkConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="devices=1000 need at least 2000 training images"):
        run_shrink(replace(config, accelerator="cpu", devices=1000), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("alone")
def test_two_workers_narrow_as_one_does(config: ShrinkConfig, tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        run_shrink(replace(config, workers=workers), tmp_path / name)
    one, two = state_of(tmp_path / "one"), state_of(tmp_path / "two")
    assert len(one.steps) >= 2
    assert [step.network for step in one.steps] == [step.network for step in two.steps]
    assert [step.proposals for step in one.steps] == [step.proposals for step in two.steps]


def test_size_and_memory_are_limits_of_what_ships(
    config: ShrinkConfig, narrowed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shrink, "run_fit", give_config)
    budget = Budget(latency_ms=80.0, size_bytes=500_000, memory_bytes=9_000_000)
    shutil.copytree(narrowed, tmp_path / "out")
    path = tmp_path / "out" / "shrinking" / "shrink.json"
    path.write_text(to_json(replace(state_of(narrowed), config=replace(config, budget=budget))))
    found: object = run_shrink(replace(config, budget=budget), tmp_path / "out")
    assert isinstance(found, FitConfig)
    assert found.budget == budget


@pytest.mark.usefixtures("alone")
def test_python_face_takes_texts(config: ShrinkConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="within 1 s already"):
        shrink.shrink(config.source, config.images, tmp_path / "out", latency="1s", time="30m")


def test_seed_that_may_be_within_the_latency_is_not_narrowed(
    config: ShrinkConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its median is, and the end of its interval is not for certain."""

    def timed(table: IdealTable, spec: ArchSpec) -> Latency:
        return Latency(median_ms=75.0, p95_ms=79.0, low_ms=74.0, high_ms=77.0, runs=9, threads=1)

    monkeypatch.setattr(IdealTable, "timed_whole", timed)
    with pytest.raises(ConfigError, match=r"takes 75 ms as f32 on onnxr.*, within 80 ms already"):
        run_shrink(replace(config, precision="f32"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("alone")
def test_narrowing_whose_time_is_over_takes_large_steps(
    config: ShrinkConfig, narrowed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Adapting, "is_late", True)
    run_shrink(config, tmp_path / "out")
    hurried, usual = state_of(tmp_path / "out"), state_of(narrowed)
    assert hurried.done
    slowest = [max(p.latency_ms for p in state.steps[1].proposals) for state in (hurried, usual)]
    assert slowest[0] < slowest[1]


@pytest.mark.parametrize(
    ("limit_s", "spent_s", "late"), [(None, 1e9, False), (1000.0, 500, False), (1000.0, 600, True)]
)
def test_narrowing_is_late_when_its_share_of_the_time_is_over(
    config: ShrinkConfig, limit_s: float | None, spent_s: float, late: bool
) -> None:
    work = Adapting.__new__(Adapting)
    work.config, work.finish_s = replace(config, adapting_share=0.6), 100.0
    work.clock = Clock(limit_s)
    work.clock.earlier_s = spent_s
    assert work.is_late is late


@pytest.mark.usefixtures("alone")
def test_finished_narrowing_is_not_done_again(
    config: ShrinkConfig, narrowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError("narrowed again")

    monkeypatch.setattr(loop, "proposals_of_a_step", refuse)
    assert isinstance(run_shrink(config, narrowed), FitConfig)


def test_classes_and_preprocessing_travel_with_the_narrowed_network(
    config: ShrinkConfig, narrowed: Path
) -> None:
    number = len(state_of(narrowed).steps) - 1
    network, file = load_classifier(narrowed / "shrinking" / str(number % 2))
    seed, seeded = load_classifier(Path(config.source))
    assert (file.classes, file.preprocessing) == (seeded.classes, seeded.preprocessing)
    assert network.spec.name == seed.spec.name
    assert "narrowed" in network.spec.variant


def test_latency_that_is_met_already_is_said(config: ShrinkConfig, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"takes 100 ms as f32 on onnxruntime, within 1 s already"
    ):
        run_shrink(replace(config, budget=Budget(latency_ms=1000.0)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_latency_that_no_width_reaches_exits_3_and_names_the_nearest(
    config: ShrinkConfig, tmp_path: Path
) -> None:
    with pytest.raises(BudgetError, match=r"cannot be made as fast as .* ms by narrowing"):
        run_shrink(replace(config, budget=Budget(latency_ms=0.01)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_time_too_short_for_the_steps_exits_3_and_names_what_is_needed(
    config: ShrinkConfig, tmp_path: Path
) -> None:
    with pytest.raises(BudgetError, match=r"The time is too short: even .* Ask for --time \d+m"):
        run_shrink(replace(config, budget=replace(config.budget, time_s=1.0)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_of_other_classes_are_refused(config: ShrinkConfig, tmp_path: Path) -> None:
    other = write_photos(tmp_path / "other")
    (other / "dark below").rename(other / "bright")
    with pytest.raises(ConfigError, match=r"have the classes bright, .*; the network in"):
        run_shrink(replace(config, images=str(other)), tmp_path / "out")


def test_folder_without_a_network_is_refused(config: ShrinkConfig, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"network.json"):
        run_shrink(replace(config, source=str(tmp_path)), tmp_path / "out")


def test_absent_ray_is_told_before_anything_is_done(
    config: ShrinkConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        MissingExtraError, match=r"needs ray.*pip install 'pocketvision\[cluster\]'"
    ):
        run_shrink(replace(config, workers="ray"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("alone")
def test_folder_that_holds_something_else_is_left_alone(
    config: ShrinkConfig, narrowed: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="exists and holds something else; nothing was changed"):
        run_shrink(config, tmp_path / "out")
    shutil.copytree(narrowed, tmp_path / "run")
    with pytest.raises(ConfigError, match="an unfinished run with other options"):
        run_shrink(replace(config, step=0.2), tmp_path / "run")
    damaged = tmp_path / "run" / "shrinking" / "shrink.json"
    damaged.write_text(json.dumps({"config": 1}))
    with pytest.raises(ConfigError, match="holds something else"):
        run_shrink(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": Budget()}, "Narrowing needs a budget of latency; give --latency"),
        ({"budget": Budget(latency_ms=0.0)}, "latency=0.0 is out of range"),
        ({"step": 0.9}, "step=0.9 is out of range; expected 0.001 to 0.5"),
        ({"multiple": 0}, "multiple=0 is out of range"),
        ({"brief_steps": 0}, "brief-steps=0 is out of range"),
        ({"runtime": "tflite"}, "runtime='tflite' is unknown; expected one of"),
        ({"precision": "int4"}, "precision='int4' is unknown; expected one of"),
        ({"epochs": 0}, "epochs=0 is out of range"),
        ({"accelerator": "tpu"}, "accelerator='tpu' is unknown; expected one of"),
        ({"devices": 0}, "devices=0 is out of range"),
        ({"nodes": 0}, "nodes=0 is out of range"),
    ],
)
def test_config_refuses_what_is_not_allowed(
    config: ShrinkConfig, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(config, **change)


def test_precision_that_the_runtime_does_not_offer_is_refused(
    config: ShrinkConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="precision='bf16' is not offered by onnxruntime"):
        run_shrink(replace(config, precision="bf16"), tmp_path / "out")


@pytest.fixture(scope="module")
def for_target(
    config: ShrinkConfig, fitted: Artefact, tmp_path_factory: pytest.TempPathFactory
) -> ShrinkConfig:
    """As asked of another device: a little less than its table says of the seed."""
    seed = fitted.classifier.spec
    path = tmp_path_factory.mktemp("target") / "table.json"
    target = write_table(path, table_of([seed, narrowest(seed)]))
    latency_ms = 0.95 * TargetTable(table_of([seed]), target).timed_whole(seed).high_ms
    budget = Budget(latency_ms=latency_ms)
    return replace(config, runtime=None, target=target, budget=budget, step=0.05)


@pytest.mark.slow
def test_latency_of_a_target_is_by_its_table_to_the_end(
    for_target: ShrinkConfig, tmp_path: Path
) -> None:
    artefact = run_shrink(for_target, tmp_path / "out", told := Told())
    steps = state_of(tmp_path / "out").steps
    latencies = [step.latency for step in steps if step.latency]
    assert len(latencies) == len(steps) >= 2
    assert all(latency.is_by_table for latency in latencies)
    record = artefact.record
    assert record.target is not None
    assert record.target.latency == latencies[-1]
    assert latencies[-1].high_ms <= for_target.latency_ms < latencies[-2].high_ms
    assert record.verdict.met
    assert "not measured there: 1 of 1 candidates are in it" in " ".join(told.sentences)
    assert f"by the table of onnxruntime f32, 1 thread, on {DEVICE}; " in " ".join(told.sentences)


@pytest.mark.usefixtures("alone")
def test_table_that_changes_under_an_unfinished_narrowing_is_refused(
    for_target: ShrinkConfig, tmp_path: Path, fitted: Artefact
) -> None:
    assert for_target.target is not None
    path = tmp_path / "table.json"
    path.write_bytes(Path(for_target.target).read_bytes())
    config = replace(for_target, target=str(path))
    found: Any = run_shrink(config, tmp_path / "out")
    assert (found.target, found.runtimes, found.precisions) == (
        str(path),
        ("onnxruntime",),
        ("f32",),
    )
    write_table(path, table_of([fitted.classifier.spec]))
    with pytest.raises(ConfigError, match=r"out holds an unfinished run, and .* has changed since"):
        run_shrink(config, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "int8"}, "is of onnxruntime f32, .* and --precision int8 was asked for"),
        ({"runtime": "openvino"}, "and --runtime openvino was asked for"),
        ({"threads": 3}, "and --threads 3 was asked for"),
        (
            {"budget": Budget(latency_ms=99.0)},
            f"as f32 on onnxruntime by the table of .* on {DEVICE}, within 99 ms",
        ),
    ],
)
def test_what_a_table_does_not_tell_is_refused(
    for_target: ShrinkConfig, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_shrink(replace(for_target, **change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_table_of_another_network_says_to_profile_this_one(
    for_target: ShrinkConfig, tmp_path: Path
) -> None:
    other = write_table(tmp_path / "table.json", table_of(small_networks(resolution=64)))
    with pytest.raises(ConfigError, match="at 32 px; profile the device again for this network"):
        run_shrink(replace(for_target, target=other), tmp_path / "out")
