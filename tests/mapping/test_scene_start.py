"""How a run begins: splits, budgets, refusals; and how an interrupted one goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_scenes import QUICK, WHOLE, Told, small_cube, small_labels, write_envi, write_scene

from pocketvision.budget import Budget
from pocketvision.data.scene.leakage import leakage
from pocketvision.errors import BudgetError, ConfigError, DataError
from pocketvision.fitting.reporter import Silent
from pocketvision.mapping import methods, plan, start
from pocketvision.mapping.artefact import SceneArtefact, read_scene_state
from pocketvision.mapping.config import Costs, SceneConfig
from pocketvision.mapping.costs import Rates, _finish_seconds, other_seconds
from pocketvision.mapping.gates import COMPARED
from pocketvision.mapping.networks import network_spec
from pocketvision.mapping.pipeline import fit_scene, run_scene_fit
from pocketvision.mapping.plan import DEFAULT_STEPS, choose_network, plan_run, to_come_s
from pocketvision.mapping.reading import read_scene, split_scene
from pocketvision.mapping.start import open_run
from pocketvision.record.run import Step
from pocketvision.scene_record import SceneRecord
from pocketvision.storage import to_json
from pocketvision.train.scene_config import SceneTrainConfig


def interrupted(config: SceneConfig, out: Path, told: Told) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_scene_fit(config, out, told)


@pytest.mark.slow
def test_interrupted_run_goes_on_to_the_same_result(
    placed_config: SceneConfig, fitted_placed: SceneArtefact, tmp_path: Path
) -> None:
    """In a training, behind the first method, in the export and in the map, one after the other."""
    out, config = tmp_path / "out", placed_config
    interrupted(config, out, Told("Training mobile_patch, seed 0", after=5))
    assert read_scene_state(out).runs == ()
    interrupted(config, out, told := Told("mobile_patch, seed 0: OA"))
    assert told.sentences[1] == f"Going on with the unfinished run in {out}."
    assert [run.method for run in read_scene_state(out).runs] == ["mobile_patch"]
    interrupted(config, out, told := Told("Exporting"))
    assert "Training mobile_patch, seed 0" not in told.sentences
    assert "Training mobile_patch, seed 1" in told.sentences
    interrupted(config, out, told := Told("Mapping the scene", after=1))
    assert not any(sentence.startswith(("Training", "Support")) for sentence in told.sentences)
    assert not (out / "record.json").exists()
    artefact = run_scene_fit(config, out)
    for name in ("network.safetensors", "bands.safetensors", "classes.npy", "map.png"):
        assert (out / name).read_bytes() == (fitted_placed.folder / name).read_bytes(), name
    assert untimed(artefact.record) == untimed(fitted_placed.record)
    assert artefact.record.spent_s > 0


def untimed(record: SceneRecord) -> dict[str, Any]:
    """The record as a dictionary, without what clocks said and what follows from it."""
    found = dataclasses.asdict(record)
    for name in ("created", "command", "spent_s", "map_seconds", "machine"):
        del found[name]
    for part, times in (
        ("runs", ("train_seconds", "map_seconds")),
        ("curves", ("seconds",)),
        ("steps", ("seconds", "note")),  # the notes name the threads and precision that were faster
        ("files", ("latency", "pixel_latency", "shipped")),
    ):
        for row in found[part]:
            for name in times:
                del row[name]
    # Which precision is faster is for the clock to say.
    del found["shipped"], found["headline"], found["confusion"], found["verdict"]
    return found


def test_step_that_happens_again_stands_once(placed_config: SceneConfig, tmp_path: Path) -> None:
    run = open_run(placed_config, tmp_path / "out", Silent(), "asked")
    for seconds in (1.0, 2.0):
        run.add_step(Step(name="export", seconds=seconds))
    assert [(s.name, s.seconds) for s in run.state.steps][1:] == [("export", 2.0)]


@pytest.fixture
def unfinished(scene: Path, tmp_path: Path) -> Path:
    """A folder whose run was stopped behind its plan."""
    open_run(replace(QUICK, data=str(scene)), tmp_path / "out", Silent(), "asked")
    return tmp_path / "out"


def test_other_options_are_refused(unfinished: Path, scene: Path) -> None:
    with pytest.raises(ConfigError, match="an unfinished run with other options"):
        run_scene_fit(replace(QUICK, data=str(scene), seed=1), unfinished)


def test_another_scene_is_refused(unfinished: Path, tmp_path: Path) -> None:
    state = read_scene_state(unfinished)
    other = write_scene(tmp_path / "other", small_cube(small_labels(), seed=5))
    config = replace(QUICK, data=str(other))
    moved = replace(state, config=config)
    (unfinished / "run.json").write_text(to_json(moved))
    with pytest.raises(ConfigError, match=r"another scene than .*other has now; give another"):
        run_scene_fit(config, unfinished)


def test_another_mask_is_refused(scene: Path, tmp_path: Path) -> None:
    mask = np.where(np.arange(48) < 20, 1, 2) * np.ones((40, 1), int)
    np.save(tmp_path / "mask.npy", mask)
    config = replace(QUICK, data=str(scene), split="given", mask=str(tmp_path / "mask.npy"))
    open_run(config, tmp_path / "out", Silent(), "asked")
    np.save(tmp_path / "mask.npy", 3 - mask)
    with pytest.raises(ConfigError, match="another split than the labels and the mask give now"):
        run_scene_fit(config, tmp_path / "out")


def test_no_data_that_is_nan_can_be_gone_on_with(tmp_path: Path) -> None:
    """NaN does not equal itself, but the same options were given."""
    cube = small_cube(small_labels()).astype(np.float32)
    cube[0, 0] = np.nan
    folder = write_scene(tmp_path / "scene", cube)
    config = replace(QUICK, data=str(folder), no_data=float("nan"))
    open_run(config, tmp_path / "out", Silent(), "asked")
    again = replace(config, no_data=float("-nan"))
    assert open_run(again, tmp_path / "out", told := Told(), "asked").state.runs == ()
    assert told.sentences[-1].startswith("Going on")


def test_folder_of_something_else_is_left_alone(scene: Path, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(ConfigError, match="exists and holds something else; nothing was changed"):
        run_scene_fit(replace(QUICK, data=str(scene)), tmp_path)


def test_finished_run_is_left_alone(fitted: SceneArtefact) -> None:
    with pytest.raises(ConfigError, match="exists and holds a finished run"):
        run_scene_fit(fitted.state.config, fitted.folder)


# ---- budget


def sizes(fitted: SceneArtefact, form: str = "dense") -> int:
    return min(f.size_bytes for f in fitted.record.files if f.form == form)


@pytest.mark.slow
def test_size_too_small_for_hybridsn_ships_the_compact_network(
    scene: Path, fitted: SceneArtefact
) -> None:
    small = replace(WHOLE, data=str(scene), budget=Budget(size_bytes=sizes(fitted) - 1000))
    read = read_scene(small, str(scene))
    split = split_scene(small, read, 9)[0]
    assert choose_network(small, read, split, Silent()).name == "mobile_patch"
    enough = replace(small, budget=Budget(size_bytes=round(1.01 * sizes(fitted))))
    assert choose_network(enough, read, split, Silent()).name == "hybridsn"


def test_impossible_budget_names_the_nearest_and_leaves_no_folder(
    scene: Path, tmp_path: Path
) -> None:
    config = replace(QUICK, data=str(scene), budget=Budget(latency_ms=1e-6), precisions=("f32",))
    with pytest.raises(
        BudgetError, match="No network fits 1e-06 ms; the nearest is mobile_patch 9x9x6 as f32, wh"
    ):
        run_scene_fit(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Planned:
    """A clock that stands, with so much time left."""

    def __init__(self, remaining_s: float) -> None:
        self.remaining_s, self.spent_s = remaining_s, 0.0


def planned(
    config: SceneConfig, remaining_s: float, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, SceneTrainConfig], dict[str, float]]:
    """The plan where one step takes 0.1 s and what follows takes 10 s."""
    monkeypatch.setattr(plan, "other_seconds", lambda *_: ({}, 10.0))
    scene = read_scene(config, config.data)
    split = split_scene(config, scene, 9)[0]
    spec = choose_network(config, scene, split, Silent())
    plans, costs = plan_run(config, scene, split, spec, Planned(remaining_s))  # type: ignore[arg-type]
    return plans, costs.train_s


def test_time_is_shared_between_the_trainings(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three parts for the network to ship, one for the comparison, for each of two repeats."""
    config = replace(WHOLE, data=str(scene), steps=None, repeats=2)
    plans, seconds = planned(config, 10 + 160.0, monkeypatch)
    assert seconds == pytest.approx({"hybridsn": 60, "mobile_patch": 20})
    assert {one.steps for one in plans.values()} == {DEFAULT_STEPS}
    assert 2 * sum(seconds.values()) == pytest.approx(160)
    assert plans["mobile_patch"].warmup_steps == 20


