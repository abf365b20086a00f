"""What the main job asks of a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pocketvision.data.folders import Listing
from pocketvision.data.images import Samples
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import Pixels
from pocketvision.data.threads import Progress
from pocketvision.fitting.config import FitConfig, HeadName
from pocketvision.fitting.reporter import Reporter
from pocketvision.measure.judge import Answers, Judge
from pocketvision.models.arch import ArchSpec
from pocketvision.models.networks import AnyNetwork, AnySpec
from pocketvision.record.scores import (
    Calibration,
    DetectionFigures,
    Mistake,
    Score,
    SegmentationFigures,
)
from pocketvision.record.words import Finding, Metric, TaskName
from pocketvision.runtimes.runtime import Session
from pocketvision.train.batches import Source
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.module import TaskModule

Open = Callable[[], Session]


@dataclass(frozen=True, kw_only=True, slots=True)
class Examination:
    """What is known of a network when its training is done, without augmentation.

    train_score, val_score: of the network as it ships.
    """

    alarms: tuple[Finding, ...]
    train_score: Score
    val_score: Score


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What is recorded of the shipped file beyond its score; as the fields of `Record`."""

    confusion: tuple[tuple[int, ...], ...] = ()
    calibration: Calibration | None = None
    mistakes: tuple[Mistake, ...] = ()
    segmentation: SegmentationFigures | None = None
    detection: DetectionFigures | None = None


class Task(Protocol):
    """One task. It holds no state; the samples it is handed are those that its `scan` gave."""

    @property
    def name(self) -> TaskName: ...

    @property
    def metric(self) -> Metric: ...

    @property
    def batch_size(self) -> int:
        """Images a training step, unless asked otherwise."""
        ...

    @property
    def resolutions(self) -> tuple[int, ...]:
        """That are tried, unless asked otherwise."""
        ...

    @property
    def candidate_cost(self) -> float:
        """What measuring one takes, beside one of a classifier."""
        ...

    def scan(self, config: FitConfig, progress: Progress) -> Samples:
        """The images of the run with what belongs to them. Raises: DataError, ConfigError."""
        ...

    def listing(self, folder: Path) -> Listing:
        """The image files that `scan` would read, none opened. Raises: DataError."""
        ...

    def backbone(self, name: str, width: float, resolution: int) -> ArchSpec:
        """A classifier of the registry, as the task stands on it."""
        ...

    def network(self, backbone: ArchSpec, classes: int, head: HeadName | None) -> AnySpec:
        """The network of the task that stands on a classifier. Raises: ConfigError: none can.

        head: of segmentation; None: the usual one.
        """
        ...

    def weights_specs(
        self, config: FitConfig, classes: int, reporter: Reporter
    ) -> Sequence[AnySpec]:
        """The networks that the weights asked for can start. Raises: ArtefactError, ConfigError."""
        ...

    def preprocessing(self, resolution: int, shorter_side: int) -> Preprocessing:
        """How images of that (median) shorter side reach a network."""
        ...

    def start(self, spec: AnySpec, config: FitConfig, reporter: Reporter) -> tuple[AnyNetwork, str]:
        """A network to train, and how it starts, in words. Raises: ArtefactError, ConfigError."""
        ...

    def sources(
        self, samples: Samples, pixels: Pixels, preprocessing: Preprocessing
    ) -> tuple[Source, Source]:
        """Train and val, with what is learned of them."""
        ...

    def module(self, network: AnyNetwork, samples: Samples, course: Course[Any]) -> TaskModule:
        """The training of a network; course: of what `sources` gave."""
        ...

    def rehearsal(
        self, network: AnyNetwork, preprocessing: Preprocessing, config: TrainConfig, images: int
    ) -> TaskModule:
        """One on noise, whose steps take as long as those on so many images."""
        ...

    def examine(
        self,
        network: AnyNetwork,
        samples: Samples,
        pixels: Pixels,
        pre: Preprocessing,
        config: TrainConfig,
    ) -> Examination:
        """Score a trained network on training images and on val, and look for what is wrong."""
        ...

    def judge(self, samples: Samples, rows: np.ndarray) -> Judge:
        """Who knows the truth of those rows."""
        ...

    def evidence(
        self,
        samples: Samples,
        rows: np.ndarray,
        answers: Answers,
        pre: Preprocessing,
        open_session: Open,
    ) -> Evidence:
        """On the shipped file: its answers for those rows of the headline split, from image files.

        Raises: DataError: an image changed since it was scanned.
        """
        ...
