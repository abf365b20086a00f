"""Whether probabilities mean what they say: reliability, calibration error, temperature."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketvision.errors import DataError, GateError, check_shape
from pocketvision.measure.accuracy import Labels, Logits
from pocketvision.record.scores import Calibration, ReliabilityBin

BINS = 10
BISECTIONS = 60
TEMPERATURES = (0.05, 20.0)  # beyond, the images at hand say nothing about how sure to be

Probabilities = NDArray[np.float64]  # (N, K), rows sum to 1


def calibration(
    logits: Logits,
    labels: Labels,
    *,
    split: str,
    val_logits: Logits,
    val_labels: Labels,
) -> Calibration:
    """Calibration on one split, before and after the temperature that val asks for.

    logits, val_logits: float (N, K). labels, val_labels: integers (N,), 0..K - 1.
    Raises: DataError: no images, labels outside 0..K - 1. GateError: logits that are NaN or
    infinite. ConfigError: shapes that do not match.
    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, sections 2 and 4.2.
    """
    temperature = fit_temperature(val_logits, val_labels)
    _check(logits, labels)
    bins = reliability(softmax(logits), labels)
    scaled = reliability(softmax(logits, temperature), labels)
    return Calibration(
        split=split,
        temperature=temperature,
        ece=calibration_error(bins),
        ece_scaled=calibration_error(scaled),
        bins=bins,
    )


def softmax(logits: Logits, temperature: float = 1.0) -> Probabilities:
    """Probabilities (N, K) of logits (N, K) divided by `temperature`, above 0."""
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: Probabilities = weights / weights.sum(axis=1, keepdims=True)
    return probabilities


def fit_temperature(logits: Logits, labels: Labels) -> float:
    """The temperature under which the labels are most likely, within `TEMPERATURES`.

    1 where every temperature is as good. Raises: as `calibration`.
    """
    _check(logits, labels)
    centred = logits.astype(np.float64)
    centred -= centred.max(axis=1, keepdims=True)
    own = centred[np.arange(len(labels)), labels]

    def slope(sharpness: float) -> float:
        """Of the loss over 1 / temperature, in which it is convex: rises with `sharpness`."""
        expected = (softmax(centred, 1 / sharpness) * centred).sum(axis=1)
        return float((expected - own).mean())

    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    if slope(low) == slope(high) == 0:
        return 1.0
    for _ in range(BISECTIONS):
        middle = (low * high) ** 0.5
        if slope(middle) < 0:
            low = middle
        else:
            high = middle
    return float(np.clip(1 / high, *TEMPERATURES))


def reliability(probabilities: Probabilities, labels: Labels) -> tuple[ReliabilityBin, ...]:
    """Images by tenths of the highest probability; tenths without images are left out."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    tenth = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return tuple(
        ReliabilityBin(
            confidence=float(confidence[inside].mean()),
            top1=float(right[inside].mean()),
            n=int(inside.sum()),
        )
        for inside in (tenth == number for number in range(BINS))
        if inside.any()
    )


def calibration_error(bins: tuple[ReliabilityBin, ...]) -> float:
    """Expected calibration error, 0..1: the mean gap between confidence and accuracy, by images."""
    total = sum(one.n for one in bins)
    return sum(one.n * abs(one.top1 - one.confidence) for one in bins) / total


def _check(logits: Logits, labels: Labels) -> None:
    if len(labels) == 0:
        raise DataError("there are no images to measure calibration on.")
    check_shape("logits", logits.shape, (len(labels), None))
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise DataError(
            f"labels go from {labels.min()} to {labels.max()}, but there are "
            f"{logits.shape[1]} classes: 0 to {logits.shape[1] - 1}."
        )
    bad = int((~np.isfinite(logits).all(axis=1)).sum())
    if bad:
        raise GateError(f"logits are not numbers on {bad} of {len(labels)} images.")
