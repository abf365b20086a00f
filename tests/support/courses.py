"""Trainings that are judged on the images they learn from."""

from __future__ import annotations

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.models.arch import Network
from pocketvision.train.batches import PixelSource
from pocketvision.train.classify import Classification
from pocketvision.train.config import TrainConfig
from pocketvision.train.course import Course


def classification(
    network: Network,
    source: PixelSource,
    preprocessing: Preprocessing,
    config: TrainConfig,
    teacher: Network | None = None,
) -> Classification:
    """The training of a classifier on `source`, which is its val too."""
    course = Course(
        train=source, val=source, preprocessing=preprocessing, config=config, teacher=teacher
    )
    return Classification(network, course)
