"""What the tasks that tell places do alike: a head on a body, of whole images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from pocketvision.data.columns import Texts
from pocketvision.data.folders import Listing
from pocketvision.data.images import Samples
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import Pixels
from pocketvision.fitting.config import FitConfig, HeadName
from pocketvision.fitting.examination import examine_places
from pocketvision.fitting.fine_tuning import dense_weights_specs, start_dense_from
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.tasks.task import Examination
from pocketvision.measure.judge import Answers
from pocketvision.models.arch import ArchSpec
from pocketvision.models.detector import Detector
from pocketvision.models.networks import AnyNetwork, AnySpec, DenseSpec
from pocketvision.models.segmenter import Segmenter
from pocketvision.record.scores import Score
from pocketvision.train.config import TrainConfig


class Places(ABC):
    """Part of a `Task`; its methods are as there."""

    __slots__ = ()

    @abstractmethod
    def network(self, backbone: ArchSpec, classes: int, head: HeadName | None) -> DenseSpec: ...

    @abstractmethod
    def score(self, samples: Samples, rows: np.ndarray, answers: Answers) -> Score:
        """Of the answers for those rows."""

    @abstractmethod
    def image_paths(self, folder: Path) -> Sequence[str]:
        """Of all images that have masks or boxes, relative. Raises: DataError."""

    def listing(self, folder: Path) -> Listing:
        paths = Texts.of(self.image_paths(folder))
        nothing = np.zeros(len(paths), np.int32)
        splits = np.zeros(len(paths), np.int8)
        return Listing(root=folder, classes=(), paths=paths, labels=nothing, splits=splits)

    def weights_specs(
        self, config: FitConfig, classes: int, reporter: Reporter
    ) -> Sequence[DenseSpec]:
        return dense_weights_specs(config, classes, self.network, reporter)

    def preprocessing(self, resolution: int, shorter_side: int) -> Preprocessing:
        return Preprocessing.of_whole(resolution)

    def start(self, spec: AnySpec, config: FitConfig, reporter: Reporter) -> tuple[AnyNetwork, str]:
        return start_dense_from(cast(DenseSpec, spec), config, reporter)

    def examine(
        self,
        network: AnyNetwork,
        samples: Samples,
        pixels: Pixels,
        pre: Preprocessing,
        config: TrainConfig,
    ) -> Examination:
        places = cast(Segmenter | Detector, network)
        return examine_places(places, samples, pixels, pre, config, partial(self.score, samples))
