"""Fewer numbers for each pixel: one affine map, fitted on training pixels and on no other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from pocketvision.data.scene.moments import Matrix, Moments, Vector, training_moments
from pocketvision.data.scene.scene import Mask, Scene, check_bands, missing
from pocketvision.errors import ArtefactError, ConfigError, DataError, at_least, choice
from pocketvision.scene_record import ReductionSummary
from pocketvision.storage import from_json, to_json, write_into

Method = Literal["pca", "standardise", "select"]

METADATA_KEY = "reduction"
DEAD = 1e-9  # standard deviation over mean: below it, rounding is all that varies
RANK = 1e-12  # variance over the greatest one: below it, a direction is rounding


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BandReduction:
    """z = (spectrum - mean) @ matrix, whatever the method.

    mean: (B,) of the training pixels. matrix: (B, n). explained: share of the training pixels'
    variance that n components keep, for "pca". fitted_on: training pixels with a measurement.
    whiten: components have unit variance on the training pixels; "pca" alone can do without.
    """

    method: Method
    whiten: bool
    mean: Vector
    matrix: Matrix
    explained: float | None
    fitted_on: int

    @property
    def bands(self) -> int:
        """Bands of the cube."""
        return int(self.matrix.shape[0])

    @property
    def components(self) -> int:
        """Numbers a pixel has afterwards."""
        return int(self.matrix.shape[1])

    @property
    def summary(self) -> ReductionSummary:
        """What a record tells of it."""
        return ReductionSummary(
            method=self.method,
            whiten=self.whiten,
            bands=self.bands,
            components=self.components,
            explained=self.explained,
            fitted_on=self.fitted_on,
        )

    def apply(self, spectra: NDArray[Any]) -> NDArray[np.float32]:
        """(..., n) of spectra (..., B) of any type; NaN where a spectrum has one.

        Raises: ConfigError: another number of bands.
        """
        check_bands(spectra.shape[-1], self.bands)
        centred = spectra.astype(np.float64) - self.mean
        return (centred @ self.matrix).astype(np.float32)

    def apply_measured(
        self, spectra: NDArray[Any], no_data: float | None = None
    ) -> NDArray[np.float32]:
        """As `apply`, with zeros, the mean training spectrum, where no measurement lies.

        Raises: ConfigError: another number of bands.
        """
        check_bands(spectra.shape[-1], self.bands)
        centred = spectra.astype(np.float64) - self.mean
        centred[missing(spectra, no_data)] = 0
        return (centred @ self.matrix).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write one .safetensors file, atomically."""
        tensors = {
            "mean": np.ascontiguousarray(self.mean),
            "matrix": np.ascontiguousarray(self.matrix),
        }
        metadata = {METADATA_KEY: to_json(self.summary)}
        write_into(path, safetensors.numpy.save(tensors, metadata))

    @classmethod
    def load(cls, path: Path) -> BandReduction:
        """The reduction that `save` wrote.

        Raises: ArtefactError: a file that is missing, damaged or not a band reduction.
        """
        if not path.is_file():
            raise ArtefactError(f"{path} does not exist; expected a saved band reduction.")
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        except (safetensors.SafetensorError, OSError) as error:
            raise ArtefactError(f"{path} is a damaged safetensors file: {error}.") from error
        if METADATA_KEY not in metadata or tensors.keys() != {"mean", "matrix"}:
            raise ArtefactError(f"{path} holds tensors, but not those of a band reduction.")
        summary = from_json(ReductionSummary, metadata[METADATA_KEY], source=str(path))
        _check_tensors(path, tensors, summary)
        return cls(
            method=summary.method,
            whiten=summary.whiten,
            mean=tensors["mean"],
            matrix=tensors["matrix"],
            explained=summary.explained,
            fitted_on=summary.fitted_on,
        )


def _check_tensors(path: Path, tensors: dict[str, NDArray[Any]], summary: ReductionSummary) -> None:
    shapes = {"mean": (summary.bands,), "matrix": (summary.bands, summary.components)}
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.shape != shape or tensor.dtype != np.float64 or not np.isfinite(tensor).all():
            raise ArtefactError(
                f"{path} is damaged: {name} is {tensor.dtype} {tensor.shape}; expected finite "
                f"float64 {shape}."
            )


def reduce_scene(scene: Scene, reduction: BandReduction) -> NDArray[np.float32]:
    """(H, W, n) of a scene; pixels without a measurement are zeros, the mean training spectrum.

    Raises: ConfigError: another number of bands.
    """
    height, width, _ = scene.cube.shape
    reduced = np.empty((height, width, reduction.components), np.float32)
    for start, stop in scene.chunks():
        rows = scene.cube.rows(start, stop)
        reduced[start:stop] = reduction.apply_measured(rows, scene.no_data)
    return reduced


