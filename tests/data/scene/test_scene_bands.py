from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from tensorly.datasets import load_indian_pines

from pocketvision.data.scene import scene as scene_module
from pocketvision.data.scene.bands import (
    METADATA_KEY,
    BandReduction,
    Method,
    fit_bands,
    reduce_scene,
    selected_bands,
)
from pocketvision.data.scene.scene import ArrayCube, Mask, Scene
from pocketvision.errors import ArtefactError, ConfigError, DataError
from pocketvision.storage import to_json

METHODS: tuple[Method, ...] = ("pca", "standardise", "select")


def scene_of(cube: NDArray[np.generic], no_data: float | None = None) -> Scene:
    return Scene(
        name="planted",
        cube=ArrayCube(array=cube),
        labels=None,
        classes=(),
        class_ids=(),
        colours=(),
        no_data=no_data,
    )


def correlated(
    height: int = 20, width: int = 15, bands: int = 12, seed: int = 0
) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(bands, bands)) * np.linspace(3, 0.1, bands)
    cube: NDArray[np.float64] = random.normal(size=(height, width, bands)) @ mixing.T + 40
    return cube


def some_pixels(cube: NDArray[np.generic], seed: int = 1) -> Mask:
    mask: Mask = np.random.default_rng(seed).random(cube.shape[:2]) < 0.4
    return mask


@pytest.mark.parametrize("whiten", [True, False])
def test_principal_components_are_those_of_scikit_learn_up_to_sign(whiten: bool) -> None:
    cube = load_indian_pines().tensor[:40, :40].astype(np.uint16)
    train = some_pixels(cube)
    reduction = fit_bands(scene_of(cube), train, components=10, whiten=whiten)
    other = PCA(10, whiten=whiten, svd_solver="full").fit(cube[train])
    ours, theirs = reduction.apply(cube[train]), other.transform(cube[train])
    signs = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours, theirs * signs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
    assert reduction.explained == pytest.approx(other.explained_variance_ratio_.sum())


def test_whitened_training_pixels_have_no_mean_and_unit_covariance() -> None:
    cube = correlated()
    train = some_pixels(cube)
    reduced = fit_bands(scene_of(cube), train, components=8).apply(cube[train]).astype(np.float64)
    np.testing.assert_allclose(reduced.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.cov(reduced.T), np.eye(8), atol=1e-5)


