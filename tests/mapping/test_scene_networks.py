"""Networks by name, and networks that go on from another scene's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_scenes import QUICK, WHOLE, Told, small_cube, small_labels, write_scene

from pocketvision.budget import Budget
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.fitting.reporter import Silent
from pocketvision.mapping import networks, plan
from pocketvision.mapping.artefact import SceneArtefact
from pocketvision.mapping.config import SceneConfig
from pocketvision.mapping.networks import (
    check_weights,
    components_of,
    network_spec,
    new_network,
    ordered_networks,
    with_methods,
)
from pocketvision.mapping.reading import cube_sha256, read_scene, split_scene
from pocketvision.mapping.start import open_run
from pocketvision.models.patch import PatchSpec

NAMES = ("corn", "hay", "oats", "woods")


def asking(fitted: SceneArtefact, **options: object) -> SceneConfig:
    """All methods, from the weights of `fitted`, with its sizes unless told otherwise."""
    taken = {"data": "x", "window": None, "components": None, **options}
    return replace(WHOLE, weights=str(fitted.folder), **taken)  # type: ignore[arg-type]


def test_sizes_come_from_the_options_or_the_paper() -> None:
    config = SceneConfig(data="x")
    assert network_spec(config, "hybridsn", 200, 16).label == "hybridsn 25x25x30"
    assert components_of(config, 20) == 20  # fewer bands than thirty
    kept = replace(config, bands="standardise")
    assert components_of(kept, 200) == 200
    with pytest.raises(ConfigError, match="components goes with --bands pca or select"):
        components_of(replace(kept, components=5), 200)


@pytest.mark.parametrize(("name", "kind"), [("se", "squeeze_excite"), ("cbam", "cbam")])
def test_attention_is_that_of_the_head(name: str, kind: str) -> None:
    for method in ("hybridsn", "mobile_patch"):
        config = replace(WHOLE, attention=name)  # type: ignore[arg-type]
        attention = network_spec(config, method, 20, 4).head.attention
        assert attention is not None
        assert attention.kind == kind


def test_weights_lend_their_sizes_and_come_first(fitted: SceneArtefact) -> None:
    config = asking(fitted, methods=("mobile_patch", "hybridsn"))
    assert ordered_networks(config) == ("hybridsn", "mobile_patch")
    assert network_spec(config, "hybridsn", 17, 4) == fitted.network.spec
    assert network_spec(config, "mobile_patch", 17, 4).label == "mobile_patch 9x9x13"


def test_other_classes_keep_all_but_the_last_layer(fitted: SceneArtefact) -> None:
    config = asking(fitted)
    spec = network_spec(config, "hybridsn", 17, 3)
    network, start = new_network(config, spec, ("a", "b", "c"), seed=5)
    assert start == "from hybridsn 9x9x13 of Small <b>scene, with a new last layer"
    fresh, kept = spec.build(5).state_dict(), fitted.network.state_dict()
    for name, tensor in network.state_dict().items():
        source = fresh if name.startswith("head.classifier.") else kept
        assert torch.equal(tensor, source[name]), name


def test_same_classes_keep_everything(fitted: SceneArtefact) -> None:
    config = asking(fitted)
    spec = network_spec(config, "hybridsn", 17, 4)
    network, start = new_network(config, spec, NAMES, seed=5)
    assert start == "from hybridsn 9x9x13 of Small <b>scene"
    kept = fitted.network.state_dict()
    assert all(torch.equal(t, kept[name]) for name, t in network.state_dict().items())
    renamed = new_network(config, spec, ("corn", "hay", "woods", "oats"), seed=5)[1]
    assert renamed.endswith("with a new last layer")


def test_numbers_are_no_names_of_classes(
    fitted: SceneArtefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Class 1 of one scene is not class 1 of another."""
    numbers = tuple(f"class {number}" for number in range(1, 5))

    class Numbered(SceneArtefact):
        def __init__(self, folder: str | Path) -> None:
            super().__init__(folder)
            self.classes = numbers

    monkeypatch.setattr(networks, "SceneArtefact", Numbered)
    config = asking(fitted)
    spec = network_spec(config, "hybridsn", 17, 4)
    assert new_network(config, spec, numbers, seed=5)[1].endswith("with a new last layer")


# ---- weights of the same cube


def test_weights_of_the_same_cube_need_the_same_split(
    fitted: SceneArtefact, scene: Path, tmp_path: Path
) -> None:
    config = asking(fitted, data=str(scene), steps=2)
    read = read_scene(config, str(scene))
    cube = cube_sha256(read)
    assert fitted.record.scene.cube_sha256 == cube
    assert check_weights(config, cube, split_scene(config, read, 9)) == fitted.state.seen
    assert check_weights(config, "another cube", split_scene(config, read, 9))
    for options in ({"seed": 1}, {"split": "random"}, {"repeats": 2}):
        other = replace(config, **options)
        with pytest.raises(
            ConfigError, match=r"fitted to this very cube by another split.*Leave --"
        ):
            check_weights(other, cube, split_scene(other, read, 9))
    with pytest.raises(ConfigError, match="weights may have learned the pixels that would be test"):
        open_run(replace(config, seed=1), tmp_path / "out", Silent(), "asked")
    assert not (tmp_path / "out").exists()