def test_too_short_time_is_refused(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(WHOLE, data=str(scene), steps=None)
    with pytest.raises(BudgetError, match="2 s are left to train hybridsn, and 50 steps take 5 s"):
        planned(config, 12.0, monkeypatch)
    with pytest.raises(BudgetError, match=r"2 s are left for training, and --steps 60 take 12 s"):
        planned(replace(config, steps=60), 12.0, monkeypatch)


@pytest.mark.parametrize(("steps", "deadline"), [(None, 1400.0), (60, None)])
def test_training_must_end_with_its_share_of_the_time_left(
    scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: int | None,
    deadline: float | None,
) -> None:
    """610 s, 10 s for what follows: 3,000 steps take 300 s, the comparison's 1,500 150 s."""
    deadlines, told = [], Told()

    def train(*_: object, deadline: float | None, say: Callable[[str], None], **__: object) -> None:
        deadlines.append(deadline)
        say("its checkpoint is damaged")
        raise KeyboardInterrupt

    monkeypatch.setattr(plan, "other_seconds", lambda *_: ({}, 10.0))
    monkeypatch.setattr(start, "Clock", lambda limit_s: Planned(610.0))
    monkeypatch.setattr(methods, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    monkeypatch.setattr(methods, "train_scene", train)
    config = replace(WHOLE, data=str(scene), steps=steps, budget=Budget(time_s=610))
    interrupted(config, tmp_path / "out", told)
    assert deadlines == [deadline]
    assert "its checkpoint is damaged" in told.sentences


def test_steps_that_are_given_leave_nothing_to_a_clock(
    scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the run can be made again to the bit; without them the faster is looked for."""
    asked: list[SceneTrainConfig] = []

    def settled(
        _: object, __: object, wanted: SceneTrainConfig, teacher: object
    ) -> tuple[SceneTrainConfig, float]:
        asked.append(wanted)
        return wanted, 0.1

    monkeypatch.setattr(plan, "settled", settled)
    config = replace(QUICK, data=str(scene))
    planned(config, 1e6, monkeypatch)
    planned(replace(config, steps=None), 1e6, monkeypatch)
    given, free = asked
    assert given.threads > 0
    assert given.precision in ("f32", "bf16")
    assert (free.threads, free.precision) == (0, "auto")


def test_maps_of_every_network_and_repeat_are_planned(
    scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = Costs(train_s={}, map_s={"hybridsn": 5.0, "svm": 7.0}, finish_s=10.0)
    assert to_come_s(costs, ("hybridsn", "svm") * 3) == 46
    assert to_come_s(costs, ()) == 10


def test_costs_beside_the_trainings_are_counted(scene: Path) -> None:
    config = replace(WHOLE, data=str(scene), methods=("mobile_patch", "svm"))
    read = read_scene(config, str(scene))
    split = split_scene(config, read, 9)[0]
    network = network_spec(config, "mobile_patch", 20, 4).build(0)
    rates = Rates(window_s=1.0, mac_s=0.0)
    assert _finish_seconds(config, network, rates, 3.0) > 3.0 + 2 * COMPARED
    map_s, finish_s = other_seconds(config, read, split, {"mobile_patch": network})
    assert set(map_s) == {"mobile_patch", "svm"}
    assert finish_s > 0
    assert all(seconds > 0 for seconds in map_s.values())


# ---- splits


def opened(config: SceneConfig, tmp_path: Path) -> Any:
    return open_run(config, tmp_path / "out", Silent(), "asked")


def test_given_split_is_the_mask(scene: Path, tmp_path: Path) -> None:
    """And the seed is still that of the training."""
    mask = np.zeros((40, 48), np.uint8)
    mask[:, :20], mask[:, 30:] = 1, 2
    np.save(tmp_path / "mask.npy", mask)
    config = replace(QUICK, data=str(scene), split="given", mask=str(tmp_path / "mask.npy"), seed=7)
    (split,) = opened(config, tmp_path).splits
    labelled = small_labels() > 0
    np.testing.assert_array_equal(split.train, (mask == 1) & labelled)
    np.testing.assert_array_equal(split.test, (mask == 2) & labelled)
    assert split.seed == 7


def test_random_split_with_pixels_per_class(scene: Path, tmp_path: Path) -> None:
    told = Told()
    config = replace(QUICK, data=str(scene), split="random", train_per_class=10)
    run = open_run(config, tmp_path / "out", told, "asked")
    assert np.bincount(small_labels()[run.splits[0].train]).tolist() == [0, 10, 10, 10, 10]
    assert leakage(run.splits[0]).centre > 0.3
    assert any(sentence.startswith("A random split leaks") for sentence in told.sentences)


def test_full_guard_leaves_no_window_in_common(tmp_path: Path) -> None:
    labels = np.tile(small_labels(), (1, 3))
    folder = write_scene(tmp_path / "scene", small_cube(labels), labels)
    config = replace(QUICK, data=str(folder), guard="full")
    assert leakage(opened(config, tmp_path).splits[0]).window == 0


def test_envi_and_labels_of_their_own(tmp_path: Path) -> None:
    header = write_envi(tmp_path / "envi", small_cube(small_labels()))
    np.save(tmp_path / "truth.npy", small_labels())
    config = replace(QUICK, data=str(header), labels=str(tmp_path / "truth.npy"))
    assert opened(config, tmp_path).scene.classes == ("class 1", "class 2", "class 3", "class 4")


def test_labels_are_needed(tmp_path: Path) -> None:
    header = write_envi(tmp_path / "envi", small_cube(small_labels()))
    with pytest.raises(DataError, match=r"cube\.hdr has no labels, and training needs some"):
        opened(replace(QUICK, data=str(header)), tmp_path)


def test_one_class_cannot_be_learned(tmp_path: Path) -> None:
    folder = write_scene(tmp_path / "scene", labels=np.minimum(small_labels(), 1))
    with pytest.raises(DataError, match="training pixels are of 1 class; a classifier needs two"):
        opened(replace(QUICK, data=str(folder), split="random"), tmp_path)


def test_something_must_be_left_to_test(tmp_path: Path) -> None:
    labels = np.zeros((40, 48), np.uint8)
    labels[3, 3], labels[20, 20] = 1, 2
    folder = write_scene(tmp_path / "scene", labels=labels)
    with pytest.raises(DataError, match="No labelled pixel is left to test on; label more"):
        opened(replace(QUICK, data=str(folder), split="random"), tmp_path)
    assert not (tmp_path / "out").exists()


# ---- configuration


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ("hybrid",)}, r"model='hybrid' is unknown.*Did you mean 'hybridsn'\?"),
        ({"methods": ("svm",)}, r"holds no network to ship; add one of \['hybridsn', 'mobile"),
        ({"methods": ("hybridsn", "hybridsn")}, "names one twice"),
        ({"attention": "eca"}, "attention='eca' is unknown"),
        ({"window": 8}, "window=8 is not allowed; expected an odd number"),
        ({"bands": "ica"}, "bands='ica' is unknown"),
        ({"bands": "select", "whiten": False}, "--no-whiten goes with --bands pca; got --bands s"),
        ({"components": 0}, "components=0 is not allowed"),
        ({"split": "half"}, "split='half' is unknown"),
        ({"guard": "none"}, "guard='none' is unknown"),
        ({"guard": "full", "split": "random"}, "--guard goes with --split blocks; got --split ran"),
        ({"train_share": 1.0}, "train-share=1.0 is out of range"),
        ({"train_per_class": 5}, "train-per-class goes with --split random; got --split blocks"),
        ({"train_per_class": 0, "split": "random"}, "train-per-class=0 is not allowed"),
        ({"split": "given"}, "--split given and --mask FILE go together"),
        ({"mask": "m.npy"}, "--split given and --mask FILE go together"),
        ({"split": "given", "mask": "m.npy", "repeats": 2}, "a given split is one split"),
        ({"repeats": 0}, "repeats=0 is out of range"),
        ({"training": "windows"}, "training='windows' is unknown"),
        ({"steps": 0}, "steps=0 is out of range"),
        ({"learning_rate": 0.0}, "learning-rate=0.0 is out of range"),
        ({"precisions": ("bf16",)}, "precision='bf16' is unknown"),
        ({"precisions": ()}, "precisions is empty; expected f32, int8 or both"),
        ({"threads": 0}, "threads=0 is out of range"),
        ({"max_drop_points": -1.0}, "max-drop=-1.0 is out of range"),
        ({"seed": -1}, "seed=-1 is out of range"),
        ({"budget": Budget(memory_bytes=1)}, "--memory is not kept for scenes"),
    ],
)
def test_option_outside_its_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SceneConfig(data="scene", **options)


def test_python_face_parses_budgets_like_the_command_line(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="size '4' has no unit; write it like 4MB"):
        fit_scene(scene, tmp_path / "out", size="4")
    with pytest.raises(ConfigError, match="window=8 is not allowed"):
        fit_scene(scene, tmp_path / "out", latency="5ms", time="15m", window=8)
