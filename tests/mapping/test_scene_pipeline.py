"""The main job on a scene: what the folder holds, and that its figures can be found again."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_scenes import BANDS, HOLE, IDS, QUICK, WHOLE, Told

from pocketvision.budget import Budget, format_latency
from pocketvision.data.scene.bands import reduce_scene
from pocketvision.data.scene.leakage import leakage
from pocketvision.data.scene.reading import open_scene
from pocketvision.data.scene.splits import blocks_split
from pocketvision.errors import ArtefactError, ConfigError, GateError
from pocketvision.fitting import waiting
from pocketvision.fitting.artefact import load
from pocketvision.mapping import files, finish, gates, methods, pipeline
from pocketvision.mapping.artefact import SceneArtefact, read_scene_state
from pocketvision.mapping.config import Bands, SceneConfig, SceneState
from pocketvision.mapping.methods import network_map
from pocketvision.mapping.pipeline import run_scene_fit
from pocketvision.mapping.run import SceneRun
from pocketvision.mapping.verify import verify_scene
from pocketvision.record.run import Verdict
from pocketvision.report.scene_rows import leak_sentence
from pocketvision.report.text import percent
from pocketvision.runtimes.scene_export import TILE
from pocketvision.scene_record import MethodRun
from pocketvision.storage import sha256_file


def classes_of(artefact: SceneArtefact) -> NDArray[np.int16]:
    """classes.npy of a fitted folder."""
    classes: NDArray[np.int16] = np.load(artefact.folder / "classes.npy")
    return classes


def untimed(run: MethodRun) -> MethodRun:
    """The run without what a clock said."""
    return replace(run, train_seconds=0.0, map_seconds=0.0)


@pytest.fixture
def trained_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs end behind the trainings, in state "unfinished"."""

    def stop(run: SceneRun) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "finish", stop)


def trained(config: SceneConfig, out: Path) -> SceneState:
    """The state of a run that `trained_only` ends."""
    with pytest.raises(KeyboardInterrupt):
        run_scene_fit(config, out)
    return read_scene_state(out)


def test_folder_holds_what_the_design_promises(fitted: SceneArtefact) -> None:
    assert {path.name for path in fitted.folder.iterdir()} == {
        *("model", "candidates", "network.json", "network.safetensors", "bands.safetensors"),
        *("run.json", "record.json", "report.html", "README.md", "map.png", "classes.npy"),
    }
    assert {p.name for p in (fitted.folder / "model").iterdir()} == {"model.onnx", "run.py"}
    assert fitted.state.status == "done"


def test_record_is_complete(fitted: SceneArtefact) -> None:
    record = fitted.record
    assert record.task == "hyperspectral"
    assert [run.method for run in record.runs] == ["hybridsn", "mobile_patch", "svm"]
    names = [step.name for step in record.steps]
    assert names == ["plan", "train", "export", "gate", "measure", "map"]
    assert record.scene.classes == fitted.classes == ("corn", "hay", "oats", "woods")
    assert record.network.label == "hybridsn 9x9x13"
    assert record.curves[-1].step == WHOLE.steps
    assert [(f.form, f.precision) for f in record.files] == [
        *(("dense", "f32"), ("dense", "int8"), ("patch", "f32"), ("patch", "int8"))
    ]
    assert sum(file.shipped for file in record.files) == 1
    model = fitted.folder / "model"
    assert record.shipped.files == {p.name: sha256_file(p) for p in model.iterdir()}
    assert record.shipped.size_bytes == sum(p.stat().st_size for p in model.iterdir())
    shipped = next(file for file in record.files if file.shipped)
    assert shipped.size_bytes == record.shipped.size_bytes
    assert shipped.form == record.shipped.form == "dense"


def test_headline_is_found_again_from_the_map_and_the_split(
    fitted: SceneArtefact, scene: Path
) -> None:
    """By sums of one's own: neither the scores nor the split come from the run."""
    truth = open_scene(scene)
    assert truth.labels is not None
    split = blocks_split(truth.labels, train_share=0.3, window=9, seed=0)
    right = classes_of(fitted)[split.test] == truth.labels[split.test]
    assert fitted.record.headline.n == split.test.sum()
    assert fitted.record.headline.overall == pytest.approx(right.mean(), abs=1e-12)
    recalls = [right[truth.labels[split.test] == k].mean() for k in range(1, 5)]
    assert fitted.record.headline.average == pytest.approx(np.mean(recalls), abs=1e-12)
    assert fitted.record.headline.overall > 0.6
    assert sum(map(sum, fitted.record.confusion)) == split.test.sum()


