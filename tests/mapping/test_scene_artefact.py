"""A fitted folder is opened whole, or refused in a sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pocketvision.errors import ArtefactError
from pocketvision.mapping.artefact import (
    SceneArtefact,
    fitted_spec,
    is_scene_folder,
    load_patch_network,
    read_scene_state,
    save_patch_network,
)


@pytest.fixture
def copy(fitted: SceneArtefact, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted.folder, tmp_path / "copy"))


def test_artefact_knows_what_it_is(fitted: SceneArtefact) -> None:
    assert repr(fitted).endswith("fitted': hybridsn 9x9x13)")
    assert fitted.reduction.components == 13
    assert fitted.session() is fitted.session()
    assert fitted.altered_files() == []
    assert fitted_spec(fitted.folder) == fitted.network.spec


def test_network_round_trip(fitted: SceneArtefact, tmp_path: Path) -> None:
    save_patch_network(fitted.network, tmp_path, classes=fitted.classes)
    network, description = load_patch_network(tmp_path)
    assert description.classes == fitted.classes
    kept = fitted.network.state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in network.state_dict().items())
    assert not network.training


def test_folder_that_vanished_is_not_made_anew(fitted: SceneArtefact, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(FileNotFoundError):
        save_patch_network(fitted.network, gone, classes=fitted.classes)
    with pytest.raises(FileNotFoundError):
        fitted.reduction.save(gone / "bands.safetensors")
    assert not gone.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("record.json", "{}", "record.json is not a valid"),
        ("record.json", '{"schema_version": 1}', "holds a network for photos, not for scenes"),
        (
            "record.json",
            '{"schema_version": 99, "task": "hyperspectral"}',
            "has schema version 99; this pocketvision reads up to 3: update pocketvision",
        ),
        ("network.json", "[]", "network.json is not a valid PatchDescription"),
        ("network.safetensors", "no tensors", "network.safetensors is damaged"),
        ("bands.safetensors", "no tensors", "is a damaged safetensors file"),
    ],
)
def test_damaged_file_is_a_sentence(copy: Path, name: str, content: str, message: str) -> None:
    (copy / name).write_text(content)
    with pytest.raises(ArtefactError, match=message):
        SceneArtefact(copy)


@pytest.mark.parametrize("name", ["network.json", "network.safetensors", "bands.safetensors"])
def test_missing_file_is_a_sentence(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ArtefactError, match=rf"{name} does not exist"):
        SceneArtefact(copy)


def test_unfinished_run_says_how_to_go_on(copy: Path) -> None:
    (copy / "record.json").unlink()
    with pytest.raises(ArtefactError, match="has not finished; run the same `fit` command again"):
        SceneArtefact(copy)
    assert not is_scene_folder(copy)


def test_weights_of_another_network_are_refused(copy: Path) -> None:
    tensors = safetensors.torch.load_file(copy / "network.safetensors")
    tensors["head.classifier.bias"] = torch.zeros(9)
    safetensors.torch.save_file(tensors, copy / "network.safetensors")
    with pytest.raises(ArtefactError, match=r"does not fit .*: head\.classifier\.bias differ"):
        SceneArtefact(copy)


def test_weights_that_are_not_numbers_are_refused(copy: Path) -> None:
    tensors = safetensors.torch.load_file(copy / "network.safetensors")
    tensors["head.classifier.bias"][0] = float("nan")
    safetensors.torch.save_file(tensors, copy / "network.safetensors")
    with pytest.raises(ArtefactError, match="holds weights that are not numbers"):
        SceneArtefact(copy)


def test_altered_files_are_named(copy: Path) -> None:
    (copy / "model" / "run.py").write_text("altered")
    (copy / "model" / "more").mkdir()
    (copy / "model" / "model.onnx").unlink()
    assert SceneArtefact(copy).altered_files() == ["model.onnx", "more", "run.py"]


def test_scene_folders_are_told_from_others(fitted: SceneArtefact, tmp_path: Path) -> None:
    assert is_scene_folder(fitted.folder)
    assert not is_scene_folder(tmp_path)
    (tmp_path / "record.json").write_text("no JSON")
    assert not is_scene_folder(tmp_path)


def test_state_needs_its_file(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"run\.json does not exist"):
        read_scene_state(tmp_path)