def test_the_largest_weight_of_each_component_is_positive() -> None:
    cube = correlated()
    matrix = fit_bands(scene_of(cube), some_pixels(cube), components=12).matrix
    largest = matrix[np.abs(matrix).argmax(axis=0), np.arange(12)]
    assert (largest > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_no_pixel_but_the_training_pixels_has_a_say(method: Method) -> None:
    cube = correlated()
    train = some_pixels(cube)
    before = fit_bands(scene_of(cube), train, method=method, components=5)
    cube[~train] = -1e6
    after = fit_bands(scene_of(cube), train, method=method, components=5)
    np.testing.assert_array_equal(before.mean, after.mean)
    np.testing.assert_array_equal(before.matrix, after.matrix)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rows", [1, 3, 7])
def test_chunks_do_not_change_the_result(
    method: Method, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cube = correlated()
    train = some_pixels(cube)
    train[5:8] = False  # a chunk without a training pixel
    whole = fit_bands(scene_of(cube), train, method=method, components=5)
    reduced = reduce_scene(scene_of(cube), whole)
    monkeypatch.setattr(scene_module, "CHUNK_BYTES", rows * cube[0].nbytes)
    assert len(list(scene_of(cube).chunks())) == -(-20 // rows)
    pieces = fit_bands(scene_of(cube), train, method=method, components=5)
    np.testing.assert_allclose(pieces.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(pieces.matrix, whole.matrix, rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(reduce_scene(scene_of(cube), whole), reduced)


def test_standardised_bands_have_unit_variance_and_dead_ones_are_zero() -> None:
    cube = correlated()
    cube[..., 3] = 0.1
    train = some_pixels(cube)
    reduced = fit_bands(scene_of(cube), train, method="standardise").apply(cube)
    assert reduced.shape == (20, 15, 12)
    np.testing.assert_array_equal(reduced[..., 3], 0)
    alive = np.delete(reduced[train], 3, axis=1)
    np.testing.assert_allclose(alive.std(axis=0, ddof=1), 1, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_band_dead_in_training_weighs_nothing_elsewhere(method: Method) -> None:
    cube = correlated()
    train = some_pixels(cube)
    cube[train, 3] = 0.1
    reduction = fit_bands(scene_of(cube), train, method=method, components=12)
    assert np.isfinite(reduction.matrix).all()
    np.testing.assert_array_equal(reduction.matrix[3], 0)


def test_directions_without_variance_are_zero_not_noise() -> None:
    random = np.random.default_rng(0)
    cube = random.normal(size=(10, 10, 2)) @ random.normal(size=(2, 6))  # rank 2
    reduced = fit_bands(scene_of(cube), np.ones((10, 10), bool), components=4).apply(cube)
    np.testing.assert_allclose(reduced[..., :2].std(axis=(0, 1), ddof=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(reduced[..., 2:], 0)


def test_selection_takes_the_greatest_variance_then_what_it_predicts_worst() -> None:
    random = np.random.default_rng(0)
    a, b, c = random.normal(size=(3, 400)) * [[9], [2], [4]]
    spectra = np.stack([a, 0.9 * a + 0.1 * b, b, c], axis=1)
    assert selected_bands(np.cov(spectra.T), 4) == [0, 3, 2, 1]


def test_selection_is_greedy_least_squares() -> None:
    cube = correlated().reshape(-1, 12)
    chosen = selected_bands(np.cov(cube.T), 5)
    for step in range(1, 5):
        known = np.column_stack([np.ones(len(cube)), cube[:, chosen[:step]]])
        fitted = known @ np.linalg.lstsq(known, cube, rcond=None)[0]
        assert int(((cube - fitted) ** 2).sum(axis=0).argmax()) == chosen[step]


def test_selected_bands_are_each_one_band_of_the_cube() -> None:
    cube = correlated()
    reduction = fit_bands(scene_of(cube), some_pixels(cube), method="select", components=5)
    assert ((reduction.matrix != 0).sum(axis=0) == 1).all()
    assert len(set(reduction.matrix.argmax(axis=0))) == 5


def test_pixels_without_a_measurement_are_the_mean_and_are_not_learned_from() -> None:
    cube = correlated()
    train = some_pixels(cube)
    gone = np.zeros_like(train)
    gone[2:4, 2:9] = True
    expected = fit_bands(scene_of(cube), train & ~gone, components=5)
    cube[2] = np.where(gone[2][:, None], -9999.0, cube[2])
    cube[3, 2:9, 4] = np.nan
    scene = scene_of(cube, no_data=-9999)
    found = fit_bands(scene, train, components=5)
    np.testing.assert_array_equal(found.matrix, expected.matrix)
    assert found.fitted_on == int((train & ~gone).sum())
    reduced = reduce_scene(scene, found)
    np.testing.assert_array_equal(reduced[gone], 0)
    assert reduced.dtype == np.float32
    np.testing.assert_allclose(reduced[~gone], found.apply(cube[~gone]), rtol=1e-6)


def test_a_reduction_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    cube = correlated()
    saved = fit_bands(scene_of(cube), some_pixels(cube), components=5, whiten=False)
    saved.save(tmp_path / "bands.safetensors")
    loaded = BandReduction.load(tmp_path / "bands.safetensors")
    assert loaded.summary == saved.summary
    assert not loaded.whiten
    np.testing.assert_array_equal(loaded.mean, saved.mean)
    np.testing.assert_array_equal(loaded.matrix, saved.matrix)


def test_files_that_are_no_reduction_are_refused(tmp_path: Path) -> None:
    cube = correlated()
    reduction = fit_bands(scene_of(cube), some_pixels(cube), components=5)
    path = tmp_path / "bands.safetensors"
    with pytest.raises(ArtefactError, match="does not exist; expected a saved band reduction"):
        BandReduction.load(path)
    reduction.save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ArtefactError, match="is a damaged safetensors file"):
        BandReduction.load(path)
    path.write_bytes(safetensors.numpy.save({"weight": np.zeros(3)}))
    with pytest.raises(ArtefactError, match="not those of a band reduction"):
        BandReduction.load(path)
    replace(reduction, mean=reduction.mean * np.nan).save(path)
    with pytest.raises(ArtefactError, match=r"mean is float64 \(12,\); expected finite float64"):
        BandReduction.load(path)
    replace(reduction, mean=reduction.mean[:4]).save(path)
    with pytest.raises(ArtefactError, match=r"mean is float64 \(4,\); expected .* \(12,\)"):
        BandReduction.load(path)
    summary = to_json(reduction.summary).replace('"pca"', '"pcb"')
    tensors = {"mean": reduction.mean, "matrix": reduction.matrix}
    path.write_bytes(safetensors.numpy.save(tensors, {METADATA_KEY: summary}))
    with pytest.raises(ArtefactError, match="not a valid ReductionSummary: method"):
        BandReduction.load(path)


def test_what_cannot_be_fitted_is_said() -> None:
    cube = correlated()
    scene, train = scene_of(cube), some_pixels(cube)
    few = np.zeros_like(train)
    few[0, :6] = True
    with pytest.raises(ConfigError, match="method='pcs' is unknown"):
        fit_bands(scene, train, method="pcs")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="components=0 is not allowed"):
        fit_bands(scene, train, components=0)
    with pytest.raises(ConfigError, match="components=13 is more than the 12 bands of the cube"):
        fit_bands(scene, train, components=13)
    with pytest.raises(
        ConfigError,
        match=r"^components=6 is too many for 6 training pixels; take --components 5, or label "
        r"more pixels\.$",
    ):
        fit_bands(scene, few, components=6)
    with pytest.raises(ConfigError, match=r"too many for 1 training pixel; label more pixels\.$"):
        fit_bands(scene, few & (np.arange(15) == 0), components=1)
    with pytest.raises(DataError, match="No training pixel has a measurement"):
        fit_bands(scene, np.zeros_like(train), components=2)
    with pytest.raises(DataError, match="All 6 training pixels have the same spectrum"):
        fit_bands(scene_of(np.ones_like(cube)), few, components=2)
    with pytest.raises(DataError, match=r"training mask is \(3, 3\); the scene is \(20, 15\)"):
        fit_bands(scene, train[:3, :3])


def test_a_cube_with_other_bands_is_refused() -> None:
    cube = correlated()
    reduction = fit_bands(scene_of(cube), some_pixels(cube), components=5)
    for use in (reduction.apply, reduction.apply_measured):
        with pytest.raises(ConfigError, match=r"cube has 9 bands, this network takes 12; give a"):
            use(cube[..., :9])
