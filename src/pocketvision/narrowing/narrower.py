"""A narrowing under way, whatever network it narrows: what its steps share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pocketvision.compress.netadapt import Asked, Latencies, Proposal
from pocketvision.fitting.ranking import HEADROOM
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.run import Clock
from pocketvision.models.networks import AnyNetwork
from pocketvision.models.patch import PatchNetwork
from pocketvision.models.widths import Spec
from pocketvision.narrowing.state import STATE, NarrowingState, network_folder
from pocketvision.record.timing import Latency
from pocketvision.storage import to_json, write_into
from pocketvision.workers.scoring import Scorer, Work

SPREAD = 1.01  # the interval of a quiet measurement reaches so far above its median
KEYS_A_STEP = 1000  # no network has so many widths

Net = TypeVar("Net", AnyNetwork, PatchNetwork)
Made = TypeVar("Made", AnyNetwork, PatchNetwork, covariant=True)
Kept = TypeVar("Kept", bound=NarrowingState[Any])


class Request(Protocol):
    """What a narrowing is asked for. adapting_share: of the time that is for training, at most,
    before the long one.
    """

    @property
    def source(self) -> str: ...

    @property
    def latency_ms(self) -> float: ...

    @property
    def multiple(self) -> int: ...

    @property
    def adapting_share(self) -> float: ...


class Table(Latencies[Asked], Protocol[Asked]):
    """Latencies of narrower forms, which whole networks set right."""

    def meet(self, spec: Asked, latency: Latency) -> None:
        """From now on, `spec` takes by the table what it took when it was timed."""
        ...


class Tuner(Scorer, Protocol[Made]):
    """What has the networks at hand that proposals are made from."""

    def tuned(self, task: Any) -> Made:
        """The network of a proposal behind its short training; the same whenever it is made."""


class Scoring(Work, Protocol[Spec, Made]):
    """Scoring proposals for the network behind the last step."""

    def task(self, proposal: Proposal[Spec], place: int) -> Any:
        """The proposal at that place of its step."""

    def open(self) -> Tuner[Made]: ...


@dataclass(kw_only=True)
class Narrower(ABC, Generic[Spec, Net, Kept]):
    """What the steps share. `state` changes only through `save`.

    network: behind the last step. finish_s: of what comes behind the long training.
    """

    config: Request
    folder: Path
    reporter: Reporter
    clock: Clock
    state: Kept
    seed: Net
    network: Net
    table: Table[Spec]
    finish_s: float

    @abstractmethod
    def timed_whole(self, spec: Spec) -> Latency:
        """An untrained file of a whole network, timed now, or what a target's table says."""

    @abstractmethod
    def scoring(self) -> Scoring[Spec, Net]:
        """What scores the proposals of the step that comes now."""

    @abstractmethod
    def keep(self, network: Net, folder: Path) -> None:
        """Write a network to a folder."""

    @property
    @abstractmethod
    def expected(self) -> str:
        """What scores are: 'expected top-1 of the images held out'."""

    @property
    @abstractmethod
    def sum_spread(self) -> float | None:
        """Share of a sum that sums over a target's table are off; None: files are timed here."""

    def save(self, state: Kept) -> None:
        """Make `state` the current one and write it."""
        self.state = replace(state, spent_s=round(self.clock.spent_s, 3))
        write_into(self.folder / STATE, to_json(self.state))

    @property
    def network_folder(self) -> Path:
        """Where the network behind the last step lies."""
        return network_folder(self.state, self.folder, self.config.source)

    @property
    def first_key(self) -> int:
        """Of the proposals of this step; keys say what each is trained on."""
        return KEYS_A_STEP * len(self.state.steps)

    @property
    def seed_latency(self) -> Latency:
        """What the seed takes, untrained, or by the table of a target."""
        latency: Latency | None = self.state.steps[0].latency
        assert latency is not None
        return latency

    @property
    def target_ms(self) -> float:
        """What a whole network may take, so that what ships is within the latency asked for."""
        if self.sum_spread is not None:  # the same for what ships, but sums are off
            return self.config.latency_ms / (1 + self.sum_spread)
        return self.config.latency_ms / HEADROOM / SPREAD

    @property
    def share_s(self) -> float | None:
        """Of the time, what is left to narrowing; None without a limit."""
        return self.clock.share_left_s(self.config.adapting_share, self.finish_s)

    @property
    def is_late(self) -> bool:
        """True if the share of the time that was for narrowing is over: steps are large then."""
        return self.clock.has_spent(self.config.adapting_share, self.finish_s)
