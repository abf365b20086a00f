"""The spectral baseline: a support vector machine that sees one pixel's spectrum and no place."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.scene.bands import fit_bands
from pocketvision.data.scene.scene import Labels, Mask, Scene, missing
from pocketvision.errors import require

FOLDS = 3
GRID_C = (10.0, 100.0, 1000.0)
GRID_GAMMA = (0.1, 1.0, 10.0)  # times 1 / bands
USUAL = (100.0, 1.0)  # C and that factor, where too few pixels are there to search
MAX_SEARCHED = 3000  # training pixels that the grid is searched on
MAX_TRAINED = 5000  # beyond, time grows with the square of the pixels and the map with each of them
PRODUCT_S = 4e-10  # one product in a kernel value; Indian Pines took 3e-10, search and map alike


@dataclass(frozen=True, kw_only=True, slots=True)
class SvmResult:
    """classes: (H, W) of 1..K, 0 where no measurement lies. C, gamma: as chosen.

    learned_from: training pixels.
    """

    classes: Labels
    learned_from: int
    C: float
    gamma: float
    train_seconds: float
    map_seconds: float


def svm_map(scene: Scene, train: Mask, *, seed: int) -> SvmResult:
    """Train on the spectra of `train` and name every pixel of the scene.

    Spectra are standardised with the training pixels' mean and deviation. C and gamma come from a
    cross-validation on training pixels alone. Of more than 5,000 training pixels, so many are
    drawn by the seed, with the shares of the classes kept.

    train: labelled pixels with a measurement, of two classes or more.
    Raises: MissingExtraError: without scikit-learn.
    """
    svm = require("sklearn.svm", "hyperspectral")
    start = time.monotonic()
    assert scene.labels is not None
    train = _drawn(train, scene.labels, seed)
    reduction = fit_bands(scene, train, method="standardise")
    spectra = np.concatenate(
        [
            reduction.apply(scene.cube.rows(first, last)[train[first:last]])
            for first, last in scene.chunks()
        ]
    )
    targets = scene.labels[train]
    C, gamma = _search(spectra, targets, seed)
    machine = svm.SVC(C=C, gamma=gamma, kernel="rbf", cache_size=500)
    machine.fit(spectra, targets)
    trained = time.monotonic()
    height, width, _ = scene.cube.shape
    classes = np.zeros((height, width), np.int16)
    for first, last in scene.chunks():
        rows = scene.cube.rows(first, last)
        reduced = reduction.apply_measured(rows, scene.no_data)
        known = ~missing(rows, scene.no_data)
        classes[first:last][known] = machine.predict(reduced[known])
    done = time.monotonic()
    return SvmResult(
        classes=classes,
        learned_from=len(targets),
        C=C,
        gamma=gamma,
        train_seconds=trained - start,
        map_seconds=done - trained,
    )


def svm_seconds(pixels: int, trained: int, bands: int) -> float:
    """What `svm_map` takes for so many pixels and training pixels, roughly: its kernel values."""
    trained = min(trained, MAX_TRAINED)
    fold = min(trained, MAX_SEARCHED) * (FOLDS - 1) / FOLDS
    searches = FOLDS * len(GRID_C) * len(GRID_GAMMA)
    return PRODUCT_S * bands * (searches * fold**2 + trained**2 + trained * pixels)


def _drawn(train: Mask, labels: Labels, seed: int) -> Mask:
    """At most `MAX_TRAINED` of the training pixels, and of every class its share, one at least."""
    total = int(train.sum())
    if total <= MAX_TRAINED:
        return train
    generator = np.random.default_rng(seed)
    drawn = np.zeros_like(train)
    for label in np.unique(labels[train]):
        places = np.flatnonzero(train & (labels == label))
        count = max(1, len(places) * MAX_TRAINED // total)
        drawn.flat[generator.permutation(places)[:count]] = True
    return drawn


def _search(
    spectra: NDArray[np.float32], targets: NDArray[np.int16], seed: int
) -> tuple[float, float]:
    """C and gamma with the best cross-validated accuracy on (some of) the training pixels.

    Classes with fewer pixels there than folds have no say.
    """
    svm = require("sklearn.svm", "hyperspectral")
    selection: Any = require("sklearn.model_selection", "hyperspectral")
    chosen = np.random.default_rng(seed).permutation(len(targets))[:MAX_SEARCHED]
    sizes = np.bincount(targets[chosen])
    chosen = chosen[sizes[targets[chosen]] >= FOLDS]
    if (sizes >= FOLDS).sum() < 2:
        return USUAL[0], USUAL[1] / spectra.shape[1]
    grid = {"C": GRID_C, "gamma": [factor / spectra.shape[1] for factor in GRID_GAMMA]}
    folds = selection.StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    search = selection.GridSearchCV(svm.SVC(kernel="rbf", cache_size=500), grid, cv=folds)
    search.fit(spectra[chosen], targets[chosen])
    return float(search.best_params_["C"]), float(search.best_params_["gamma"])
