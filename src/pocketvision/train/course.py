"""What a network is trained by, for any task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from pocketvision.data.preprocessing import Preprocessing
from pocketvision.models.networks import AnyNetwork
from pocketvision.train.batches import Source
from pocketvision.train.config import TrainConfig

S = TypeVar("S", bound=Source, covariant=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Course(Generic[S]):
    """Images to learn from and to be judged on, and how; S: what the task wants of the images.

    train: learned from. val: scores every epoch. teacher: in eval mode; its answers are half of
    what is learned, until the network scores as much on val as it does.
    """

    train: S
    val: S
    preprocessing: Preprocessing
    config: TrainConfig
    teacher: AnyNetwork | None = None
