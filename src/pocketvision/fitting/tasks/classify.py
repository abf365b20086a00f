"""Classification: the class of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from pocketvision.data.folders import Listing, list_images
from pocketvision.data.images import Samples, scan
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import Pixels
from pocketvision.data.threads import Progress
from pocketvision.fitting.candidates import RESOLUTIONS, plain
from pocketvision.fitting.config import FitConfig, HeadName
from pocketvision.fitting.evidence import classifier_evidence
from pocketvision.fitting.examination import examine_classifier
from pocketvision.fitting.fine_tuning import start_from, weights_specs
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.tasks.task import Evidence, Examination, Open
from pocketvision.measure.accuracy import LabelJudge
from pocketvision.measure.judge import Answers
from pocketvision.models.arch import ArchSpec, Network
from pocketvision.models.networks import AnyNetwork, AnySpec
from pocketvision.record.words import Metric, TaskName
from pocketvision.train.batches import PixelSource, training_sources
from pocketvision.train.classify import Classification, rehearsal
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course


@dataclass(frozen=True, kw_only=True, slots=True)
class Classify:
    """A `Task`."""

    name: TaskName = "classify"
    metric: Metric = "top-1"
    batch_size: int = 64
    resolutions: tuple[int, ...] = RESOLUTIONS
    candidate_cost: float = 1.0

    def scan(self, config: FitConfig, progress: Progress) -> Samples:
        return scan(
            config.data,
            seed=config.seed,
            skip_bad=config.skip_bad,
            only=config.only,
            progress=progress,
        )

    def listing(self, folder: Path) -> Listing:
        return list_images(folder)

    def backbone(self, name: str, width: float, resolution: int) -> ArchSpec:
        return plain(name, width, resolution)

    def network(self, backbone: ArchSpec, classes: int, head: HeadName | None) -> ArchSpec:
        return backbone.with_classes(classes)

    def weights_specs(
        self, config: FitConfig, classes: int, reporter: Reporter
    ) -> Sequence[ArchSpec]:
        return weights_specs(config, classes, reporter)

    def preprocessing(self, resolution: int, shorter_side: int) -> Preprocessing:
        return Preprocessing.for_resolution(resolution, shorter_side)

    def start(self, spec: AnySpec, config: FitConfig, reporter: Reporter) -> tuple[Network, str]:
        network = cast(ArchSpec, spec).build(seed=config.seed)
        return network, start_from(config.weights, network, reporter)

    def sources(
        self, samples: Samples, pixels: Pixels, preprocessing: Preprocessing
    ) -> tuple[PixelSource, PixelSource]:
        return training_sources(samples, pixels)

    def module(
        self, network: AnyNetwork, samples: Samples, course: Course[PixelSource]
    ) -> Classification:
        return Classification(cast(Network, network), course)

    def rehearsal(
        self, network: AnyNetwork, preprocessing: Preprocessing, config: TrainConfig, images: int
    ) -> Classification:
        return rehearsal(cast(Network, network), preprocessing, config, images)

    def examine(
        self,
        network: AnyNetwork,
        samples: Samples,
        pixels: Pixels,
        pre: Preprocessing,
        config: TrainConfig,
    ) -> Examination:
        return examine_classifier(cast(Network, network), samples, pixels, pre, config)

    def judge(self, samples: Samples, rows: np.ndarray) -> LabelJudge:
        return LabelJudge(labels=samples.labels[rows])

    def evidence(
        self,
        samples: Samples,
        rows: np.ndarray,
        answers: Answers,
        pre: Preprocessing,
        open_session: Open,
    ) -> Evidence:
        return classifier_evidence(samples, rows, answers, pre, open_session)
