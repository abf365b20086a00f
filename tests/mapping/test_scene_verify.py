"""The release gate of a network for scenes: what it checks, and that it can fail."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_scenes import SCENE_JSON, small_cube, small_labels, write_scene

from pocketvision.errors import ArtefactError, ConfigError, DataError
from pocketvision.fitting.checks import Check, Verification
from pocketvision.mapping import verify as module
from pocketvision.mapping.artefact import SceneArtefact
from pocketvision.mapping.verify import verify_scene
from pocketvision.record.timing import Latency
from pocketvision.scene_record import FileFigures
from pocketvision.storage import to_json, write_atomic


def shipped(artefact: SceneArtefact) -> FileFigures:
    return next(file for file in artefact.record.files if file.shipped)


def timed(monkeypatch: pytest.MonkeyPatch, tile: Latency, pixel: Latency) -> None:
    """From now on these are measured."""
    monkeypatch.setattr(
        module, "measure_files", lambda sessions, *_: dict.fromkeys(sessions, (tile, pixel))
    )


@pytest.fixture
def copy(fitted: SceneArtefact, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted.folder, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def _same_latency(fitted: SceneArtefact, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorded latency again: timing itself is tested elsewhere, and cannot be relied on."""
    timed(monkeypatch, shipped(fitted).latency, shipped(fitted).pixel_latency)


def check(found: Verification, name: str) -> Check:
    return next(c for c in found.checks if c.name == name)


def test_untouched_artefact_passes_every_check(fitted: SceneArtefact, scene: Path) -> None:
    found = verify_scene(fitted.folder, scene)
    assert [(c.name, c.passed) for c in found.checks] == [
        ("seal", True),
        ("files", True),
        ("size", True),
        ("accuracy", True),
        ("latency", True),
        ("latency, tile", True),
        ("versions", None),
    ]
    assert "0 % of test windows hold a training centre" in check(found, "accuracy").note
    assert check(found, "latency").note.startswith("pixels a run: 1;")
    assert check(found, "latency, tile").note.startswith("pixels a run: 4096;")
    assert found.same_machine
    assert check(found, "accuracy").found == check(found, "accuracy").recorded


def test_hole_and_gaps_pass_too(fitted_placed: SceneArtefact, placed: Path) -> None:
    found = verify_scene(fitted_placed.folder, placed)
    assert check(found, "accuracy").found == check(found, "accuracy").recorded


def test_altered_model_fails_and_is_not_run(copy: Path, scene: Path) -> None:
    file = copy / "model" / "model.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    found = verify_scene(copy, scene)
    assert [(c.name, c.passed) for c in found.checks] == [("seal", True), ("files", False)]
    assert check(found, "files").found == "altered, missing or added: model.onnx"


def test_what_lies_beside_the_model_is_sealed(copy: Path, fitted: SceneArtefact) -> None:
    (copy / "classes.npy").write_bytes(b"others")
    write_atomic(copy / "record.json", to_json(replace(fitted.record, command="another")))
    found = verify_scene(copy)
    assert check(found, "seal").found == "altered or missing: classes.npy, record.json"
    assert not found.passed


def test_without_the_scene_the_rest_is_checked(fitted: SceneArtefact) -> None:
    found = verify_scene(fitted.folder)
    assert found.passed
    assert found.not_checked == ("accuracy",)
    assert check(found, "accuracy").note == "needs the scene: verify FOLDER SCENE"
    assert check(found, "latency").passed


def test_altered_script_fails(copy: Path, scene: Path) -> None:
    (copy / "model" / "run.py").write_text("altered")
    found = verify_scene(copy, scene)
    assert check(found, "files").passed is False
    assert check(found, "accuracy").passed
    assert not found.passed


@pytest.mark.parametrize("name", ["model.onnx", "run.py"])
def test_missing_file_fails(copy: Path, scene: Path, name: str) -> None:
    (copy / "model" / name).unlink()
    assert not verify_scene(copy, scene).passed


def test_added_file_fails_and_counts(copy: Path, scene: Path) -> None:
    (copy / "model" / "more.bin").write_bytes(b"0" * 1000)
    found = verify_scene(copy, scene)
    assert check(found, "files").passed is False
    assert check(found, "size").passed is False


def test_higher_claim_fails(copy: Path, scene: Path, fitted: SceneArtefact) -> None:
    claimed = replace(fitted.record.headline, overall=fitted.record.headline.overall + 0.01)
    write_atomic(copy / "record.json", to_json(replace(fitted.record, headline=claimed)))
    assert check(verify_scene(copy, scene), "accuracy").passed is False


