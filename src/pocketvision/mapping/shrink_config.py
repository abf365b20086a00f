"""What narrowing a network for a scene is asked for, and what it saves to go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pocketvision.budget import Budget
from pocketvision.compress.netadapt import MULTIPLE, STEP
from pocketvision.errors import ConfigError, in_range, is_text
from pocketvision.models.patch import PatchSpec
from pocketvision.narrowing.state import NarrowingState
from pocketvision.workers.pool import Workers


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneShrinkConfig:
    """One run of NetAdapt on a network for a scene, and what comes after it.

    source: a folder that `fit --task hyperspectral` wrote. data, labels: the scene it was fitted
    to; labels: None: where they lay for the fit. budget: with a latency, of one pixel; its time is
    for all of it. step: share of the first latency that a proposal cuts at least; a short time
    makes it larger. brief_steps: of the training of each proposal; steps: of the long one, None:
    what the time allows. adapting_share: of the time that is for training, at most, before it.
    target: the latency table of another device, which the latency is of then. workers: that score
    proposals; see `open_pool`. The bands of the whole scene are sent to each.

    Raises: ConfigError: a field outside its range, a budget without a latency.
    """

    source: str
    data: str
    labels: str | None = None
    budget: Budget
    step: float = STEP
    multiple: int = MULTIPLE
    brief_steps: int = 20
    steps: int | None = None
    adapting_share: float = 0.6
    max_drop_points: float = 1.0
    target: str | None = None
    workers: Workers = None

    def __post_init__(self) -> None:
        for name in ("source", "data", "labels", "target"):
            is_text(name, getattr(self, name))
        if self.budget.latency_ms is None:
            raise ConfigError("Narrowing needs a budget of latency; give --latency, such as 2ms.")
        in_range("latency", self.latency_ms, 1e-6, 1e6)
        in_range("step", self.step, 0.001, 0.5)
        in_range("multiple", self.multiple, 1, 256)
        in_range("brief-steps", self.brief_steps, 1, 100_000)
        if self.steps is not None:
            in_range("steps", self.steps, 1, 10_000_000)
        in_range("adapting-share", self.adapting_share, 0.01, 0.99)
        in_range("max-drop", self.max_drop_points, 0.0, 100.0)
        if isinstance(self.workers, int):
            in_range("workers", self.workers, 1, 1024)

    @property
    def latency_ms(self) -> float:
        """The latency asked for."""
        assert self.budget.latency_ms is not None
        return self.budget.latency_ms


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneShrinkState(NarrowingState[PatchSpec]):
    """shrink.json: how far it has come. arithmetic: of training, on which, as on `threads`, the
    bits of the weights depend. Latencies are of one pixel.
    """

    config: SceneShrinkConfig
    arithmetic: Literal["f32", "bf16"]