def test_leakage_stands_beside_the_accuracy(fitted: SceneArtefact, scene: Path) -> None:
    labels = open_scene(scene).labels
    assert labels is not None
    split = blocks_split(labels, train_share=0.3, window=9, seed=0)
    assert fitted.record.splits[0].leakage == leakage(split)
    assert fitted.record.splits[0].leakage.centre == 0
    assert leak_sentence(leakage(split)) in fitted.record.verdict.sentence


def test_pages_escape_names(fitted: SceneArtefact) -> None:
    report = (fitted.folder / "report.html").read_text()
    assert "Small <b>scene" not in report
    assert fitted.record.verdict.sentence.split("(")[0] in report
    assert "OA" in (fitted.folder / "README.md").read_text()


def test_float_files_agree_with_the_network(fitted: SceneArtefact) -> None:
    for file in fitted.record.files:
        if file.precision == "f32":
            assert file.agreement == 1
            assert file.largest_difference < 1e-3


def test_saved_network_is_the_one_that_was_scored(fitted: SceneArtefact, scene: Path) -> None:
    """Its map in PyTorch has the accuracy of the first run, and is the same twice."""
    read = open_scene(scene)
    bands = reduce_scene(read, fitted.reduction)
    classes = network_map(fitted.network, bands)
    assert read.labels is not None
    split = blocks_split(read.labels, train_share=0.3, window=9, seed=0)
    right = (classes == read.labels)[split.test]
    assert right.mean() == pytest.approx(fitted.record.runs[0].scores.overall, abs=0.002)
    np.testing.assert_array_equal(network_map(fitted.network, bands), classes)