def test_cube_is_known_by_its_spectra_alone(scene: Path, tmp_path: Path) -> None:
    """Other labels, another type of numbers and other names make no other cube."""
    config = replace(QUICK, data=str(scene))
    cube = cube_sha256(read_scene(config, str(scene)))
    numbers = small_cube(small_labels())
    labels = np.where(small_labels() > 2, 0, small_labels())
    same = write_scene(tmp_path / "same", numbers.astype(np.float64), labels, facts="{}")
    assert cube_sha256(read_scene(config, str(same))) == cube
    numbers[0, 0, 0] += 1
    other = write_scene(tmp_path / "other", numbers)
    assert cube_sha256(read_scene(config, str(other))) != cube


def test_weights_remember_the_cubes_before(
    fitted: SceneArtefact, scene: Path, tmp_path: Path
) -> None:
    """A cube between two trainings on the same one does not wash the first away."""
    folder = write_scene(tmp_path / "b", small_cube(small_labels(), seed=3))
    config = asking(fitted, data=str(folder), methods=("hybridsn",), steps=2)
    run = open_run(config, tmp_path / "out", Silent(), "asked")
    assert set(run.state.seen) == {fitted.state.cube_sha256, run.state.cube_sha256}


# ---- scenes that are too small for HybridSN


def test_hybridsn_is_left_out_where_it_does_not_fit() -> None:
    config, said = with_methods(SceneConfig(data="x"), bands=12)
    assert config.methods == ("mobile_patch", "svm")
    assert said == (
        "HybridSN needs 13 bands after reduction and a window of 9, and has 12 and 25: it is left "
        "out."
    )
    assert with_methods(SceneConfig(data="x", window=7), 200)[0].methods == config.methods
    assert with_methods(SceneConfig(data="x"), 13) == (
        SceneConfig(data="x", methods=("hybridsn", "mobile_patch", "svm")),
        "",
    )


def test_hybridsn_asked_for_by_name_names_the_way_out() -> None:
    config = SceneConfig(data="x", methods=("hybridsn",), window=7)
    with pytest.raises(ConfigError, match=r"has 30 and 7; give more .*or take --models mobile_pat"):
        with_methods(config, bands=200)


def test_small_scene_begins_without_hybridsn(scene: Path, tmp_path: Path) -> None:
    config = replace(QUICK, data=str(scene), methods=(), components=6, steps=2)
    run = open_run(config, tmp_path / "out", told := Told(), "asked")
    assert run.state.spec.name == "mobile_patch"
    assert run.config.methods == ("mobile_patch", "svm")
    assert any(sentence.startswith("HybridSN needs 13 bands") for sentence in told.sentences)
    again = open_run(config, tmp_path / "out", Silent(), "asked")
    assert again.config.methods == run.config.methods


def test_comparison_starts_from_scratch(fitted: SceneArtefact) -> None:
    config = asking(fitted)
    spec = network_spec(config, "mobile_patch", 17, 4)
    network, start = new_network(config, spec, NAMES, seed=5)
    assert start == "from scratch"
    fresh = spec.build(5).state_dict()
    assert all(torch.equal(t, fresh[name]) for name, t in network.state_dict().items())


def test_scene_of_other_bands_and_classes_begins_from_weights(
    fitted: SceneArtefact, tmp_path: Path
) -> None:
    labels = np.where(small_labels() > 3, 0, small_labels()).astype(np.uint8)
    cube = small_cube(labels, bands=17)
    folder = write_scene(tmp_path / "b", cube, labels, facts='{"name": "B"}')
    config = asking(fitted, data=str(folder), methods=("hybridsn",), steps=2)
    run = open_run(config, tmp_path / "out", Silent(), "asked")
    assert run.state.start == "from hybridsn 9x9x13 of Small <b>scene, with a new last layer"
    assert run.state.spec == fitted.network.spec.with_classes(3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 11}, r"window=11, but .* has 9; leave it away"),
        ({"components": 15}, r"components=15, but .* has 13; leave it away"),
        ({"attention": "se"}, r"attention=se, but .* has none; leave it away"),
        ({"methods": ("mobile_patch",)}, "holds hybridsn 9x9x13, which --models rules out"),
        ({"bands": "standardise"}, "standardise keeps all 17 bands, but .* takes 13; reduce them"),
    ],
)
def test_options_that_contradict_the_weights_are_refused(
    fitted: SceneArtefact, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        network_spec(asking(fitted, **options), "hybridsn", 17, 4)


def test_weights_that_are_no_fitted_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"nowhere is not a folder; give the folder that `fit`"):
        ordered_networks(replace(QUICK, weights=str(tmp_path / "nowhere")))
    (tmp_path / "record.json").write_text('{"schema_version": 1, "more": 2}')
    with pytest.raises(ArtefactError, match="holds a network for photos, not for scenes"):
        ordered_networks(replace(QUICK, weights=str(tmp_path)))


def test_weights_over_the_budget_are_told(
    fitted: SceneArtefact, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untrained(_: object, __: object, ___: object, spec: PatchSpec, *____: object) -> list[Any]:
        return [SimpleNamespace(excess=2.0 if spec.name == "hybridsn" else 0.5)]

    monkeypatch.setattr(plan, "untrained_files", untrained)
    config = asking(fitted, data=str(scene), budget=Budget(size_bytes=110_000))
    run = open_run(config, tmp_path / "out", told := Told(), "asked")
    assert run.state.spec.name == "mobile_patch"
    assert (
        f"The network of {fitted.folder} does not fit 110 kB; mobile_patch 9x9x13 starts from "
        "scratch."
    ) in told.sentences
