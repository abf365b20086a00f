"""Which file is shipped, what is timed, and the gate that a file must pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_scenes import HOLE, WHOLE

from pocketvision.mapping import gates
from pocketvision.mapping.artefact import SceneArtefact
from pocketvision.mapping.files import (
    Built,
    choose_file,
    timed_pixels,
    timed_spectra,
)
from pocketvision.mapping.gates import Agreement, FileKey, compare_files, sample_places
from pocketvision.mapping.networks import network_spec
from pocketvision.mapping.reading import read_scene, split_scene
from pocketvision.mapping.tiles import windows_at
from pocketvision.mapping.untrained import untrained_files
from pocketvision.runtimes.scene_onnx import SceneSession, open_scene_session


def built(fitted: SceneArtefact, **changes: object) -> list[Built]:
    """All files of the run; `changes` to the dense INT8 one, which takes the least time."""
    found = []
    for number, figures in enumerate(fitted.record.files):
        fast = figures.form == "dense" and figures.precision == "int8"
        latency = replace(figures.latency, median_ms=1.0 if fast else 2.0 + number)
        kept = {"passed_gate": True, "within_budget": True, **(changes if fast else {})}
        figures = replace(figures, latency=latency, **kept)  # type: ignore[arg-type]
        card = fitted.session().card
        found.append(Built(figures=figures, path=fitted.model_file, card=card))
    return found


def chosen(files: list[Built]) -> tuple[str, str]:
    one = choose_file(files)
    assert one is not None
    return one.figures.form, one.figures.precision


def test_fastest_file_that_passes_within_the_budget_is_chosen(fitted: SceneArtefact) -> None:
    assert chosen(built(fitted)) == ("dense", "int8")
    assert chosen(built(fitted, passed_gate=False)) == ("dense", "f32")
    assert chosen(built(fitted, within_budget=False)) == ("dense", "f32")


@pytest.mark.parametrize(
    ("agreement", "drop", "precision", "passed"),
    [
        (1.0, 0.010, "int8", True),
        (1.0, 0.011, "int8", False),
        (0.97, -0.05, "int8", True),
        (0.969, -0.05, "int8", False),
        (0.994, 0.0, "f32", False),
        (0.995, 0.0, "f32", True),
        (1.0, 0.011, "f32", False),
    ],
)
def test_gate_of_one_point(agreement: float, drop: float, precision: str, passed: bool) -> None:
    one = agreeing(agreement=agreement, drop=drop)
    assert one.passes(precision, max_drop_points=1.0) is passed  # type: ignore[arg-type]


def agreeing(**changes: float) -> Agreement:
    """A file like the float network, but for the changes."""
    same = Agreement(
        agreement=1.0,
        unlabelled=None,
        tile=None,
        n=100,
        drop=0.0,
        largest_difference=0.0,
        relative_difference=0.0,
    )
    return replace(same, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("where", ["unlabelled", "tile"])
def test_integers_must_agree_where_nothing_was_learned(where: str) -> None:
    """Though they lose nothing on the training pixels, that set their ranges."""
    assert agreeing(**{where: 0.97}).passes("int8", 1.0)
    assert not agreeing(**{where: 0.969}).passes("int8", 1.0)
    assert not agreeing(**{where: 0.99}).passes("f32", 1.0)


def test_float_file_may_differ_by_rounding_alone() -> None:
    assert agreeing(relative_difference=9e-4).passes("f32", 1.0)
    assert not agreeing(relative_difference=1.1e-3).passes("f32", 1.0)
    assert agreeing(relative_difference=0.5).passes("int8", 1.0)


class Shifted:
    """A session whose dense maps are a pixel off, which single windows cannot show."""

    def __init__(self, session: SceneSession) -> None:
        self.session, self.card = session, session.card

    def run(self, spectra: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.roll(self.session.run(spectra), 1, axis=2)


def test_tile_shows_what_windows_do_not(
    fitted: SceneArtefact, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(fitted, scene)
    path = fitted.folder / "candidates" / "dense_float.onnx"
    session = open_scene_session(path, "f32", 1)
    sessions: dict[FileKey, Any] = {("dense", "f32"): session}
    right = compare_files(run, fitted.network, fitted.reduction, sessions)["dense", "f32"]
    assert right.passes("f32", 1.0)
    assert right.tile == 1
    sessions["dense", "f32"] = Shifted(session)
    wrong = compare_files(run, fitted.network, fitted.reduction, sessions)["dense", "f32"]
    assert wrong.agreement == 1
    assert wrong.tile is not None
    assert wrong.tile < 0.9
    assert not wrong.passes("f32", 1.0)


def run_of(fitted: SceneArtefact, scene: Path) -> Any:
    """What the gate reads of a run."""
    config = replace(WHOLE, data=str(scene))
    read = read_scene(config, str(scene))
    splits = split_scene(config, read, 9)
    return SimpleNamespace(scene=read, config=config, splits=splits)


def test_pixels_without_a_measurement_are_not_compared(
    fitted_placed: SceneArtefact, placed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(fitted_placed.state.config, repeats=1)
    read = read_scene(config, str(placed))
    run: Any = SimpleNamespace(scene=read, config=config, splits=split_scene(config, read, 9))
    asked = []

    def remember(scene: Any, places: Any, *others: Any) -> Any:
        asked.append(places)
        return windows_at(scene, places, *others)

    monkeypatch.setattr(gates, "windows_at", remember)
    monkeypatch.setattr(gates, "COMPARED", 5000)
    compare_files(run, fitted_placed.network, fitted_placed.reduction, {})
    hole = np.zeros((40, 48), bool)
    hole[HOLE] = True
    rows, columns = np.concatenate(asked).T
    assert not hole[rows, columns].any()
    assert len(rows) == run.splits[0].train.sum() + ((read.labels == 0) & ~hole).sum()


def test_untrained_files_cost_what_trained_ones_do(
    fitted: SceneArtefact, scene: Path, tmp_path: Path
) -> None:
    """Otherwise the plan would choose what cannot be shipped."""
    config = replace(WHOLE, data=str(scene))
    read = read_scene(config, config.data)
    split = split_scene(config, read, 9)[0]
    spec = network_spec(config, "hybridsn", 20, 4)
    planned = untrained_files(config, read, split, spec, tmp_path)
    sizes = {f.precision: f.size_bytes for f in fitted.record.files if f.form == "dense"}
    for file in planned:
        assert sizes[file.precision] <= file.size_bytes <= 1.01 * sizes[file.precision]
        assert file.latency_ms > 0
        assert file.excess == 0  # without a budget


def test_dense_files_are_timed_on_a_tile_and_patches_on_a_window(fitted: SceneArtefact) -> None:
    card = fitted.session().card
    assert timed_spectra(card).shape == (1, 72, 72, 20)
    assert timed_spectra(replace(card, form="patch")).shape == (1, 9, 9, 20)
    assert (timed_pixels(card), timed_pixels(replace(card, form="patch"))) == (64**2, 1)
    assert {file.pixels for file in fitted.record.files} == {64**2, 1}
    for file in fitted.record.files:
        assert (file.pixel_latency == file.latency) == (file.form == "patch")


def test_sampled_places_are_of_the_mask_and_of_the_seed() -> None:
    mask = np.random.default_rng(0).random((30, 40)) < 0.3
    found = sample_places(mask, 50, seed=1)
    assert found.shape == (50, 2)
    assert mask[found[:, 0], found[:, 1]].all()
    assert len(np.unique(found, axis=0)) == 50
    np.testing.assert_array_equal(found, sample_places(mask, 50, seed=1))
    assert not np.array_equal(found, sample_places(mask, 50, seed=2))
    assert len(sample_places(mask, 10_000, seed=1)) == mask.sum()
