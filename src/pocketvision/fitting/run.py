"""One run of the main job in progress: what it works on, its clock, and its saved state."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from pocketvision.data.images import Samples
from pocketvision.errors import StorageError
from pocketvision.fitting.artefact import RUN
from pocketvision.fitting.config import FileState, FitConfig, RunState
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.target_table import TargetTable
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.fitting.tasks.task import Task
from pocketvision.models.networks import AnySpec
from pocketvision.progress import Advance
from pocketvision.record.run import Step
from pocketvision.runtimes.runtime import Runtime
from pocketvision.storage import to_json, write_into
from pocketvision.train.config import TrainConfig

SAVE_EVERY_S = 20.0


class Clock:
    """Wall clock of the whole command, interrupted parts included."""

    def __init__(self, limit_s: float | None) -> None:
        self.limit_s = limit_s
        self.started = time.monotonic()
        self.earlier_s = 0.0

    @property
    def spent_s(self) -> float:
        return self.earlier_s + time.monotonic() - self.started

    @property
    def remaining_s(self) -> float | None:
        """Seconds left of the time asked for; None without a limit."""
        return None if self.limit_s is None else self.limit_s - self.spent_s

    def deadline(self, reserve_s: float) -> float | None:
        """The `time.monotonic()` at which only `reserve_s` are left; None without a limit."""
        remaining = self.remaining_s
        return None if remaining is None else time.monotonic() + remaining - reserve_s

    def share_left_s(self, share: float, reserve_s: float) -> float | None:
        """A share of what is left beside `reserve_s`; None without a limit."""
        remaining = self.remaining_s
        return None if remaining is None else share * max(0.0, remaining - reserve_s)

    def has_spent(self, share: float, reserve_s: float) -> bool:
        """True if this share of all the time beside `reserve_s` is over."""
        return self.limit_s is not None and self.spent_s > share * (self.limit_s - reserve_s)


@dataclass(kw_only=True)
class Run:
    """What the steps of the main job share. `state` changes only through `save`."""

    config: FitConfig
    out: Path
    samples: Samples
    runtimes: list[Runtime]
    reporter: Reporter
    clock: Clock
    state: RunState
    # What a training step of a network takes, measured once: configuration, seconds per image.
    timings: dict[AnySpec, tuple[TrainConfig, float]] = field(default_factory=dict)
    # What decoding an image to a side takes, measured once: seconds.
    decoding: dict[int, float] = field(default_factory=dict)
    target: TargetTable | None = None  # of the device that the latency of the budget is of
    # Around each training: calls the other nodes to it.
    together: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def task(self) -> Task:
        """What the images are for."""
        return TASKS[self.config.task]

    @property
    def spec(self) -> AnySpec:
        """The network being trained."""
        return self.state.ranking[self.state.attempt]

    def save(self, state: RunState) -> None:
        """Make `state` the current one and write run.json.

        Raises: OSError: it cannot be written, or the output folder is not there any more.
        """
        self.state = replace(state, spent_s=round(self.clock.spent_s, 3))
        write_into(self.out / RUN, to_json(self.state))

    def update_file(self, old: FileState, new: FileState | None) -> None:
        """Save what became known of one file; None: it is left out."""
        files = [new if file == old else file for file in self.state.files]
        self.save(replace(self.state, files=tuple(file for file in files if file is not None)))

    def add_steps(self, *steps: Step) -> None:
        """Append finished steps to the state and save it."""
        self.save(with_steps(self.state, *steps))

    def did(self, name: str) -> bool:
        """True if the network being trained has this step behind it."""
        return any(step.name == name for step in _since_training(self.state.steps)[1])


@contextmanager
def keeping_the_clock(state_file: Path, save: Callable[[], None]) -> Iterator[None]:
    """Whatever ends the block, the time spent until then counts when the run goes on.

    save: writes the state file, such as run.json, with that time.

    Raises: StorageError: the output folder vanished meanwhile.
    """
    try:
        yield
    except BaseException as error:
        with suppress(OSError):  # what ended the block is what is raised
            save()
        if isinstance(error, Exception) and not state_file.exists():
            raise StorageError(
                f"{state_file.parent} was removed or renamed while the run wrote to it. Put it "
                "back and run the same command again to go on; without it, that begins anew."
            ) from error
        raise


def saving(advance: Advance, save: Callable[[], None]) -> Advance:
    """Progress that also saves how much time is spent, so that a killed run does not forget it.

    save: as of `keeping_the_clock`; called every SAVE_EVERY_S seconds.
    """
    saved = time.monotonic()

    def on_step(done: int, total: int, note: str) -> None:
        nonlocal saved
        advance(done, total, note)
        if time.monotonic() > saved + SAVE_EVERY_S:
            saved = time.monotonic()
            save()

    return on_step


def with_steps(state: RunState, *steps: Step) -> RunState:
    """`state` with steps at the end; one that is made again takes along those that were behind."""
    earlier, current = _since_training(state.steps)
    names = {step.name for step in steps}
    kept = itertools.takewhile(lambda step: step.name not in names, current)
    return replace(state, steps=(*earlier, *kept, *steps))


def _since_training(steps: tuple[Step, ...]) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Steps up to the last training, and those behind it, of the network it trained."""
    trained = [number for number, step in enumerate(steps) if step.name == "train"]
    behind = trained[-1] + 1 if trained else len(steps)
    return steps[:behind], steps[behind:]


@contextmanager
def stopwatch() -> Iterator[list[float]]:
    """Seconds of the block, appended to the list it gives."""
    durations: list[float] = []
    start = time.monotonic()
    yield durations
    durations.append(round(time.monotonic() - start, 3))
