"""Judging detectors as every other network: arrays of answers in, a comparison out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from pocketvision.boxes import Detections, Objects, Selection, select
from pocketvision.errors import DataError, GateError, check_shape
from pocketvision.measure.detection import (
    Floats,
    Sizes,
    ap_draws,
    matched_share,
    percentile_interval,
)
from pocketvision.measure.judge import Answers, Rows
from pocketvision.record.scores import Comparison, Score
from pocketvision.record.words import Metric

SEED = 0  # of the bootstrap


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DetectionJudge:
    """A `Judge` of boxes with probabilities of N images, (N, M, 4 + K), the background first.

    objects: of the N images. sizes: (N, 2), their width and height in pixels.
    """

    objects: Objects
    sizes: Sizes
    classes: tuple[str, ...]
    selection: Selection = field(default_factory=Selection)
    metric: Metric = "mAP"

    def __len__(self) -> int:
        return len(self.objects)

    def take(self, rows: Rows) -> DetectionJudge:
        return replace(self, objects=self.objects.take(rows), sizes=self.sizes[rows])

    def found(self, answers: Answers) -> list[Detections]:
        """What is told of each image. Raises: ConfigError: answers of another shape."""
        check_shape("answers", answers.shape, (len(self), None, 5 + len(self.classes)))
        return [select(one[:, :4], one[:, 4:], self.selection) for one in answers]

    def score(self, found: list[Detections]) -> Score:
        """mAP with its interval. Raises: DataError: no objects to be found."""
        return self._score(self._draws(found))

    def _draws(self, found: list[Detections]) -> Floats:
        return ap_draws(found, self.objects, self.sizes, self.classes, seed=SEED)

    def _score(self, draws: Floats) -> Score:
        value, interval = float(draws[0]), percentile_interval(draws)
        if math.isnan(value) or interval is None:
            raise DataError("there are no objects to be found, so that a detector has no score.")
        low, high = min(interval[0], value), max(interval[1], value)
        return Score(value=value, low=low, high=high, n=len(self), metric="mAP")

    def compare(
        self, answers: Answers, reference: Answers, *, subject: str, reference_name: str, split: str
    ) -> Comparison:
        """As `Judge.compare`; agreement is `matched_share`.

        Raises: DataError: no objects to be found. GateError: answers that are not numbers.
        """
        for name, given in ((subject, answers), (reference_name, reference)):
            bad = sum(not np.isfinite(one).all() for one in given)
            if bad:
                raise GateError(
                    f"{name} gives boxes or scores that are not numbers on {bad} of {len(self)} "
                    "images."
                )
        own, other = self.found(answers), self.found(reference)
        draws, reference_draws = self._draws(own), self._draws(other)
        score, reference_score = self._score(draws), self._score(reference_draws)
        interval = percentile_interval(reference_draws - draws)
        assert interval is not None
        # Image by image: of a data set, arrays as large as the answers are gigabytes.
        apart = [np.abs(one - two).max() for one, two in zip(answers, reference, strict=True)]
        return Comparison(
            subject=subject,
            reference=reference_name,
            split=split,
            accuracy=score,
            reference_accuracy=reference_score,
            drop=reference_score.value - score.value,
            drop_low=interval[0],
            drop_high=interval[1],
            agreement=matched_share(own, other),
            largest_difference=float(max(apart)),
        )
