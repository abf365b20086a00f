"""Scores of a scene's pixels: overall and average accuracy, Cohen's kappa, and the confusion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketvision.errors import ConfigError, DataError, at_least, check_shape
from pocketvision.scene_record import Scores

Classes = NDArray[np.integer]  # (N,), 0..K - 1


def score(predicted: Classes, true: Classes, num_classes: int) -> Scores:
    """Scores of `predicted` (N,) against `true` (N,), classes 0..num_classes - 1.

    Raises: DataError, ConfigError: as `confusion_of`.
    Source: as `score_confusion`.
    """
    return score_confusion(confusion_of(predicted, true, num_classes))


def score_confusion(confusion: NDArray[np.int64]) -> Scores:
    """Scores of counts (K, K): rows are the true classes, columns the predicted ones.

    The average accuracy is over classes that have a pixel. Where one class is all that is true and
    all that is predicted, kappa is 0/0 and given as 1: every pixel is right.
    Source: Cohen, A coefficient of agreement for nominal scales, Educational and Psychological
    Measurement 20 (1960): kappa = (p_o - p_e) / (1 - p_e).
    """
    n = int(confusion.sum())
    right = confusion.diagonal()
    counts = confusion.sum(axis=1)
    per_class = tuple(
        int(hit) / int(count) if count else None for hit, count in zip(right, counts, strict=True)
    )
    recalls = [recall for recall in per_class if recall is not None]
    observed = int(right.sum()) / n
    by_chance = float((counts / n) @ (confusion.sum(axis=0) / n))
    alone = int(confusion.max()) == n and observed == 1
    return Scores(
        overall=observed,
        average=sum(recalls) / len(recalls),
        kappa=1.0 if alone else (observed - by_chance) / (1 - by_chance),
        per_class=per_class,
        n=n,
    )


def confusion_of(predicted: Classes, true: Classes, num_classes: int) -> NDArray[np.int64]:
    """Counts (K, K): rows are the true classes, columns the predicted ones.

    Raises: DataError: no pixels, or a class outside 0..num_classes - 1. ConfigError: arrays that
    are not integers (N,) of one length.
    """
    at_least("num_classes", num_classes, 1)
    for name, classes in (("true", true), ("predicted", predicted)):
        _check(name, classes, num_classes)
    check_shape("predicted", predicted.shape, true.shape)
    cells = true.astype(np.int64) * num_classes + predicted
    counts = np.bincount(cells, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def _check(name: str, classes: Classes, num_classes: int) -> None:
    if classes.ndim != 1 or not np.issubdtype(classes.dtype, np.integer):
        raise ConfigError(
            f"{name} is {classes.dtype} of {classes.ndim} axes; expected integers (N,): the class "
            "numbers of the pixels that are scored."
        )
    if classes.size == 0:
        raise DataError(f"{name} holds no pixels; there is nothing to score.")
    if classes.min() < 0 or classes.max() >= num_classes:
        raise DataError(
            f"{name} goes from {classes.min()} to {classes.max()}, but there are {num_classes} "
            f"classes: 0 to {num_classes - 1}. Leave out pixels without a label."
        )
