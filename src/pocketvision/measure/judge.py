"""Judging what networks answer, whatever the task."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketvision.record.scores import Comparison
from pocketvision.record.words import Metric

Answers = NDArray[Any]  # (N, ...), as sessions give them: logits, maps of classes, boxes
Rows = NDArray[np.int64]


class Judge(Protocol):
    """Knows the truth of N images, and compares a network with a reference on them."""

    @property
    def metric(self) -> Metric: ...

    def __len__(self) -> int: ...

    def take(self, rows: Rows) -> Judge:
        """Of those images, in that order."""
        ...

    def compare(
        self, answers: Answers, reference: Answers, *, subject: str, reference_name: str, split: str
    ) -> Comparison:
        """One network against its reference, on all N images.

        Raises: GateError: answers that are not numbers. ConfigError: of another shape.
        """
        ...
