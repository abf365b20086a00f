"""The spectral baseline: what it learns from, and what it makes of few pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.svm import SVC
from small_scenes import small_cube, small_labels

from pocketvision.data.scene.scene import ArrayCube, Scene
from pocketvision.errors import MissingExtraError
from pocketvision.mapping import svm
from pocketvision.mapping.svm import svm_map

TRUTH = small_labels().astype(np.int16)
NAMES = ("corn", "hay", "oats", "woods")


def scene_of(cube: NDArray[np.generic], no_data: float | None = None) -> Scene:
    return Scene(
        name="small",
        cube=ArrayCube(array=cube),
        labels=TRUTH,
        classes=NAMES,
        class_ids=(1, 2, 3, 4),
        colours=((0, 0, 0),) * 4,
        no_data=no_data,
    )


def first_of_each(count: int) -> NDArray[np.bool_]:
    """(H, W): so many pixels of each class."""
    train = np.zeros(TRUTH.shape, bool)
    for label in range(1, 5):
        train.flat[np.flatnonzero(label == TRUTH)[:count]] = True
    return train


def test_map_is_that_of_the_machine_with_the_chosen_parameters() -> None:
    """Standardised by hand, with scikit-learn alone."""
    cube, train = small_cube(small_labels()), first_of_each(40)
    found = svm_map(scene_of(cube), train, seed=0)
    mean, deviation = cube[train].mean(0), cube[train].std(0, ddof=1)
    spectra = ((cube - mean) / deviation).astype(np.float32)
    machine = SVC(C=found.C, gamma=found.gamma).fit(spectra[train], TRUTH[train])
    expected = machine.predict(spectra.reshape(-1, 20)).reshape(40, 48)
    assert (found.classes == expected).mean() > 0.999
    assert found.C in svm.GRID_C
    assert any(found.gamma * 20 == pytest.approx(factor) for factor in svm.GRID_GAMMA)
    assert (found.classes == TRUTH)[TRUTH > 0].mean() > 0.95


def test_same_seed_gives_the_same_map() -> None:
    scene, train = scene_of(small_cube(small_labels())), first_of_each(12)
    first, second = (svm_map(scene, train, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.classes, second.classes)
    assert (first.C, first.gamma) == (second.C, second.gamma)


def test_test_pixels_have_no_say() -> None:
    """Another label or spectrum elsewhere changes no parameter and no other pixel."""
    cube, train = small_cube(small_labels()), first_of_each(20)
    first = svm_map(scene_of(cube), train, seed=0)
    other = cube.copy()
    other[~train] = other[~train][::-1]
    changed = replace(scene_of(other), labels=np.where(train, TRUTH, 1).astype(np.int16))
    second = svm_map(changed, train, seed=0)
    assert (first.C, first.gamma) == (second.C, second.gamma)
    np.testing.assert_array_equal(first.classes[train], second.classes[train])


def test_pixels_without_a_measurement_stay_0() -> None:
    cube = small_cube(small_labels())
    cube[30:33, 5:9] = -9999
    train = first_of_each(20)
    found = svm_map(scene_of(cube, no_data=-9999), train, seed=0)
    gone = (cube == -9999).all(axis=2)
    assert ((found.classes == 0) == gone).all()


def test_more_pixels_than_the_most_are_drawn_by_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svm, "MAX_TRAINED", 40)
    scene, train = scene_of(small_cube(small_labels())), TRUTH > 0
    found = svm_map(scene, train, seed=0)
    drawn = svm._drawn(train, TRUTH, 0)
    assert found.learned_from == drawn.sum()
    sizes = np.bincount(TRUTH[train])[1:]
    counts = np.bincount(TRUTH[drawn], minlength=5)[1:]
    np.testing.assert_array_equal(counts, np.maximum(1, sizes * 40 // sizes.sum()))
    assert not drawn[~train].any()
    assert (drawn != svm._drawn(train, TRUTH, 1)).any()


def test_planned_seconds_end_to_grow_with_the_training_pixels() -> None:
    at_most = svm.svm_seconds(10_000, svm.MAX_TRAINED, 200)
    assert svm.svm_seconds(10_000, 10**6, 200) == at_most
    assert svm.svm_seconds(10_000, 1000, 200) < at_most
    assert svm.svm_seconds(20_000, 1000, 200) > svm.svm_seconds(10_000, 1000, 200)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_pixels_of_each_class_are_enough(count: int) -> None:
    found = svm_map(scene_of(small_cube(small_labels())), first_of_each(count), seed=0)
    if count < svm.FOLDS:
        assert (found.C, found.gamma) == (100.0, 1 / 20)
    assert set(np.unique(found.classes)) <= {1, 2, 3, 4}


def test_class_with_fewer_pixels_than_folds_is_still_learned() -> None:
    train = first_of_each(20)
    train[TRUTH == 2] = False
    train.flat[np.flatnonzero(TRUTH == 2)[0]] = True
    found = svm_map(scene_of(small_cube(small_labels())), train, seed=0)
    assert (found.classes == 2).any()


def test_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, extra: str) -> None:
        raise MissingExtraError(f"{module} {extra}")

    monkeypatch.setattr(svm, "require", missing)
    with pytest.raises(MissingExtraError, match=r"sklearn\.svm hyperspectral"):
        svm_map(scene_of(small_cube(small_labels())), first_of_each(3), seed=0)
