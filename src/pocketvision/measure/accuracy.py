"""Accuracy with intervals, two networks in pairs, and the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pocketvision.errors import ConfigError, DataError, GateError, check_shape, in_range
from pocketvision.intervals import Z, wilson
from pocketvision.measure.judge import Answers, Rows
from pocketvision.record.scores import Comparison, Score
from pocketvision.record.words import Metric

BISECTIONS = 60

Logits = NDArray[np.floating]  # (N, K)
Labels = NDArray[np.integer]  # (N,), 0..K - 1


def accuracy(correct: int, n: int) -> Score:
    """Top-1 accuracy with its 95 % Wilson interval.

    Raises: ConfigError: n below 1, correct outside 0..n.
    """
    in_range("n", n, 1, math.inf)
    in_range("correct", correct, 0, n)
    low, high = wilson(correct, n)
    return Score(value=correct / n, low=low, high=high, correct=correct, n=n)


def compare(
    logits: Logits,
    reference_logits: Logits,
    labels: Labels,
    *,
    subject: str,
    reference: str,
    split: str,
) -> Comparison:
    """One network against its reference on the same images.

    The interval of the drop is Tango's score interval for paired proportions: it holds for few
    images and for networks that never differ, where it still has a width.
    Raises: GateError: logits that are NaN or infinite. DataError: no images, labels outside 0..K-1.
    ConfigError: shapes that do not match.
    Source: Tango, Statistics in Medicine 17 (1998) 891-908.
    """
    check_shape(f"logits of {subject}", logits.shape, reference_logits.shape)
    predicted = _classes(logits, labels, subject)
    expected = _classes(reference_logits, labels, reference)
    right, reference_right = predicted == labels, expected == labels
    only_reference = int((reference_right & ~right).sum())
    only_subject = int((right & ~reference_right).sum())
    low, high = paired_interval(only_reference, only_subject, len(labels))
    difference = logits.astype(np.float64) - reference_logits.astype(np.float64)
    return Comparison(
        subject=subject,
        reference=reference,
        split=split,
        accuracy=accuracy(int(right.sum()), len(labels)),
        reference_accuracy=accuracy(int(reference_right.sum()), len(labels)),
        drop=(only_reference - only_subject) / len(labels),
        drop_low=low,
        drop_high=high,
        agreement=float((predicted == expected).mean()),
        largest_difference=float(np.abs(difference).max()),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelJudge:
    """A `Judge` of (N, K) logits by the true classes, labels (N,)."""

    labels: Labels
    metric: Metric = "top-1"

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Rows) -> LabelJudge:
        return replace(self, labels=self.labels[rows])

    def compare(
        self, answers: Answers, reference: Answers, *, subject: str, reference_name: str, split: str
    ) -> Comparison:
        """Raises: as `compare`."""
        return compare(
            answers, reference, self.labels, subject=subject, reference=reference_name, split=split
        )


def loses_at_most(comparison: Comparison, points: float) -> bool:
    """True if what is lost, as estimated, is no more than that many points of the score."""
    return round(100 * comparison.drop, 9) <= points


def confusion(logits: Logits, labels: Labels, num_classes: int) -> tuple[tuple[int, ...], ...]:
    """Counts (K, K): rows are the true classes, columns the predicted ones.

    Raises: ConfigError: K is not num_classes. DataError, GateError: as `compare`.
    """
    check_shape("logits", logits.shape, (len(labels), num_classes))
    predicted = _classes(logits, labels, "the network")
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return tuple(tuple(row) for row in counts.tolist())


def paired_interval(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """95 % score interval of the difference (only_first - only_second) / n of paired proportions.

    only_first, only_second: pairs in which only the first or only the second is right; n: pairs.
    Raises: ConfigError: counts below 0, or more of them than pairs.
    Source: as `compare`.
    """
    in_range("n", n, 1, math.inf)
    in_range("only_first", only_first, 0, n)
    in_range("only_second", only_second, 0, n - only_first)

    def score(delta: float) -> float:
        return paired_score(delta, only_first, only_second, n)

    estimate = (only_first - only_second) / n
    return _root(score, -1.0, estimate, Z), _root(score, estimate, 1.0, -Z)


def paired_score(delta: float, only_first: int, only_second: int, n: int) -> float:
    """Tango's statistic: about standard normal if the true difference is `delta`, -1..1."""
    a = 2 * n
    b = -only_first - only_second + (2 * n - only_first + only_second) * delta
    c = -only_second * delta * (1 - delta)
    q = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)  # likelihood's maximum given delta
    variance = n * (2 * q + delta * (1 - delta))
    distance = only_first - only_second - n * delta
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def _root(falling: Callable[[float], float], low: float, high: float, value: float) -> float:
    """Where a falling function takes `value`, by bisection; an end of the range if it does not."""
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if falling(middle) > value:
            low = middle
        else:
            high = middle
    return low if value > 0 else high


def _classes(logits: Logits, labels: Labels, name: str) -> NDArray[np.intp]:
    """The class each row names. Raises: as `compare`."""
    if len(labels) == 0:
        raise DataError("there are no images to measure accuracy on.")
    check_shape(f"logits of {name}", logits.shape, (len(labels), None))
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ConfigError(
            f"labels are {labels.dtype} of {labels.ndim} axes; expected integers (N,)."
        )
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise DataError(
            f"labels go from {labels.min()} to {labels.max()}, but {name} has "
            f"{logits.shape[1]} classes: 0 to {logits.shape[1] - 1}."
        )
    bad = int((~np.isfinite(logits).all(axis=1)).sum())
    if bad:
        raise GateError(
            f"{name} gives logits that are not numbers on {bad} of {len(labels)} images."
        )
    classes: NDArray[np.intp] = logits.argmax(axis=1)
    return classes
