"""What the tensors of a float graph hold on calibration images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from pocketvision.cpu import available_cores
from pocketvision.errors import ConfigError
from pocketvision.runtimes.graph import copied
from pocketvision.runtimes.onnxfile import INPUT
from pocketvision.runtimes.onnxsession import open_session

BINS = 2048
LARGE = 224 * 224  # pixels of an image of which as many are looked at as are asked for
LEAST = 8  # of larger ones
TINY = float(np.finfo(np.float32).tiny)  # a step below it is none

Batches = Sequence[NDArray[Any]]  # calibration inputs, batch by batch
Tensors = dict[str, NDArray[np.float32]]  # (N, ...) by name


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Observed:
    """One tensor over all calibration images.

    counts: (BINS,) of the values other than 0, over low..high. zeros: how many values are 0.
    """

    low: float
    high: float
    counts: NDArray[np.int64]
    zeros: int

    @property
    def edges(self) -> NDArray[np.float64]:
        """(BINS + 1,) borders of the bins."""
        return np.linspace(self.low, self.high, BINS + 1)


def observe(model: onnx.ModelProto, names: Sequence[str], batches: Batches) -> dict[str, Observed]:
    """Ranges and histograms of the named float tensors, in two passes over the images.

    Raises: ConfigError: a tensor that is not a number on some image.
    """
    run = watched(model, names)
    extremes = _extremes(run, batches)
    counts = {name: np.zeros(BINS, np.int64) for name in names}
    zeros = dict.fromkeys(names, 0)
    for batch in batches:
        for name, values in run(batch).items():
            low, high = extremes[name]
            others = values[values != 0]
            zeros[name] += values.size - len(others)
            counts[name] += _histogram(others, low, high)
    return {
        name: Observed(low=low, high=high, counts=counts[name], zeros=zeros[name])
        for name, (low, high) in extremes.items()
    }


def channel_peaks(
    model: onnx.ModelProto, names: Sequence[str], batches: Batches
) -> dict[str, NDArray[np.float32]]:
    """(C,) largest absolute value of each channel of the named tensors."""
    run = watched(model, names)
    found: dict[str, NDArray[np.float32]] = {}
    for batch in batches:
        for name, values in run(batch).items():
            peaks = np.abs(values).max((0, *range(2, values.ndim)))
            found[name] = np.maximum(peaks, found.get(name, peaks))
    return found


def watched(
    model: onnx.ModelProto, names: Sequence[str], kind: int = onnx.TensorProto.FLOAT
) -> Callable[[NDArray[Any]], Tensors]:
    """A call that runs a graph on a batch and gives the named tensors, all of one type."""
    if not names:  # for ONNX Runtime no names means all
        return lambda _: {}
    seen = copied(model)
    del seen.graph.value_info[:]
    given = {value.name for value in seen.graph.output}
    seen.graph.output.extend(
        helper.make_tensor_value_info(name, kind, None) for name in names if name not in given
    )
    session = open_session(seen, "the network", available_cores())

    def run(batch: NDArray[Any]) -> Tensors:
        found = session.run(list(names), {INPUT: np.ascontiguousarray(batch)})
        return dict(zip(names, found, strict=True))

    return run


def whole(model: onnx.ModelProto, tensor: str, batches: Batches) -> NDArray[np.float32]:
    """One float tensor (N, ...) on all images."""
    run = watched(model, [tensor])
    return np.concatenate([run(batch)[tensor] for batch in batches])


def _extremes(
    run: Callable[[NDArray[Any]], Tensors], batches: Batches
) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of every tensor."""
    found: dict[str, tuple[float, float]] = {}
    for batch in batches:
        for name, values in run(batch).items():
            low, high = float(values.min()), float(values.max())
            if not np.isfinite([low, high]).all():
                raise ConfigError(
                    f"the network gives values that are not numbers (tensor {name!r}) on the "
                    "calibration images; it cannot be quantized."
                )
            lowest, highest = found.get(name, (low, high))
            found[name] = min(low, lowest), max(high, highest)
    return found


def _histogram(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.int64]:
    if high - low < BINS * TINY:  # no bin would have a width
        return np.bincount([0], weights=[len(values)], minlength=BINS).astype(np.int64)
    scaled = (values - np.float32(low)) * np.float32(BINS / (high - low))
    return np.bincount(np.minimum(scaled.astype(np.int32), BINS - 1), minlength=BINS)


def few(batches: Batches, images: int) -> Batches:
    """The first batches that hold so many images, or all.

    Large images have more places to learn from: of these as many are enough as have the pixels of
    so many of 224 x 224, and at least 8.
    """
    enough = max(LEAST, images * LARGE // math.prod(batches[0].shape[1:3]))
    chosen: list[NDArray[Any]] = []
    for batch in batches:
        if sum(map(len, chosen)) >= min(images, enough):
            break
        chosen.append(batch)
    return chosen
