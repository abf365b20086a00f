"""Segmentation: the class of every pixel, by LR-ASPP on a compact network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np

from pocketvision.data.images import Samples
from pocketvision.data.masks.samples import MaskedSamples, StretchedMasks, scan_masks
from pocketvision.data.preprocessing import Preprocessing
from pocketvision.data.stream import Pixels, opened
from pocketvision.data.threads import Progress
from pocketvision.errors import ConfigError
from pocketvision.fitting.candidates import plain
from pocketvision.fitting.config import FitConfig
from pocketvision.fitting.data_findings import find_faults
from pocketvision.fitting.examination import examine_places
from pocketvision.fitting.fine_tuning import dense_weights_specs, start_dense_from
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.segmented import judge_of, score_of, segmenter_evidence
from pocketvision.fitting.tasks.task import Evidence, Examination, Open
from pocketvision.measure.judge import Answers
from pocketvision.measure.segmentation import SegmentationJudge
from pocketvision.models.arch import ArchSpec
from pocketvision.models.networks import AnyNetwork, AnySpec, DenseSpec
from pocketvision.models.segmenter import Segmenter, SegmenterSpec, lr_aspp
from pocketvision.record import Finding, Metric, TaskName
from pocketvision.train.batches import Source
from pocketvision.train.config import TrainConfig
from pocketvision.train.segment import MaskSource, Segmentation, rehearsal

STRIDES = (16, 32)  # of the last map; the second where a backbone cannot be dilated


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A `Task`."""

    name: TaskName = "segment"
    metric: Metric = "mIoU"
    batch_size: int = 8
    resolutions: tuple[int, ...] = (96, 128, 160, 192, 224, 256, 320, 384, 448, 512)
    most_candidates: int = 12
    candidate_cost: float = 4.0  # it is written by the exporter

    def scan(self, config: FitConfig, progress: Progress) -> MaskedSamples:
        return scan_masks(
            config.data,
            void=config.void,
            seed=config.seed,
            skip_bad=config.skip_bad,
            only=config.only,
            progress=progress,
        )

    def find_faults(self, samples: Samples, reporter: Reporter) -> tuple[Finding, ...]:
        return find_faults(samples, reporter)

    def backbone(self, name: str, width: float, resolution: int) -> ArchSpec:
        return plain(name, width, resolution)

    def network(self, backbone: ArchSpec, classes: int) -> SegmenterSpec:
        try:
            return lr_aspp(backbone, classes, output_stride=STRIDES[0])
        except ConfigError:
            return lr_aspp(backbone, classes, output_stride=STRIDES[1])

    def weights_specs(
        self, config: FitConfig, classes: int, reporter: Reporter
    ) -> Sequence[DenseSpec]:
        return dense_weights_specs(config, classes, self.network, reporter)

    def preprocessing(self, resolution: int, shorter_side: int) -> Preprocessing:
        return Preprocessing.of_whole(resolution)

    def start(self, spec: AnySpec, config: FitConfig, reporter: Reporter) -> tuple[AnyNetwork, str]:
        return start_dense_from(cast(SegmenterSpec, spec), config, reporter)

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
                class_pixels=of_masks.pixels[rows].sum(axis=0),
            )
            for rows in (samples.indices("train"), samples.indices("val"))
        )
        return train, val

    def module(
        self,
        network: AnyNetwork,
        samples: Samples,
        sources: tuple[Source, Source],
        preprocessing: Preprocessing,
        config: TrainConfig,
        teacher: AnyNetwork | None,
    ) -> Segmentation:
        train, val = cast(tuple[MaskSource, MaskSource], sources)
        return Segmentation(
            cast(Segmenter, network),
            train=train,
            val=val,
            preprocessing=preprocessing,
            config=config,
        )

    def rehearsal(
        self, network: AnyNetwork, preprocessing: Preprocessing, config: TrainConfig, images: int
    ) -> Segmentation:
        return rehearsal(cast(Segmenter, network), preprocessing, config, images)

    def examine(
        self,
        network: AnyNetwork,
        samples: Samples,
        pixels: Pixels,
        pre: Preprocessing,
        config: TrainConfig,
    ) -> Examination:
        return examine_places(
            cast(Segmenter, network),
            samples,
            pixels,
            pre,
            config,
            partial(score_of, cast(MaskedSamples, samples)),
        )

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
