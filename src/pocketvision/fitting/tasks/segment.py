"""Segmentation: the class of every pixel, by LR-ASPP or R-ASPP on a compact network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from pocketvision.data.images import Samples
from pocketvision.data.masks.layout import list_pairs
from pocketvision.data.masks.samples import MaskedSamples, StretchedMasks, scan_masks
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import Pixels, opened
from pocketvision.data.threads import Progress
from pocketvision.errors import ConfigError
from pocketvision.fitting.candidates import plain
from pocketvision.fitting.config import FitConfig, HeadName
from pocketvision.fitting.segmented import judge_of, score_of, segmenter_evidence
from pocketvision.fitting.tasks.places import Places
from pocketvision.fitting.tasks.task import Evidence, Open
from pocketvision.measure.judge import Answers
from pocketvision.measure.segmentation import SegmentationJudge
from pocketvision.models.arch import ArchSpec
from pocketvision.models.networks import AnyNetwork
from pocketvision.models.segmenter import Segmenter, SegmenterSpec, lr_aspp, r_aspp
from pocketvision.record.scores import Score
from pocketvision.record.words import Metric, TaskName
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course
from pocketvision.train.segment import MaskSource, Segmentation, rehearsal

STRIDES = (16, 32)  # of the last map; the second where a backbone cannot be dilated


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment(Places):
    """A `Task`."""

    name: TaskName = "segment"
    metric: Metric = "mIoU"
    batch_size: int = 8
    resolutions: tuple[int, ...] = (96, 128, 160, 192, 224, 256, 320, 384, 448, 512)
    candidate_cost: float = 1.2

    def scan(self, config: FitConfig, progress: Progress) -> MaskedSamples:
        return scan_masks(
            config.data,
            void=config.void,
            seed=config.seed,
            skip_bad=config.skip_bad,
            only=config.only,
            progress=progress,
        )

    def image_paths(self, folder: Path) -> list[str]:
        return [pair.image for pair in list_pairs(folder)]

    def backbone(self, name: str, width: float, resolution: int) -> ArchSpec:
        return plain(name, width, resolution)

    def network(self, backbone: ArchSpec, classes: int, head: HeadName | None) -> SegmenterSpec:
        under = r_aspp if head == "r_aspp" else lr_aspp
        try:
            return under(backbone, classes, output_stride=STRIDES[0])
        except ConfigError:
            return under(backbone, classes, output_stride=STRIDES[1])

    def sources(
        self, samples: Samples, pixels: Pixels, preprocessing: Preprocessing
    ) -> tuple[MaskSource, MaskSource]:
        of_masks = cast(MaskedSamples, samples).masks
        masks = opened(StretchedMasks(masks=of_masks, side=preprocessing.side))
        train, val = (
            MaskSource(
                pixels=pixels,
                masks=masks,
                indices=rows,
                class_pixels=of_masks.pixels[rows],
            )
            for rows in (samples.indices("train"), samples.indices("val"))
        )
        return train, val

    def module(
        self, network: AnyNetwork, samples: Samples, course: Course[MaskSource]
    ) -> Segmentation:
        return Segmentation(cast(Segmenter, network), course)

    def rehearsal(
        self, network: AnyNetwork, preprocessing: Preprocessing, config: TrainConfig, images: int
    ) -> Segmentation:
        return rehearsal(cast(Segmenter, network), preprocessing, config, images)

    def score(self, samples: Samples, rows: np.ndarray, answers: Answers) -> Score:
        return score_of(cast(MaskedSamples, samples), rows, answers)

    def judge(self, samples: Samples, rows: np.ndarray) -> SegmentationJudge:
        return judge_of(cast(MaskedSamples, samples), rows)

    def evidence(
        self,
        samples: Samples,
        rows: np.ndarray,
        answers: Answers,
        pre: Preprocessing,
        open_session: Open,
    ) -> Evidence:
        return segmenter_evidence(cast(MaskedSamples, samples), rows, answers)
