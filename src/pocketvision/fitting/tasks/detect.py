"""Detection: where objects are, and of which class, by SSDLite on a compact network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from pocketvision.boxes import Detections
from pocketvision.data.images import Samples
from pocketvision.data.objects.read import list_objects
from pocketvision.data.objects.samples import BoxedSamples, scan_objects
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import Pixels
from pocketvision.data.threads import Progress
from pocketvision.errors import require
from pocketvision.fitting.config import FitConfig, HeadName
from pocketvision.fitting.detected import detector_evidence, judge_of, score_of
from pocketvision.fitting.tasks.places import Places
from pocketvision.fitting.tasks.task import Evidence, Open
from pocketvision.measure.detection import detection_scores
from pocketvision.measure.detection_judge import DetectionJudge
from pocketvision.measure.detection_matches import EXTRA
from pocketvision.measure.judge import Answers
from pocketvision.models import registry
from pocketvision.models.arch import ArchSpec
from pocketvision.models.detector import Detector, DetectorSpec, ssdlite
from pocketvision.models.networks import AnyNetwork
from pocketvision.record.scores import Score
from pocketvision.record.words import Metric, TaskName
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.detect import Detection, ObjectSource, rehearsal


@dataclass(frozen=True, kw_only=True, slots=True)
class Detect(Places):
    """A `Task`."""

    name: TaskName = "detect"
    metric: Metric = "mAP"
    batch_size: int = 16
    resolutions: tuple[int, ...] = (160, 192, 224, 256, 320, 384, 448, 512)
    candidate_cost: float = 1.5

    def scan(self, config: FitConfig, progress: Progress) -> BoxedSamples:
        require("faster_coco_eval", EXTRA)  # now, not behind the first epoch
        return scan_objects(
            config.data,
            seed=config.seed,
            skip_bad=config.skip_bad,
            only=config.only,
            progress=progress,
        )

    def image_paths(self, folder: Path) -> tuple[str, ...]:
        return list_objects(folder).paths

    def backbone(self, name: str, width: float, resolution: int) -> ArchSpec:
        return registry.spec(name, width=width, resolution=resolution, reduced_tail=True)

    def network(self, backbone: ArchSpec, classes: int, head: HeadName | None) -> DetectorSpec:
        return ssdlite(backbone, classes + 1)

    def sources(
        self, samples: Samples, pixels: Pixels, preprocessing: Preprocessing
    ) -> tuple[ObjectSource, ObjectSource]:
        objects = cast(BoxedSamples, samples).objects
        train, val = (
            ObjectSource(pixels=pixels, objects=objects, indices=samples.indices(split))
            for split in ("train", "val")
        )
        return train, val

    def module(
        self, network: AnyNetwork, samples: Samples, course: Course[ObjectSource]
    ) -> Detection:
        judged = Mean(judge=self.judge(samples, course.val.indices))
        return Detection(cast(Detector, network), course, judged=judged)

    def rehearsal(
        self, network: AnyNetwork, preprocessing: Preprocessing, config: TrainConfig, images: int
    ) -> Detection:
        return rehearsal(cast(Detector, network), preprocessing, config, images)

    def score(self, samples: Samples, rows: np.ndarray, answers: Answers) -> Score:
        return score_of(cast(BoxedSamples, samples), rows, answers)

    def judge(self, samples: Samples, rows: np.ndarray) -> DetectionJudge:
        return judge_of(cast(BoxedSamples, samples), rows)

    def evidence(
        self,
        samples: Samples,
        rows: np.ndarray,
        answers: Answers,
        pre: Preprocessing,
        open_session: Open,
    ) -> Evidence:
        return detector_evidence(cast(BoxedSamples, samples), rows, answers)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mean:
    """mAP of what was found in the images of a judge; 0 where there is nothing to be found."""

    judge: DetectionJudge

    def __call__(self, found: Sequence[Detections]) -> float:
        judge = self.judge
        return detection_scores(found, judge.objects, judge.sizes, judge.classes).ap or 0.0