def test_dropout_is_there_and_off(fitted: SceneArtefact) -> None:
    """The same windows give the same numbers twice; in train mode they do not."""
    network = fitted.network
    assert not network.training
    windows = torch.randn(4, 13, 9, 9, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(network(windows), network(windows))
        network.train()
        try:
            assert not torch.equal(network(windows), network(windows))
        finally:
            network.eval()


BLOCKED = """
import runpy, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "pocketvision", "onnx", "sklearn"):
            raise ImportError(f"{name} must not be needed")
sys.meta_path.insert(0, Blocker())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_shipped_script_gives_the_map_without_this_package(
    fitted: SceneArtefact, scene: Path, tmp_path: Path
) -> None:
    words = [fitted.folder / "model" / "run.py", scene / "cube.npy", tmp_path / "classes.npy"]
    subprocess.run([sys.executable, "-c", BLOCKED, *map(str, words)], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "classes.npy"), classes_of(fitted))


def test_photos_are_told_apart(fitted: SceneArtefact) -> None:
    with pytest.raises(ArtefactError, match="hyperspectral scenes, not for photos"):
        load(fitted.folder)


def test_pixels_without_a_measurement_are_neither_trained_nor_tested(
    fitted_placed: SceneArtefact,
) -> None:
    record = fitted_placed.record
    hole = np.zeros((40, 48), bool)
    hole[HOLE] = True
    assert record.scene.missing == hole.sum()
    assert (classes_of(fitted_placed)[hole] == 0).all()
    assert (classes_of(fitted_placed)[~hole] > 0).all()
    assert sum(record.scene.counts) == 1536 - hole.sum()  # all of it was labelled
    assert fitted_placed.session().card.class_ids == IDS


def test_repeats_have_their_own_splits_seeds_and_runs(fitted_placed: SceneArtefact) -> None:
    record = fitted_placed.record
    assert [split.seed for split in record.splits] == [0, 1]
    assert [(run.method, run.seed) for run in record.runs] == [
        *(("mobile_patch", 0), ("svm", 0), ("mobile_patch", 1), ("svm", 1))
    ]
    assert record.splits[0].train != record.splits[1].train


@pytest.mark.usefixtures("trained_only")
def test_same_seed_gives_the_same_figures_and_another_seed_others(
    scene: Path, tmp_path: Path
) -> None:
    config = replace(QUICK, data=str(scene), methods=("mobile_patch", "svm"))
    first, second = (trained(config, tmp_path / name) for name in ("a", "b"))
    assert list(map(untimed, first.runs)) == list(map(untimed, second.runs))
    weights = [(tmp_path / name / "network.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]
    third = trained(replace(config, seed=1), tmp_path / "c")
    assert untimed(third.runs[0]).scores != untimed(first.runs[0]).scores


@pytest.mark.usefixtures("trained_only")
def test_training_by_patches(scene: Path, tmp_path: Path) -> None:
    state = trained(replace(QUICK, data=str(scene), training="patches", steps=2), tmp_path / "out")
    assert state.runs[0].training == "patches"


@pytest.mark.parametrize("bands", ["standardise", "select", "pca"])
@pytest.mark.usefixtures("trained_only")
def test_bands_can_be_reduced_otherwise(scene: Path, tmp_path: Path, bands: Bands) -> None:
    config = replace(
        QUICK,
        data=str(scene),
        steps=2,
        bands=bands,
        components=None if bands == "standardise" else 6,
        whiten=bands != "pca",
    )
    state = trained(config, tmp_path / "out")
    assert state.spec.bands == (BANDS if bands == "standardise" else 6)


@pytest.mark.slow
def test_attention_is_shipped_dense_too(scene: Path, tmp_path: Path) -> None:
    """Each pixel has gates of its own, in smaller tiles."""
    config = replace(QUICK, data=str(scene), attention="se", precisions=("f32",))
    artefact = run_scene_fit(config, tmp_path / "out")
    record = artefact.record
    assert record.network.label == "mobile_patch + squeeze_excite 9x9x6"
    assert record.shipped.form == "dense"
    assert artefact.session().card.tile < TILE
    assert all(check.passed for check in verify_scene(artefact.folder, scene).checks[:-1])


@pytest.mark.slow
def test_file_that_loses_too_much_is_not_shipped(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = gates.compare_files

    def spoiled(*words: object) -> dict[gates.FileKey, gates.Agreement]:
        found = real(*words)  # type: ignore[arg-type]
        return {k: replace(v, drop=0.5) if k[1] == "int8" else v for k, v in found.items()}

    monkeypatch.setattr(files, "compare_files", spoiled)
    artefact = run_scene_fit(replace(QUICK, data=str(scene), max_drop_points=1.0), tmp_path / "out")
    assert artefact.record.shipped.precision == "f32"
    assert {f.precision: f.passed_gate for f in artefact.record.files} == {
        "f32": True,
        "int8": False,
    }
    assert "budget" not in artefact.record.verdict.sentence
    assert artefact.record.verdict.met is None


def test_nothing_that_passes_is_a_failed_run(
    fitted: SceneArtefact, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network stays, and the folder is neither gone on with nor opened."""
    bad = replace(fitted.record.files[0], drop=0.25, agreement=0.5, passed_gate=False)
    built = files.Built(figures=bad, path=fitted.model_file, card=fitted.session().card)
    monkeypatch.setattr(finish, "build_files", lambda *_: [built])
    out, config = tmp_path / "out", replace(QUICK, data=str(scene), steps=2)
    with pytest.raises(GateError, match=r"f32 loses 25\.00 points of OA and agrees on 50\.0% of"):
        run_scene_fit(config, out)
    assert read_scene_state(out).status == "failed"
    assert (out / "network.safetensors").is_file()
    assert not (out / "model").exists()
    with pytest.raises(ConfigError, match="a run that failed its gate or budget"):
        run_scene_fit(config, out)


def test_file_over_the_budget_is_told_by_the_pixel(fitted: SceneArtefact, scene: Path) -> None:
    first = fitted.record.files[0]
    pixel = replace(first.latency, high_ms=7.0)
    late = replace(first, within_budget=False, pixel_latency=pixel)
    built = files.Built(figures=late, path=fitted.model_file, card=fitted.session().card)

    class Stub:
        state, config, out, target = fitted.state, fitted.state.config, fitted.folder, None

    sentence = files.missed_sentence(Stub, [built])  # type: ignore[arg-type]
    assert "f32 measures 7 ms a pixel and " in sentence
    assert files.choose_file([built]) is None


def test_what_is_slower_than_it_was_planned_to_be_is_measured_again_in_a_while(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And believed, where it stays so."""
    measured, slow, slept = files.measure_files, [True, False], list[float]()

    def measure(*args: Any) -> Any:
        found = measured(*args)
        if not slow.pop(0):
            return found
        return {
            key: (tile, replace(pixel, median_ms=1900.0, high_ms=2000.0))
            for key, (tile, pixel) in found.items()
        }

    monkeypatch.setattr(files, "measure_files", measure)
    monkeypatch.setattr(waiting, "PAUSES_S", (15.0, 30.0))
    monkeypatch.setattr(waiting, "sleep", slept.append)
    config = replace(
        QUICK, data=str(scene), budget=Budget(latency_ms=1000.0), precisions=("f32",), steps=2
    )
    found = run_scene_fit(config, tmp_path / "out", told := Told())
    assert found.record.budget.latency_ms == 1000.0
    assert all(file.within_budget for file in found.record.files)
    assert slept == [15.0]
    assert any("takes up to 2 s a pixel now, and was within" in said for said in told.sentences)
    slow += [True] * 3
    slept.clear()
    with pytest.raises(GateError, match=r"within 1 s .*: f32 measures 2 s a pixel and"):
        run_scene_fit(config, tmp_path / "missed")
    assert slept == [15.0, 30.0]


def test_diverged_training_is_a_failed_run_without_a_checkpoint(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the same command would go on from weights that are broken."""

    def diverge(*words: object, **_: object) -> None:
        folder = words[3]
        assert isinstance(folder, Path)
        folder.mkdir(parents=True)
        (folder / "scene.ckpt").write_text("broken")
        raise GateError("The training loss became nan at step 7; lower the learning rate.")

    monkeypatch.setattr(methods, "train_scene", diverge)
    config, out = replace(QUICK, data=str(scene)), tmp_path / "out"
    with pytest.raises(
        GateError, match=r"mobile_patch, seed 0: .*nan at step 7; lower.*another --"
    ):
        run_scene_fit(config, out)
    assert read_scene_state(out).status == "failed"
    assert not list(out.rglob("scene.ckpt"))
    with pytest.raises(ConfigError, match="a run that failed its gate or budget"):
        run_scene_fit(config, out)


def verdict_of(fitted: SceneArtefact, budget: Budget, spent_s: float, steps: int = 60) -> Verdict:
    """Of the fitted run, had it been asked and done otherwise."""
    record = fitted.record
    runs = tuple(replace(run, steps=steps if run.steps else None) for run in record.runs)
    run = SimpleNamespace(
        config=replace(fitted.state.config, budget=budget),
        clock=SimpleNamespace(spent_s=spent_s),
        state=replace(fitted.state, runs=runs),
        target=None,
    )
    shipped = next(file for file in record.files if file.shipped)
    leaks = record.splits[0].leakage
    return finish._verdict(run, shipped, record.shipped, record.headline, leaks)  # type: ignore[arg-type]


def test_verdict_holds_the_time_against_what_was_asked(fitted: SceneArtefact) -> None:
    asked = Budget(time_s=600)
    assert verdict_of(fitted, asked, 655).met
    late = verdict_of(fitted, asked, 665)
    assert late.met is False
    assert late.sentence.endswith("It took 11 m of 10 m asked.")
    assert verdict_of(fitted, Budget(size_bytes=9_000_000), 1e6).met
    assert verdict_of(fitted, Budget(), 1e6).met is None


def test_verdict_names_the_pixel_and_a_shortened_training(fitted: SceneArtefact) -> None:
    shipped = next(file for file in fitted.record.files if file.shipped)
    latency = format_latency(shipped.pixel_latency.median_ms)
    sentence = verdict_of(fitted, Budget(), 0).sentence
    assert f"(AA {percent(fitted.record.headline.average)}, kappa" in sentence
    assert f"takes {latency} for one pixel from its window" in sentence
    assert "The time held" not in sentence
    cut = verdict_of(fitted, Budget(time_s=600), 600, steps=41).sentence
    assert "The time held 41 of 60 steps of its training." in cut


def test_runs_tell_steps_and_pixels(fitted: SceneArtefact) -> None:
    trained = sum(fitted.record.splits[0].train)
    assert [(run.steps, run.learned_from) for run in fitted.record.runs] == [
        *((60, trained), (60, trained), (None, trained))
    ]
