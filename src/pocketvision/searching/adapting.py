"""NetAdapt on a fitted network for photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocketvision.fitting.target_table import TargetTable
from pocketvision.fitting.tasks.registry import TASKS
from pocketvision.fitting.tasks.task import Task
from pocketvision.models.networks import AnyNetwork, AnySpec, task_of
from pocketvision.models.weights import save as save_network
from pocketvision.narrowing.narrower import Narrower
from pocketvision.record.timing import Latency
from pocketvision.searching.scaled_table import ScaledTable
from pocketvision.searching.shrink_config import ShrinkConfig, ShrinkState
from pocketvision.searching.shrink_work import Lessons, ShrinkWork
from pocketvision.train.config import TrainConfig


@dataclass(kw_only=True)
class Adapting(Narrower[AnySpec, AnyNetwork, ShrinkState]):
    """What the steps share. teacher: of all fine-tunings."""

    config: ShrinkConfig
    table: ScaledTable | TargetTable
    teacher: AnyNetwork
    lessons: Lessons
    classes: tuple[str, ...]

    @property
    def task(self) -> Task:
        """What the network is for."""
        return TASKS[task_of(self.seed.spec)]

    @property
    def expected(self) -> str:
        """As of `Narrower`."""
        return f"expected {self.task.metric} of the images held out"

    @property
    def sum_spread(self) -> float | None:
        """As of `Narrower`."""
        return self.table.spread if isinstance(self.table, TargetTable) else None

    def timed_whole(self, spec: AnySpec) -> Latency:
        """As of `Narrower`."""
        return self.table.timed_whole(spec)

    def scoring(self) -> ShrinkWork:
        """As of `Narrower`."""
        return ShrinkWork(
            network=self.network_folder,
            teacher=Path(self.config.teacher or self.config.source),
            lessons=self.lessons,
            brief=self.brief,
            steps=self.state.brief_steps,
            first_key=self.first_key,
        )

    def keep(self, network: AnyNetwork, folder: Path) -> None:
        """As of `Narrower`."""
        save_network(
            network, folder, classes=self.classes, preprocessing=self.lessons.preprocessing
        )

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
