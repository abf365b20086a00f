"""What `shrink` is asked for, and what it saves to go on after an interruption."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from pocketvision.budget import Budget
from pocketvision.compress.netadapt import MULTIPLE, STEP
from pocketvision.data.transforms import Augmentation
from pocketvision.errors import ConfigError, choice, in_range, is_text
from pocketvision.models.networks import AnySpec
from pocketvision.narrowing.state import NarrowingState
from pocketvision.record.words import Precision
from pocketvision.runtimes.registry import RUNTIMES
from pocketvision.runtimes.runtime import MAX_THREADS
from pocketvision.train.config import Accelerator
from pocketvision.workers.pool import Workers


@dataclass(frozen=True, kw_only=True, slots=True)
class ShrinkConfig:
    """One run of NetAdapt and what comes after it.

    source: a folder that `fit` wrote. teacher: folder of the network whose answers are half of what
    is learned; None: the source. images: what `fit` takes, those it was trained on, or others of
    the same classes. budget: with a latency; its time is for all of it. runtime, precision: what
    the latency is of; None: the fastest of this machine. target: latency table of a device, whose
    runtime, precision and threads these are then. step: share of the seed's latency that a proposal
    cuts at least; a short time makes it larger. adapting_share: of the time that is for training,
    at most, before the long fine-tuning. brief_steps: of the fine-tuning of each proposal. epochs,
    long_rate: of the long one, its number and learning rate; None: what the time allows, and as
    `fit`. accelerator, devices, nodes: of the long one, as of `FitConfig`; proposals are on the CPU
    of node 0. workers: that score proposals; see `open_pool`.

    Raises: ConfigError: a field outside its range, a budget without a latency.
    """

    source: str
    teacher: str | None = None
    images: str
    budget: Budget
    runtime: str | None = None
    precision: Precision | None = None
    threads: int = 1
    target: str | None = None
    step: float = STEP
    multiple: int = MULTIPLE
    adapting_share: float = 0.6
    brief_steps: int = 20
    batch_size: int | None = None
    learning_rate: float = 1e-3
    augmentation: Augmentation
    epochs: int | None = None
    long_rate: float | None = None
    accelerator: Accelerator = "auto"
    devices: int = 1
    nodes: int = 1
    max_drop_points: float = 1.0
    workers: Workers = None
    skip_bad: bool = False
    void: tuple[int, ...] = ()  # of segmentation, as of `FitConfig`
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("source", "teacher", "images", "target"):
            is_text(name, getattr(self, name))
        if self.budget.latency_ms is None:
            raise ConfigError("Narrowing needs a budget of latency; give --latency, such as 2ms.")
        in_range("latency", self.latency_ms, 1e-6, 1e6)
        if self.runtime is not None:
            choice("runtime", self.runtime, RUNTIMES)
        if self.precision is not None:
            choice("precision", self.precision, get_args(Precision))
        in_range("threads", self.threads, 1, MAX_THREADS)
        in_range("step", self.step, 0.001, 0.5)
        in_range("adapting-share", self.adapting_share, 0.01, 0.99)
        in_range("multiple", self.multiple, 1, 256)
        in_range("brief-steps", self.brief_steps, 1, 100_000)
        if self.batch_size is not None:
            in_range("batch-size", self.batch_size, 2, 65_536)
        in_range("learning-rate", self.learning_rate, 1e-8, 100.0)
        if self.epochs is not None:
            in_range("epochs", self.epochs, 1, 100_000)
        in_range("max-drop", self.max_drop_points, 0.0, 100.0)
        if self.long_rate is not None:
            in_range("long-rate", self.long_rate, 1e-8, 100.0)
        choice("accelerator", self.accelerator, get_args(Accelerator))
        in_range("devices", self.devices, 1, 1024)
        in_range("nodes", self.nodes, 1, 4096)
        if isinstance(self.workers, int):
            in_range("workers", self.workers, 1, 1024)
        in_range("seed", self.seed, 0, 2**31 - 1)

    @property
    def latency_ms(self) -> float:
        """The latency asked for."""
        assert self.budget.latency_ms is not None
        return self.budget.latency_ms


@dataclass(frozen=True, kw_only=True, slots=True)
class ShrinkState(NarrowingState[AnySpec]):
    """shrink.json: how far NetAdapt has come. runtime: what the latency is of."""

    config: ShrinkConfig
    runtime: str
