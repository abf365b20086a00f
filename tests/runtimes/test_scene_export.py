"""A file for scenes computes what the network does behind its reduction, in both forms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from scene_files import (
    BANDS,
    CLASSES,
    WINDOW,
    exported,
    reduced,
    small_card,
    small_network,
    small_reduction,
    small_spectra,
)

from pocketvision.data.scene.scene import ArrayCube, Scene
from pocketvision.errors import ArtefactError, ConfigError
from pocketvision.models.dense import DenseTwin
from pocketvision.models.hybridsn import hybridsn
from pocketvision.models.mobile_patch import mobile_patch
from pocketvision.models.patch import PatchSpec
from pocketvision.nn.attention import CbamSpec, SqueezeExciteSpec
from pocketvision.runtimes.onnxfile import inspect_onnx, metadata, read_model, set_metadata
from pocketvision.runtimes.scene_export import (
    WINDOWS_TILE,
    SceneCard,
    check_exported_scene,
    export_scene,
)
from pocketvision.runtimes.scene_graph import EveryWindow, SlicedVolumes
from pocketvision.runtimes.scene_onnx import open_scene_session
from pocketvision.scene_record import Form


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("scene")
    return {"dense": exported(folder, "dense"), "patch": exported(folder, "patch")}


def test_patch_file_computes_what_the_network_does(files: dict[str, Path]) -> None:
    windows = small_spectra(5, WINDOW, WINDOW)
    with torch.no_grad():
        expected = small_network()(reduced(windows)).numpy()
    logits = open_scene_session(files["patch"], "f32", 1).run(windows)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert expected.std(0).min() > 0.1  # else the comparison says nothing


@pytest.mark.parametrize("size", [(1, WINDOW, WINDOW), (1, 8, 30), (3, 19, WINDOW)])
def test_dense_file_computes_what_the_twin_does(
    files: dict[str, Path], size: tuple[int, int, int]
) -> None:
    spectra = small_spectra(*size)
    with torch.no_grad():
        expected = DenseTwin(small_network())(reduced(spectra)).permute(0, 2, 3, 1).numpy()
    logits = open_scene_session(files["dense"], "f32", 1).run(spectra)
    assert logits.shape == (size[0], size[1] - WINDOW + 1, size[2] - WINDOW + 1, CLASSES)
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_dense_file_at_one_window_is_the_patch_file(files: dict[str, Path]) -> None:
    windows = small_spectra(4, WINDOW, WINDOW)
    patch = open_scene_session(files["patch"], "f32", 1).run(windows)
    dense = open_scene_session(files["dense"], "f32", 1).run(windows)
    np.testing.assert_allclose(dense[:, 0, 0], patch, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("make", [hybridsn, mobile_patch])
def test_published_networks_keep_their_numbers(
    make: Callable[..., PatchSpec], tmp_path: Path
) -> None:
    network = make(bands=15, window=11, num_classes=4).build(seed=0).eval()
    generator = np.random.default_rng(0)
    reduction = replace(small_reduction(), matrix=generator.standard_normal((BANDS, 15)) / 300)
    classes, colours = ("a", "b", "c", "d"), ((0, 0, 0),) * 4
    card = replace(
        small_card("dense"), window=11, classes=classes, class_ids=(1, 2, 3, 4), colours=colours
    )
    spectra = small_spectra(1, 20, 17)
    inputs = torch.from_numpy(reduction.apply(spectra)).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = DenseTwin(network)(inputs).permute(0, 2, 3, 1).numpy()
    path = tmp_path / "model.onnx"
    export_scene(network, reduction, path, card)
    found = open_scene_session(path, "f32", 1).run(spectra)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_volumes_in_slices_are_the_3d_convolutions() -> None:
    network = small_network()
    x = torch.randn(2, 1, 6, 9, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(SlicedVolumes(network.volumes)(x), network.volumes(x))


def test_a_filled_pixel_is_zero_after_reduction(files: dict[str, Path]) -> None:
    card = small_card("patch")
    filled = np.broadcast_to(np.asarray(card.fill, np.float32), (1, WINDOW, WINDOW, BANDS))
    with torch.no_grad():
        expected = small_network()(torch.zeros(1, 6, WINDOW, WINDOW)).numpy()
    logits = open_scene_session(files["patch"], "f32", 1).run(np.ascontiguousarray(filled))
    np.testing.assert_allclose(logits, expected, atol=1e-6)


def test_files_stand_alone_and_say_what_they_take(files: dict[str, Path]) -> None:
    shapes: dict[Form, tuple[str, str]] = {
        "dense": ("(batch, height, width, 12)", "(batch, height - 6, width - 6, 3)"),
        "patch": ("(batch, 7, 7, 12)", "(batch, 3)"),
    }
    for form, (takes, gives) in shapes.items():
        info = inspect_onnx(files[form])
        assert [str(tensor) for tensor in info.inputs] == [f"input: float32 {takes}"]
        assert [str(tensor) for tensor in info.outputs] == [f"logits: float32 {gives}"]
        assert info.opset >= 18
        assert info.metadata["producer"].startswith("pocketvision ")
        card = SceneCard.from_metadata(info.metadata, source="file")
        assert card == replace(small_card("dense"), form=form)
        assert card.bands == BANDS


def test_weights_are_stored_once_and_in_two_dimensions(files: dict[str, Path]) -> None:
    for path in files.values():
        graph = read_model(path).graph
        kernels = {n.input[1] for n in graph.node if n.op_type == "Conv"}
        ranks = {len(t.dims) for t in graph.initializer if t.name in kernels}
        assert ranks == {4}
        found = Counter(node.op_type for node in graph.node)
        assert (found["Sub"], found["MatMul"]) == (1, 1)
    parameters = sum(p.numel() for p in small_network().parameters())
    for path in files.values():
        stored = sum(
            int(np.prod(t.dims))
            for t in read_model(path).graph.initializer
            if t.data_type == onnx.TensorProto.FLOAT
        )
        assert stored == parameters + BANDS + small_reduction().matrix.size


def test_export_leaves_the_network_alone(tmp_path: Path) -> None:
    network = small_network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    export_scene(network, small_reduction(), tmp_path / "model.onnx", small_card("patch"))
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    after = network.eval().state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], value) for name, value in after.items())


@pytest.mark.parametrize("size", [(1, WINDOW, WINDOW), (2, 8, 20), (1, 19, WINDOW)])
def test_attention_gates_every_window_by_itself(size: tuple[int, int, int], tmp_path: Path) -> None:
    gated = SqueezeExciteSpec(squeezed=2)
    session = open_scene_session(exported(tmp_path, "dense", gated), "f32", 1)
    spectra = small_spectra(*size)
    with torch.no_grad():
        twin = DenseTwin(small_network(gated))(reduced(spectra)).permute(0, 2, 3, 1).numpy()
        first = small_network(gated)(reduced(spectra)[..., :WINDOW, :WINDOW]).numpy()
    found = session.run(spectra)
    np.testing.assert_allclose(found, twin, atol=1e-4)
    np.testing.assert_allclose(found[:, 0, 0], first, atol=1e-4)
    assert session.card == replace(small_card("dense"), tile=WINDOWS_TILE)


def test_attention_over_channels_and_places_traces_to_the_same_numbers() -> None:
    network = small_network(CbamSpec(squeezed=2))
    x = reduced(small_spectra(2, 9, 12))
    with torch.no_grad():
        torch.testing.assert_close(EveryWindow(network)(x), DenseTwin(network)(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 9}, r"the card says window 9 and 3 classes; the network has window 7 and 3"),
        ({"fill": (0.0,) * BANDS}, r"the card's fill must be the mean spectrum"),
        ({"fill": (0.0,) * 5, "wavelengths_nm": ()}, r"matrix is 12x6; expected 5x6"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    card = replace(small_card("patch"), **change)
    with pytest.raises(ConfigError, match=message):
        export_scene(small_network(), small_reduction(), tmp_path / "model.onnx", card)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"form": "whole"}, r"form='whole' is unknown; expected one of \['dense', 'patch'\]"),
        ({"window": 8}, r"window=8 is not allowed; expected an odd number"),
        ({"tile": 0}, r"tile=0 is not allowed; expected a whole number from 1 up"),
        ({"class_ids": (1, 2)}, r"3 classes, 2 class ids and 3 colours; expected one of each"),
        ({"wavelengths_nm": (400.0,)}, r"1 wavelengths for 12 bands; expected one for each"),
    ],
)
def test_impossible_cards_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(small_card("dense"), **change)


def test_card_reads_back_strictly() -> None:
    pairs = small_card("dense").to_metadata()
    assert SceneCard.from_metadata({**pairs, "other": "x"}, source="file") == small_card("dense")
    with pytest.raises(ArtefactError, match=r"file is not a network for scenes: .* lack 'scene'"):
        SceneCard.from_metadata({}, source="file")
    later = pairs["scene"].replace('"format_version":1', '"format_version":2')
    with pytest.raises(ArtefactError, match="format version 2; this pocketvision reads up to 1"):
        SceneCard.from_metadata({"scene": later}, source="file")
    other = pairs["scene"].replace('"window"', '"windows"')
    with pytest.raises(ArtefactError, match="metadata of file is not a valid SceneCard: window"):
        SceneCard.from_metadata({"scene": other}, source="file")
    even = pairs["scene"].replace('"window":7', '"window":8')
    with pytest.raises(ArtefactError, match="window=8 is not allowed"):
        SceneCard.from_metadata({"scene": even}, source="file")


@pytest.mark.parametrize("no_data", [None, -1.0, float("nan")])
def test_card_of_a_scene_keeps_its_mark_in_a_file(no_data: float | None) -> None:
    expected = replace(small_card("dense"), no_data=None)
    scene = Scene(
        name="field",
        cube=ArrayCube(array=small_spectra(2, 2)),
        labels=None,
        classes=expected.classes,
        class_ids=expected.class_ids,
        colours=expected.colours,
        wavelengths_nm=expected.wavelengths_nm,
        no_data=no_data,
    )
    made = SceneCard.for_scene(
        scene, name=expected.name, form="dense", window=WINDOW, reduction=small_reduction()
    )
    assert replace(made, no_data=None) == expected
    assert "NaN" not in made.to_metadata()["scene"]
    card = SceneCard.from_metadata(made.to_metadata(), source="file")
    assert replace(card, no_data=None) == expected
    np.testing.assert_equal(card.no_data, no_data)


def test_foreign_graphs_are_refused(files: dict[str, Path]) -> None:
    model = read_model(files["dense"])
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    with pytest.raises(ArtefactError, match=r"must take one float32 input 'input' of four axes"):
        check_exported_scene(model, Path("model.onnx"))
    model = read_model(files["dense"])
    pairs = metadata(model)
    set_metadata(model, {key: pairs[key] for key in pairs if key != "scene"})
    with pytest.raises(ArtefactError, match=r"model.onnx is not a network for scenes"):
        check_exported_scene(model, Path("model.onnx"))
