"""Mean and covariance of the training spectra of a scene, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pocketvision.data.scene.scene import Mask, Scene, missing
from pocketvision.errors import DataError

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


class Moments(NamedTuple):
    """Number, mean (B,) and scatter (B, B) of spectra."""

    n: int
    mean: Vector
    scatter: Matrix  # sum of outer products of what is left after the mean

    def merged(self, other: Moments) -> Moments:
        """Both together.

        Source: Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm for Computing
                Sample Variances (1979), equations 2.1, for vectors.
        """
        n = self.n + other.n
        delta = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(delta, delta) * (self.n * other.n / n)
        return Moments(n, self.mean + delta * (other.n / n), scatter)


def training_moments(scene: Scene, train: Mask) -> Moments:
    """Of the training pixels (H, W) with a measurement, in one pass over the cube.

    Raises: DataError: there is none.
    """
    total: Moments | None = None
    for spectra in _training_spectra(scene, train):
        mean = spectra.mean(axis=0)
        centred = spectra - mean
        part = Moments(len(spectra), mean, centred.T @ centred)
        total = part if total is None else total.merged(part)
    if total is None:
        raise DataError("No training pixel has a measurement; bands cannot be reduced.")
    return total


def _training_spectra(scene: Scene, train: Mask) -> Iterator[NDArray[np.float64]]:
    """(n, B) of the training pixels with a measurement, chunk by chunk."""
    for start, stop in scene.chunks():
        inside = train[start:stop]
        if not inside.any():
            continue
        spectra = scene.cube.rows(start, stop)[inside]
        spectra = spectra[~missing(spectra, scene.no_data)]
        if len(spectra):
            yield spectra.astype(np.float64)