def fit_bands(
    scene: Scene,
    train: Mask,
    *,
    method: Method = "pca",
    components: int = 30,
    whiten: bool = True,
) -> BandReduction:
    """The reduction of a scene's bands, from its training pixels (H, W) alone.

    pca: the directions of greatest variance. whiten: each with unit variance.
    select: `components` bands, each scaled to unit variance; see `selected_bands`.
    standardise: every band scaled to unit variance; `components` has no say.
    A band that is constant on the training pixels weighs nothing.

    Raises: ConfigError: an unknown method, more components than bands or than training pixels
            less one. DataError: no training pixel with a measurement, or all of them alike.
    Source: pca: Jolliffe, Principal Component Analysis, 2nd ed., section 3.1.
    """
    choice("method", method, get_args(Method))
    height, width, bands = scene.cube.shape
    if train.shape != (height, width):
        raise DataError(f"The training mask is {train.shape}; the scene is {(height, width)}.")
    if method != "standardise":
        _check_components(components, bands)
    moments = training_moments(scene, train)
    if method != "standardise":
        _check_pixels(components, moments)
    covariance = moments.scatter / max(1, moments.n - 1)
    dead = np.sqrt(covariance.diagonal()) <= DEAD * np.abs(moments.mean)
    if dead.all():
        raise DataError(
            f"All {moments.n} training pixels have the same spectrum; nothing can be learned."
        )
    covariance[dead] = 0
    covariance[:, dead] = 0
    explained = None
    if method == "pca":
        matrix, explained = _principal(covariance, components, whiten)
    elif method == "select":
        matrix = _scaled(covariance)[:, selected_bands(covariance, components)]
    else:
        matrix = _scaled(covariance)
    return BandReduction(
        method=method,
        whiten=whiten or method != "pca",
        mean=moments.mean,
        matrix=np.ascontiguousarray(matrix),
        explained=explained,
        fitted_on=moments.n,
    )


def selected_bands(covariance: Matrix, components: int) -> list[int]:
    """Bands (B, B) -> `components` of them, in the order chosen.

    The first has the greatest variance; each further one is the band that a linear prediction from
    those chosen fits worst, in squared error.

    Source: Du and Yang, Similarity-Based Unsupervised Band Selection for Hyperspectral Image
            Analysis (2008): linear prediction, there begun with another band.
    """
    left = covariance.copy()  # what the bands chosen cannot predict
    smallest = RANK * left.diagonal().max()
    chosen: list[int] = []
    for _ in range(components):
        error = left.diagonal().copy()
        error[chosen] = -np.inf
        band = int(error.argmax())
        chosen.append(band)
        if error[band] > smallest:
            left -= np.outer(left[band], left[band]) / left[band, band]
    return chosen


def _check_components(components: int, bands: int) -> None:
    at_least("components", components, 1)
    if components > bands:
        raise ConfigError(
            f"components={components} is more than the {bands} bands of the cube; expected at "
            f"most {bands}."
        )


def _check_pixels(components: int, moments: Moments) -> None:
    most = moments.n - 1
    if components > most:
        fewer = f"take --components {most}, or label more pixels" if most else "label more pixels"
        pixels = "1 training pixel" if most == 0 else f"{moments.n} training pixels"
        raise ConfigError(f"components={components} is too many for {pixels}; {fewer}.")


def _principal(covariance: Matrix, components: int, whiten: bool) -> tuple[Matrix, float]:
    """(B, n) and the share of the variance that n directions keep."""
    variances, directions = np.linalg.eigh(covariance)
    variances, directions = variances[::-1], directions[:, ::-1]
    kept = variances[:components]
    matrix = directions[:, :components]
    largest = np.abs(matrix).argmax(axis=0)
    matrix = matrix * np.sign(matrix[largest, np.arange(components)])
    matrix[covariance.diagonal() == 0] = 0
    if whiten:
        matrix = matrix * _inverse_root(kept, RANK * variances[0])
    return matrix, float(kept.sum() / variances.sum())


def _scaled(covariance: Matrix) -> Matrix:
    return np.diag(_inverse_root(covariance.diagonal(), 0.0))


def _inverse_root(variances: Vector, smallest: float) -> Vector:
    """1 / standard deviation; zero where a variance is no more than `smallest`."""
    alive = variances > smallest
    return np.where(alive, 1 / np.sqrt(np.where(alive, variances, 1)), 0)
