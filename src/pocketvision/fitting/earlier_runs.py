"""What the steps after the training took in earlier runs on this machine, for its next forecasts.

The constants of `forecast` are those of one processor; another takes a multiple of them that only
its own runs tell.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pocketvision.data.cache import cache_folder
from pocketvision.errors import ArtefactError
from pocketvision.fitting.forecast import Workload
from pocketvision.measure.device import machine_key
from pocketvision.record.run import Step
from pocketvision.record.words import TaskName
from pocketvision.storage import from_json, to_json, write_atomic

KEPT = 9  # runs that count, of each step; their median is what is expected
LEAST, MOST = 0.25, 4.0  # times the constants; beyond, something else happened to the run


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlierRuns:
    """times: step of a task, such as "classify export" -> seconds over those by the constants."""

    times: dict[str, tuple[float, ...]] = field(default_factory=dict)


def usual_ratios(task: TaskName) -> dict[str, float]:
    """Step -> what it usually takes here, in seconds of the constants; steps never done are not
    there.
    """
    found = {}
    for key, ratios in _read().times.items():
        of, _, step = key.partition(" ")
        if of == task and ratios:
            found[step] = min(MOST, max(LEAST, statistics.median(ratios)))
    return found


def learn(task: TaskName, work: Workload, steps: Iterable[Step]) -> None:
    """Keep what the last of each step took, for the forecasts of later runs.

    A cache that cannot be written is no reason to end a run that is done.
    """
    planned_s, times = work.constant_s, dict(_read().times)
    for name, seconds in {step.name: step.seconds for step in steps}.items():
        if planned_s.get(name, 0.0) > 0:
            key = f"{task} {name}"
            times[key] = (*times.get(key, ()), seconds / planned_s[name])[-KEPT:]
    with contextlib.suppress(OSError):
        write_atomic(_path(), to_json(EarlierRuns(times=times)))


def _path() -> Path:
    return cache_folder() / "times" / f"{machine_key()}.json"


def _read() -> EarlierRuns:
    # A damaged file, or one of another version, is as good as none.
    with contextlib.suppress(ArtefactError, OSError):
        return from_json(EarlierRuns, _path().read_bytes(), source=str(_path()))
    return EarlierRuns()
