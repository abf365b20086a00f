"""What was measured in a noisy or a slow minute is measured again in a while."""

from __future__ import annotations

import math
from time import sleep

from pocketvision.budget import format_time
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.run import Clock

PAUSES_S = (15.0, 30.0, 60.0)  # one before each new measurement, until they are used up
LATE = 1.1  # of the time given: how far a pause may lead


class Patience:
    """The pauses that are left to a run."""

    def __init__(self, clock: Clock, reporter: Reporter) -> None:
        self.clock, self.reporter = clock, reporter
        self._pauses = iter(PAUSES_S)

    def waits(self, why: str, measuring_s: float) -> bool:
        """Say why and sleep; False: no pause is left, or it would lead too far beyond the time.

        measuring_s: what the measurement behind the pause takes.
        """
        pause_s = next(self._pauses, None)
        limit_s = math.inf if self.clock.limit_s is None else LATE * self.clock.limit_s
        if pause_s is None or self.clock.spent_s + pause_s + measuring_s > limit_s:
            return False
        self.reporter.say(f"{why} Measuring again in {format_time(pause_s)}.")
        sleep(pause_s)
        return True