def test_altered_scene_is_a_sentence(fitted: SceneArtefact, tmp_path: Path) -> None:
    cube = small_cube(small_labels())
    cube[0, 0, 0] += 1
    other = write_scene(tmp_path / "scene", cube)
    with pytest.raises(DataError, match=r"is not the scene that .* was fitted to \(compared by co"):
        verify_scene(fitted.folder, other)


def test_same_content_in_another_folder_passes(fitted: SceneArtefact, tmp_path: Path) -> None:
    moved = write_scene(tmp_path / "moved", facts=SCENE_JSON)
    assert check(verify_scene(fitted.folder, moved), "accuracy").passed


def test_scene_without_labels_is_a_sentence(fitted: SceneArtefact, tmp_path: Path) -> None:
    np.save(tmp_path / "cube.npy", small_cube(small_labels()))
    with pytest.raises(DataError, match=r"cube\.npy has no labels"):
        verify_scene(fitted.folder, tmp_path / "cube.npy")


def test_split_that_cannot_be_made_again_is_a_sentence(
    copy: Path, scene: Path, fitted: SceneArtefact
) -> None:
    """Otherwise pixels that were trained on could be tested."""
    write_atomic(copy / "run.json", to_json(replace(fitted.state, split_sha256="0" * 64)))
    with pytest.raises(DataError, match=r"The split of .*copy cannot be made again"):
        verify_scene(copy, scene)


def test_verify_needs_no_weights_that_the_run_began_from(
    copy: Path, scene: Path, fitted: SceneArtefact
) -> None:
    config = replace(fitted.state.config, weights="gone", window=None)
    write_atomic(copy / "run.json", to_json(replace(fitted.state, config=config)))
    assert verify_scene(copy, scene).passed


@pytest.mark.parametrize("name", ["labels", "mask"])
def test_files_that_lie_elsewhere_now_are_named(
    copy: Path, scene: Path, fitted: SceneArtefact, tmp_path: Path, name: str
) -> None:
    gone = str(tmp_path / "gone.npy")
    mask = {"split": "given", "mask": gone} if name == "mask" else {"labels": gone}
    config = replace(fitted.state.config, **mask)  # type: ignore[arg-type]
    write_atomic(copy / "run.json", to_json(replace(fitted.state, config=config)))
    with pytest.raises(DataError, match=rf"--{name} .*gone\.npy, which is not there; say where wi"):
        verify_scene(copy, scene)


def test_labels_can_be_given_where_they_lie_now(
    copy: Path, scene: Path, fitted: SceneArtefact
) -> None:
    config = replace(fitted.state.config, labels="gone.npy")
    write_atomic(copy / "run.json", to_json(replace(fitted.state, config=config)))
    assert verify_scene(copy, scene, labels=scene / "labels.npy").passed
    with pytest.raises(
        ConfigError, match=r"the fit had no --mask, so --mask m\.npy cannot be chec"
    ):
        verify_scene(copy, scene, labels=scene / "labels.npy", mask="m.npy")


def slower(recorded: Latency, factor: float) -> Latency:
    """Certain, and that many times the recorded upper bound."""
    ms = factor * recorded.high_ms
    return replace(recorded, low_ms=ms, median_ms=ms, high_ms=ms, noise="")


def test_slower_machine_fails_only_beyond_both_intervals(
    fitted: SceneArtefact, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tile, pixel = shipped(fitted).latency, shipped(fitted).pixel_latency
    for factor, passed in ((1.14, True), (1.16, False)):
        timed(monkeypatch, tile, slower(pixel, factor))
        found = verify_scene(fitted.folder, scene)
        assert check(found, "latency").passed is passed
        assert check(found, "latency, tile").passed
        timed(monkeypatch, slower(tile, factor), pixel)
        assert check(verify_scene(fitted.folder, scene), "latency, tile").passed is passed


def test_another_machine_only_informs(
    fitted: SceneArtefact, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(fitted.record.machine, cpu="another")
    monkeypatch.setattr(module, "on_recorded_machine", lambda recorded: recorded == other)
    found = verify_scene(fitted.folder, scene)
    assert check(found, "latency").passed is None
    assert "give --latency to set a limit" in check(found, "latency").note
    assert found.passed


def test_limit_decides_on_any_machine(fitted: SceneArtefact, scene: Path) -> None:
    tight = verify_scene(fitted.folder, scene, latency="0.000001ms")
    assert check(tight, "latency").passed is False
    assert check(tight, "latency, tile").passed  # the limit is for a pixel
    assert check(verify_scene(fitted.folder, scene, latency="100s"), "latency").passed
    with pytest.raises(ConfigError, match="latency '5' has no unit"):
        verify_scene(fitted.folder, scene, latency="5")


def test_folder_without_a_record_is_refused(tmp_path: Path, scene: Path) -> None:
    with pytest.raises(ArtefactError, match=r"it holds no record\.json; was it made by `fit`"):
        verify_scene(tmp_path, scene)
