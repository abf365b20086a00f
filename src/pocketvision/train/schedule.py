"""The learning rate: a linear warm-up, then a cosine to zero whose end can be moved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from pocketvision.errors import ArtefactError


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Factor 0..1 of the learning rate at each optimizer step.

    Rises over `warmup` steps; from `start` on, where `phase` of the cosine (0..1) lies behind, it
    goes through the rest of it until step `steps`.
    """

    steps: int
    warmup: int
    start: int
    phase: float = 0.0

    @classmethod
    def for_steps(cls, steps: int, warmup: int) -> Schedule:
        """The whole schedule, as planned."""
        return cls(steps=steps, warmup=warmup, start=warmup)

    @classmethod
    def restored(cls, values: Mapping[str, Any]) -> Schedule:
        """From what `asdict` made of one. Raises: ArtefactError: it was one of another version."""
        if values.keys() != {field.name for field in fields(cls)}:
            raise ArtefactError(
                "The training was begun by another version of pocketvision, whose learning rate "
                "goes another way. Go on with that version, or give another --out."
            )
        return cls(**values)

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * self._phase(step)))

    def _phase(self, step: int) -> float:
        share = (step - self.start) / max(1, self.steps - self.start)
        return self.phase + (1 - self.phase) * min(1.0, share)

    def ending_at(self, steps: int, now: int) -> Schedule:
        """The same up to step `now`, then the rest of the cosine until `steps` instead.

        Not a cosine of its own: each begins flat, and an end that is moved again and again would
        keep the rate high until the last.
        """
        if now <= self.warmup:
            return replace(self, steps=steps)
        return replace(self, steps=steps, start=now, phase=self._phase(now))


def epochs_in_all(done: int, planned: int, seconds_per_epoch: float, left_s: float) -> int:
    """How many epochs in all the time left allows: `planned` at most, `done` + 1 at least."""
    more = int(max(0.0, left_s) / max(seconds_per_epoch, 1e-9))
    return min(planned, done + max(1, more))
