"""A narrowing under way: what its steps share, and where the network behind the last one lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pocketvision.fitting.ranking import HEADROOM
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.run import Clock
from pocketvision.fitting.target_table import TargetTable
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.fitting.tasks.task import Task
from pocketvision.models.networks import AnyNetwork, task_of
from pocketvision.record.timing import Latency
from pocketvision.searching.narrowing import STATE
from pocketvision.searching.scaled_table import ScaledTable
from pocketvision.searching.shrink_config import ShrinkConfig, ShrinkState
from pocketvision.searching.shrink_work import Lessons
from pocketvision.storage import to_json, write_into
from pocketvision.train.config import TrainConfig

SPREAD = 1.01  # the interval of a quiet measurement reaches so far above its median


@dataclass(kw_only=True)
class Adapting:
    """What the steps share. `state` changes only through `save`."""

    config: ShrinkConfig
    folder: Path
    reporter: Reporter
    clock: Clock
    state: ShrinkState
    seed: AnyNetwork
    teacher: AnyNetwork
    network: AnyNetwork
    lessons: Lessons
    classes: tuple[str, ...]
    finish_s: float  # of what comes behind the long fine-tuning
    table: ScaledTable | TargetTable

    def save(self, state: ShrinkState) -> None:
        """Make `state` the current one and write it."""
        self.state = replace(state, spent_s=round(self.clock.spent_s, 3))
        write_into(self.folder / STATE, to_json(self.state))

    @property
    def task(self) -> Task:
        """What the network is for."""
        return TASKS[task_of(self.seed.spec)]

    @property
    def seed_latency(self) -> Latency:
        """What the seed takes, untrained, or by the table of a target."""
        latency = self.state.steps[0].latency
        assert latency is not None
        return latency

    @property
    def target_ms(self) -> float:
        """What a whole network may take, so that what ships is within the latency asked for."""
        if isinstance(self.table, TargetTable):  # the same for what ships, but sums are off
            return self.config.latency_ms / (1 + self.table.spread)
        return self.config.latency_ms / HEADROOM / SPREAD

    @property
    def share_s(self) -> float | None:
        """Of the time, what is left to narrowing; None without a limit."""
        return self.clock.share_left_s(self.config.adapting_share, self.finish_s)

    @property
    def is_late(self) -> bool:
        """True if the share of the time that was for narrowing is over: steps are large then."""
        return self.clock.has_spent(self.config.adapting_share, self.finish_s)

    @property
    def brief(self) -> TrainConfig:
        """The fine-tuning of each proposal."""
        return TrainConfig(
            batch_size=self.config.batch_size or self.task.batch_size,
            learning_rate=self.config.learning_rate,
            augmentation=self.config.augmentation,
            threads=self.state.threads,
            seed=self.config.seed,
        )


def network_folder(state: ShrinkState, folder: Path) -> Path:
    """Where the network behind the last step lies. Two places take turns: one is always whole."""
    number = len(state.steps) - 1
    return folder / f"{number % 2}" if number > 0 else Path(state.config.source)
