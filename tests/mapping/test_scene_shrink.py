"""Narrowing a network for a scene: within the latency, judged by training pixels, and resumable."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from small_scenes import BANDS, CLASSES, WINDOW, Told, small_cube, small_labels, write_scene
from target_tables import DEVICE, write_table

from pocketvision.budget import Budget
from pocketvision.compress.netadapt import forms_between
from pocketvision.data.scene.splits import blocks_split
from pocketvision.errors import BudgetError, ConfigError
from pocketvision.fitting.folder import PREPARED
from pocketvision.mapping import files, layer_table, narrowing, shrink
from pocketvision.mapping.artefact import SceneArtefact
from pocketvision.mapping.config import SceneConfig
from pocketvision.mapping.layer_table import LayerTable, layer_run
from pocketvision.mapping.narrowing import SceneLessons, squares
from pocketvision.mapping.shrink import run_scene_shrink, shrink_scene
from pocketvision.mapping.shrink_config import SceneShrinkConfig, SceneShrinkState
from pocketvision.measure.device import machine
from pocketvision.measure.latency import LatencyProtocol, Run
from pocketvision.measure.table import DeviceTable, TimedLayer, TimedScene
from pocketvision.models.hybridsn import hybridsn
from pocketvision.models.mobile_patch import mobile_patch
from pocketvision.models.patch import PatchSpec
from pocketvision.models.patch_layers import layer_forms
from pocketvision.narrowing.state import STATE
from pocketvision.nn.attention import SqueezeExciteSpec
from pocketvision.record.timing import Latency
from pocketvision.storage import from_json

SEED_MS = 1000.0  # far beyond what any of these takes: what ships is always fast enough


def macs_of(spec: PatchSpec) -> int:
    return sum(layer.macs for layer in spec.layers())


def taking(ms: float) -> Latency:
    return Latency(median_ms=ms, p95_ms=ms, low_ms=ms, high_ms=ms, runs=10, threads=1)


@pytest.fixture
def by_work(fitted: SceneArtefact, monkeypatch: pytest.MonkeyPatch) -> None:
    """Latencies are told by multiply-accumulates: the same wherever and whenever it runs."""
    seed = macs_of(fitted.network.spec)

    def timed(*args: Any) -> dict[str, Latency]:
        *_, spec, precisions = args
        return {name: taking(SEED_MS * macs_of(spec) / seed) for name in precisions}

    def ensure(table: LayerTable, specs: Iterable[PatchSpec]) -> None:
        for form in (form for spec in specs for form in layer_forms(spec)):
            table.known[form] = taking(float(form.macs))

    monkeypatch.setattr(narrowing, "timed_files", timed)
    monkeypatch.setattr("pocketvision.mapping.shrink_start.timed_files", timed)
    monkeypatch.setattr(LayerTable, "ensure", ensure)


@pytest.fixture
def config(fitted: SceneArtefact, scene: Path) -> SceneShrinkConfig:
    """Two steps or so, of proposals that learn for a moment."""
    return SceneShrinkConfig(
        source=str(fitted.folder),
        data=str(scene),
        budget=Budget(latency_ms=0.6 * SEED_MS, time_s=900.0),
        step=0.2,
        brief_steps=1,
        steps=10,
        max_drop_points=100.0,
    )


def state_in(out: Path) -> SceneShrinkState:
    path = out / PREPARED / STATE
    return from_json(SceneShrinkState, path.read_bytes(), source=str(path))


@pytest.mark.usefixtures("by_work")
def test_network_is_narrowed_until_it_is_within_the_latency(
    config: SceneShrinkConfig,
    fitted: SceneArtefact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "FORMS", ("dense",))  # an export takes seconds
    told = Told()
    found = run_scene_shrink(config, tmp_path / "out", told)
    seed = fitted.network.spec
    assert macs_of(found.network.spec) <= 0.6 * macs_of(seed)
    assert found.network.spec.label == "hybridsn (narrowed) 9x9x13"
    assert found.state.status == "done"
    record = found.record
    assert record.network.start == "narrowed from hybridsn 9x9x13"
    assert [run.method for run in record.runs] == ["hybridsn"]
    assert record.splits[0] == fitted.record.splits[0]
    assert record.budget.time_s == 900.0
    assert 0 < state_in(tmp_path / "out").narrowed_s < record.spent_s
    narrowed = record.narrowing
    assert narrowed is not None
    steps = narrowed.steps
    assert len(steps) >= 3
    assert steps[-1].latency_ms <= 0.6 * SEED_MS < steps[-2].latency_ms
    for before, step in itertools.pairwise(steps):
        assert step.chosen in {one.group for one in step.proposals}
        assert step.latency_ms < before.latency_ms
        assert all(one.latency_ms < before.latency_ms for one in step.proposals)
    page = (found.folder / "report.html").read_text()
    assert "How the network was narrowed" in page
    assert "training pixels that were held out" in page
    assert any(sentence.startswith("Step 1, ") for sentence in told.sentences)
    assert "How the network was narrowed" not in (fitted.folder / "report.html").read_text()


class Narrowed(Exception):
    """The run on the scene would begin now."""


@pytest.fixture
def narrowed_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(config: SceneConfig, *args: Any, **named: Any) -> None:
        raise Narrowed(config.narrowed)

    monkeypatch.setattr(shrink, "run_scene_fit", stop)


def narrowed_weights(config: SceneShrinkConfig, out: Path) -> dict[str, torch.Tensor]:
    with pytest.raises(Narrowed) as stopped:
        run_scene_shrink(config, out)
    return safetensors.torch.load_file(Path(str(stopped.value)) / "network.safetensors")


@pytest.mark.usefixtures("by_work", "narrowed_only")
@pytest.mark.parametrize(("interrupt", "after"), [("Step 1", 2), ("Step 1, ", 0), ("Step 2", 1)])
def test_an_interrupted_narrowing_goes_on_to_the_same_network(
    config: SceneShrinkConfig, tmp_path: Path, interrupt: str, after: int
) -> None:
    whole = narrowed_weights(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_scene_shrink(config, tmp_path / "out", Told(interrupt=interrupt, after=after))
    resumed = narrowed_weights(config, tmp_path / "out")
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert state_in(tmp_path / "out").steps == state_in(tmp_path / "whole").steps


@pytest.mark.slow
@pytest.mark.usefixtures("by_work", "narrowed_only")
def test_two_workers_narrow_as_one_does(config: SceneShrinkConfig, tmp_path: Path) -> None:
    """Proposals, and the weights of what was chosen; another number of workers may go on."""
    one, two = tmp_path / "one", tmp_path / "two"
    alone = narrowed_weights(replace(config, workers=1), one)
    with pytest.raises(KeyboardInterrupt):
        run_scene_shrink(replace(config, workers=1), two, Told(interrupt="Step 1", after=2))
    together = narrowed_weights(replace(config, workers=2), two)
    assert all(torch.equal(together[name], alone[name]) for name in alone)
    assert state_in(two).steps == state_in(one).steps


@pytest.mark.usefixtures("by_work", "narrowed_only")
def test_what_cannot_be_done_is_said_before_anything_is_written(
    config: SceneShrinkConfig, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=r"hybridsn 9x9x13 takes 1 s a pixel .* within 2 s alre"):
        run_scene_shrink(replace(config, budget=Budget(latency_ms=2 * SEED_MS)), out)
    with pytest.raises(BudgetError, match=r"cannot be made as fast as .* by narrowing"):
        run_scene_shrink(replace(config, budget=Budget(latency_ms=1.0)), out)
    with pytest.raises(BudgetError, match=r"The time is too short: even .* Ask for --time \d+m"):
        run_scene_shrink(replace(config, budget=replace(config.budget, time_s=20.0)), out)
    assert not out.exists()


@pytest.mark.usefixtures("narrowed_only")
def test_table_of_another_device_leads_to_the_latency_there(
    config: SceneShrinkConfig, fitted: SceneArtefact, tmp_path: Path
) -> None:
    """Nothing is timed here."""
    spec = fitted.network.spec
    forms = (layer for form in forms_between(spec) for layer in layer_forms(form))
    table = DeviceTable(
        machine=replace(machine(), cpu=DEVICE),
        runtime="onnxruntime",
        precision="int8",
        threads=1,
        carriers=(),
        scenes=(TimedScene(network=spec, bands=BANDS, latency=taking(SEED_MS)),),
        layers=tuple(
            TimedLayer(form=form, latency=taking(1e-6 * form.macs)) for form in dict.fromkeys(forms)
        ),
    )
    path, out = tmp_path / "table.json", tmp_path / "out"
    asked = replace(config, target=write_table(path, table))
    told = Told()
    with pytest.raises(Narrowed):
        run_scene_shrink(asked, out, told)
    state = state_in(out)
    found = [step.latency for step in state.steps if step.latency]
    assert (state.precision, found[0].median_ms) == ("int8", SEED_MS)
    assert all(latency.is_by_table for latency in found)
    assert found[-1].high_ms <= 0.6 * SEED_MS < found[-2].high_ms
    assert any("a pixel as int8 by the table of onnxruntime int8" in one for one in told.sentences)
    path.write_text(path.read_text().replace(DEVICE, "Cortex-A55"))
    with pytest.raises(ConfigError, match="has changed since it began; put the table back"):
        run_scene_shrink(asked, out)


@pytest.mark.usefixtures("by_work", "narrowed_only")
def test_another_scene_is_refused(config: SceneShrinkConfig, tmp_path: Path) -> None:
    """Its pixels, or other labels of the same, would not be what was trained on."""
    labels = small_labels()
    other = write_scene(tmp_path / "other", small_cube(labels, seed=5))
    with pytest.raises(ConfigError, match=r"is not what .* was fitted to, or its labels or mask"):
        run_scene_shrink(replace(config, data=str(other)), tmp_path / "out")
    again = write_scene(tmp_path / "again", labels=np.roll(labels, 3, axis=0))
    with pytest.raises(ConfigError, match=r"is not what .* was fitted to, or its labels or mask"):
        run_scene_shrink(replace(config, data=str(again)), tmp_path / "out")


@pytest.mark.usefixtures("by_work", "narrowed_only")
def test_a_folder_in_use_is_left_alone(config: SceneShrinkConfig, tmp_path: Path) -> None:
    out = tmp_path / "out"
    narrowed_weights(config, out)
    with pytest.raises(ConfigError, match="holds an unfinished run with other options; nothing"):
        run_scene_shrink(replace(config, step=0.1), out)


@pytest.mark.usefixtures("by_work", "narrowed_only")
def test_python_face_asks_for_what_the_command_does(
    fitted: SceneArtefact, scene: Path, tmp_path: Path
) -> None:
    with pytest.raises(Narrowed):
        shrink_scene(fitted.folder, scene, tmp_path / "out", latency="900ms", step=0.1, steps=5)
    assert state_in(tmp_path / "out").config.steps == 5


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("budget", Budget(), "Narrowing needs a budget of latency; give --latency"),
        ("step", 0.9, "step=0.9"),
        ("multiple", 0, "multiple=0"),
        ("brief_steps", 0, "brief-steps=0"),
        ("steps", 0, "steps=0"),
        ("adapting_share", 1.0, "adapting-share=1"),
        ("max_drop_points", -1.0, "max-drop=-1"),
        ("workers", 0, "workers=0"),
    ],
)
def test_options_out_of_range_are_named(
    config: SceneShrinkConfig, field: str, value: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(config, **{field: value})


def test_pixels_that_judge_are_training_pixels_that_nothing_learns_from() -> None:
    labels = small_labels().astype(np.int16)
    split = blocks_split(labels, train_share=0.4, window=WINDOW, seed=0)
    bands = np.zeros((*labels.shape, 3), np.float32)
    lessons = SceneLessons.of(bands, labels, split, seed=0)
    judges = np.zeros_like(split.train)
    judges[tuple(lessons.places.T)] = True
    learned = lessons.train.targets >= 0
    assert not (judges & learned).any()
    assert ((judges | learned) <= split.train).all()
    assert judges.sum() == len(lessons.places) > 0
    assert (lessons.classes == labels[judges].astype(int) - 1).all()


@pytest.mark.parametrize("side", [1, 4, 100])
def test_some_of_any_mask_is_held_out_but_not_all(side: int) -> None:
    mask = np.zeros((20, 30), np.bool_)
    mask[3:9, 4:20] = True
    held_out = squares(mask, side, seed=0)
    assert 0 < held_out.sum() < mask.sum()
    assert (held_out <= mask).all()


def test_expected_accuracy_is_the_mean_chance_of_the_right_class() -> None:
    labels = small_labels().astype(np.int16)
    split = blocks_split(labels, train_share=0.4, window=WINDOW, seed=0)
    bands = np.random.default_rng(0).normal(size=(*labels.shape, 6)).astype(np.float32)
    lessons = SceneLessons.of(bands, labels, split, seed=0)
    network = mobile_patch(bands=6, window=WINDOW, num_classes=CLASSES).build(seed=0).eval()
    with torch.no_grad():
        network.head.classifier.weight.zero_()
        network.head.classifier.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 3.0]))
    chances = torch.tensor([0.0, 0.0, 0.0, 3.0]).softmax(0)
    expected = float(chances[torch.from_numpy(lessons.classes)].mean())
    assert lessons.expected_accuracy(network, 1) == pytest.approx(expected, rel=1e-5)


SPECS = (
    hybridsn(bands=15, window=11, num_classes=5),
    mobile_patch(bands=6, window=11, num_classes=5),
)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_layers_of_the_table_do_the_arithmetic_of_the_network(spec: PatchSpec) -> None:
    assert sum(form.macs for form in layer_forms(spec)) == macs_of(spec)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("precision", ["f32", "int8"])
def test_every_layer_runs_in_both_precisions(spec: PatchSpec, precision: Any) -> None:
    for form in layer_forms(spec):
        made: Any = layer_run(form, precision, 1)()
        (out,) = made
        side = form.side - form.kernel + 1
        assert out.shape == (form.batch, form.c_out, side, side)
        assert out.dtype == (np.uint8 if precision == "int8" else np.float32)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs were timed at once; each takes a millisecond."""
    timed: list[int] = []

    def measure(
        runs: dict[str, Run], protocol: LatencyProtocol, threads: int
    ) -> dict[str, Latency]:
        timed.append(len(runs))
        return {name: taking(1.0) for name in runs}

    monkeypatch.setattr(layer_table, "measure_latency", measure)
    monkeypatch.setattr(
        layer_table,
        "measure_beside",
        lambda anchor, runs, protocol, threads, anchor_ms: measure(runs, protocol, threads),
    )
    return timed


def test_a_layer_is_timed_once_and_a_whole_file_sets_the_scale(counted: list[int]) -> None:
    table, spec = LayerTable("f32", 1), SPECS[0]
    assert table.latency_ms(spec) == 7.0
    table.meet(spec, taking(14.0))
    assert table.latency_ms(spec) == 14.0
    smaller = replace(spec, head=replace(spec.head, hidden=(256, 64)))
    assert table.latency_ms(smaller) == 14.0
    assert counted == [7, 2]


def test_gates_of_attention_are_left_to_the_scale() -> None:
    spec = hybridsn(
        bands=15, window=11, num_classes=5, attention=SqueezeExciteSpec(squeezed=6, gate="sigmoid")
    )
    assert list(layer_forms(spec)) == list(layer_forms(SPECS[0]))


def test_a_latency_that_no_narrowing_reaches_is_refused_as_measured(
    fitted: SceneArtefact, scene: Path, tmp_path: Path
) -> None:
    """With files and layers that are really timed."""
    config = SceneShrinkConfig(
        source=str(fitted.folder), data=str(scene), budget=Budget(latency_ms=1e-4)
    )
    with pytest.raises(BudgetError, match=r"cannot be made as fast as .*: with every width at its"):
        run_scene_shrink(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
