"""Tile by tile, all at once or window by window: one map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tile_scenes import (
    BANDS,
    CLASSES,
    FORMS,
    NO_DATA,
    REDUCTION,
    WAVELENGTHS_NM,
    WINDOW,
    exported,
    make_scene,
    mapped,
    small_network,
)

from pocketvision.data.scene.scene import ArrayCube, Scene
from pocketvision.errors import ConfigError
from pocketvision.mapping import mosaic
from pocketvision.mapping.tiles import classify_scene, compare_tile, windows_at
from pocketvision.runtimes.scene_onnx import SceneSession, open_scene_session


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SceneSession]:
    """The dense and the patch form of one network."""
    folder = tmp_path_factory.mktemp("files")
    return {form: open_scene_session(exported(folder, form), "f32", 1) for form in FORMS}


def all_logits(scene: Scene, session: SceneSession, tile: int) -> NDArray[np.float32]:
    """(H, W, K), put together from tiles."""
    height, width, _ = scene.cube.shape
    logits = np.full((height, width, CLASSES), np.nan, np.float32)
    fill = np.asarray(session.card.fill, np.float32)
    parts = mosaic.tiles(scene.cube.rows, scene.cube.shape, WINDOW, fill, scene.no_data, tile)
    for part in parts:
        place = np.s_[part.top : part.bottom, part.left : part.right]
        logits[place] = mosaic.tile_logits(session.run, session.card.form, WINDOW, part.spectra)
    return logits


@settings(max_examples=25)
@given(
    height=st.integers(1, 21),
    width=st.integers(1, 21),
    tile=st.integers(1, 24),
    gaps=st.integers(0, 6),
)
def test_tiles_give_what_windows_give(
    sessions: dict[str, SceneSession], height: int, width: int, tile: int, gaps: int
) -> None:
    scene = make_scene(height, width, gaps, seed=height * width)
    places = np.argwhere(np.ones((height, width), bool))
    # Apart from any tile: every pixel's own window.
    windows = windows_at(scene, places, WINDOW, REDUCTION.mean)
    expected = sessions["patch"].run(windows).reshape(height, width, CLASSES)
    for form in ("dense", "patch"):
        logits = all_logits(scene, sessions[form], tile)
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        classes, _ = mapped(scene, sessions[form], tile)
        gone = (scene.cube.rows(0, height) == -9999).all(-1)
        np.testing.assert_array_equal(classes, np.where(gone, 0, expected.argmax(-1) + 1))


def test_windows_are_cut_from_the_filled_scene() -> None:
    scene = make_scene(5, 6, gaps=3)
    cube = scene.cube.rows(0, 5).astype(np.float32)
    cube[(cube == NO_DATA).all(-1)] = REDUCTION.mean.astype(np.float32)
    around = np.empty((13, 14, BANDS), np.float32)
    around[:] = REDUCTION.mean
    around[4:9, 4:10] = cube
    places = np.array([[0, 0], [4, 5], [2, 3], [2, 0]])
    found = windows_at(scene, places, WINDOW, REDUCTION.mean)
    for window, (row, column) in zip(found, places.tolist(), strict=True):
        np.testing.assert_array_equal(window, around[row : row + 9, column : column + 9])


@pytest.mark.parametrize(("length", "largest"), [(1, 64), (64, 64), (65, 64), (145, 64), (7, 1)])
def test_spans_cover_everything_once_and_evenly(length: int, largest: int) -> None:
    parts = mosaic.spans(length, largest)
    assert [i for start, stop in parts for i in range(start, stop)] == list(range(length))
    sizes = {stop - start for start, stop in parts}
    assert max(sizes) <= largest
    assert max(sizes) - min(sizes) <= 1
    assert len(parts) == -(-length // largest)


def test_two_calls_are_identical(sessions: dict[str, SceneSession]) -> None:
    scene = make_scene(17, 13, gaps=4)
    first, second = (mapped(scene, sessions["dense"], 8) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_uncertainty_is_entropy_over_log_k() -> None:
    logits = np.array([[[0, 0, 0, 0], [100, 0, 0, 0], [5, 5, -100, -100]]], np.float32)
    measured = np.ones((1, 3), bool)
    found = mosaic.uncertainty_of(logits, measured)
    np.testing.assert_allclose(found, [[1, 0, np.log(2) / np.log(4)]], atol=1e-6)
    assert np.isnan(mosaic.uncertainty_of(logits, ~measured)).all()
    assert mosaic.uncertainty_of(logits[..., :1], measured).tolist() == [[0, 0, 0]]


def test_pixels_without_measurement_have_no_class(sessions: dict[str, SceneSession]) -> None:
    scene = make_scene(12, 11, gaps=5)
    gone = (scene.cube.rows(0, 12) == -9999).all(-1)
    classes, uncertainty = mapped(scene, sessions["dense"], 5)
    np.testing.assert_array_equal(classes == 0, gone)
    np.testing.assert_array_equal(np.isnan(uncertainty), gone)
    assert 0 <= np.nanmin(uncertainty) <= np.nanmax(uncertainty) <= 1


def test_results_go_into_memory_mapped_files(
    sessions: dict[str, SceneSession], tmp_path: Path
) -> None:
    scene = make_scene(10, 9)
    stored = np.lib.format.open_memmap(tmp_path / "map.npy", "w+", np.uint16, (10, 9))
    seen: list[tuple[int, int]] = []
    classify_scene(
        scene,
        sessions["dense"],
        stored,
        tile=4,
        progress=lambda done, total: seen.append((done, total)),
    )
    stored.flush()
    expected, _ = mapped(scene, sessions["dense"], 4)
    np.testing.assert_array_equal(np.load(tmp_path / "map.npy"), expected)
    assert seen[-1] == (90, 90)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_rows_in_memory_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = make_scene(200, 10)
    monkeypatch.setattr(mosaic, "STRIP_BYTES", 30 * 10 * BANDS * 4)
    asked: list[int] = []

    def rows(start: int, stop: int) -> NDArray[Any]:
        asked.append(stop - start)
        return scene.cube.rows(start, stop)

    fill = REDUCTION.mean.astype(np.float32)
    list(mosaic.tiles(rows, scene.cube.shape, WINDOW, fill, None, 64))
    assert max(asked) <= 30
    assert sum(asked) < 200 * 1.5  # halo rows are read twice


@pytest.mark.parametrize(
    ("shape", "dtype", "options", "message"),
    [
        ((6, 5), np.uint8, {}, r"classes is 6x5; expected 6x7"),
        ((6, 7), np.float32, {}, r"classes are float32; expected integers up to 5"),
        ((6, 7), np.uint8, {"tile": 0}, r"tile=0 is not allowed"),
        (
            (6, 7),
            np.uint8,
            {"uncertainty": np.zeros((2, 2), np.float32)},
            r"uncertainty is 2x2; expected 6x7",
        ),
    ],
)
def test_arrays_must_fit_the_scene(
    sessions: dict[str, SceneSession],
    shape: tuple[int, int],
    dtype: type[np.generic],
    options: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(ConfigError, match=message):
        classify_scene(make_scene(6, 7), sessions["dense"], np.zeros(shape, dtype), **options)


def test_cubes_of_other_bands_are_refused(sessions: dict[str, SceneSession]) -> None:
    scene = make_scene(6, 7)
    other = Scene(
        name="other",
        cube=ArrayCube(array=scene.cube.rows(0, 6)[..., :9]),
        labels=None,
        classes=scene.classes,
        class_ids=scene.class_ids,
        colours=scene.colours,
    )
    with pytest.raises(ConfigError, match=r"the cube has 9 bands, this network takes 14; give a"):
        classify_scene(other, sessions["dense"], np.zeros((6, 7), np.uint8))


def test_another_sensor_is_refused(sessions: dict[str, SceneSession]) -> None:
    other = replace(make_scene(6, 7), wavelengths_nm=tuple(nm + 100 for nm in WAVELENGTHS_NM))
    message = r"band 1 lies at 500 nm in the cube and at 400 nm for this network; give a cube of"
    with pytest.raises(ConfigError, match=message):
        classify_scene(other, sessions["dense"], np.zeros((6, 7), np.uint8))
    everything = np.ones((6, 7), bool)
    with pytest.raises(ConfigError, match=message):
        compare_tile(other, sessions["dense"], small_network(), REDUCTION, everything)


def test_card_says_how_large_tiles_are(sessions: dict[str, SceneSession]) -> None:
    width = sessions["dense"].card.tile + 1
    seen: list[int] = []
    classify_scene(
        make_scene(3, width),
        sessions["dense"],
        np.zeros((3, width), np.uint8),
        progress=lambda done, _: seen.append(done),
    )
    assert seen == [3 * (width // 2), 3 * width]


@pytest.mark.parametrize("form", FORMS)
def test_a_tile_of_the_file_is_a_tile_of_the_network(
    sessions: dict[str, SceneSession], form: str
) -> None:
    scene = make_scene(14, 70, gaps=9)
    counted = np.zeros((14, 70), bool)
    counted[:, 40:50] = True
    found = compare_tile(scene, sessions[form], small_network(), REDUCTION, counted)
    gone = (scene.cube.rows(0, 14) == -9999).all(-1)
    assert found.n == (counted & ~gone).sum()
    assert found.agreement == 1
    assert found.largest_difference < 1e-4


def test_a_tile_of_another_network_disagrees(sessions: dict[str, SceneSession]) -> None:
    other = small_network().spec.build(seed=9).eval()
    everything = np.ones((20, 20), bool)
    found = compare_tile(make_scene(20, 20), sessions["dense"], other, REDUCTION, everything)
    assert found.n == 400
    assert found.agreement < 0.9
    assert found.largest_difference > 0.1


def test_a_tile_needs_pixels_to_compare(sessions: dict[str, SceneSession]) -> None:
    scene = make_scene(6, 7, gaps=1)
    corner = np.zeros((6, 7), bool)
    corner[0, 0] = True  # without a measurement
    with pytest.raises(ConfigError, match=r"counted holds no pixel with a measurement; expected"):
        compare_tile(scene, sessions["dense"], small_network(), REDUCTION, corner)
    with pytest.raises(ConfigError, match=r"counted is 6x6; expected 6x7"):
        compare_tile(scene, sessions["dense"], small_network(), REDUCTION, corner[:, :6])


@pytest.mark.parametrize(
    ("places", "window", "fill", "message"),
    [
        ([[6, 0]], WINDOW, BANDS, r"places must lie within 6x7 pixels; some do not"),
        ([[0, -1]], WINDOW, BANDS, r"places must lie within 6x7 pixels; some do not"),
        ([[0, 0, 0]], WINDOW, BANDS, r"places is 1x3; expected anyx2"),
        ([[0, 0]], 8, BANDS, r"window=8 is not allowed"),
        ([[0, 0]], WINDOW, 3, r"fill is 3; expected 14"),
    ],
)
def test_impossible_windows_are_refused(
    places: list[list[int]], window: int, fill: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        windows_at(make_scene(6, 7), np.array(places), window, np.zeros(fill))
