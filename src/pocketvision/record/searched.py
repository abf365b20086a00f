"""How a network was narrowed or searched for, and what the same time gave otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from pocketvision.record.scores import Score
from pocketvision.record.timing import Latency
from pocketvision.record.words import Metric, Precision, Sampling


@dataclass(frozen=True, kw_only=True, slots=True)
class NarrowingProposal:
    """One width made narrower. latency_ms: of the whole network then, by a table of its blocks.

    accuracy: expected, 0..1, of training images that were held out, after a short fine-tuning.
    """

    group: str
    width: int
    latency_ms: float
    accuracy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class NarrowingStep:
    """One step of NetAdapt. chosen: the group that was narrowed; empty for the seed itself.

    latency_ms: of an untrained file of the whole network, measured behind the step.
    """

    chosen: str
    latency_ms: float
    accuracy: float
    proposals: tuple[NarrowingProposal, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Narrowing:
    """How NetAdapt made a network as fast as asked; the first of the steps is the seed.

    target: the device whose table all latencies are by, as `OnTarget.table`; empty: this machine.
    metric: what is expected of the steps and proposals: accuracy, mIoU or mAP.
    """

    seed: str
    runtime: str
    precision: Precision
    threads: int
    target_ms: float
    steps: tuple[NarrowingStep, ...]
    target: str = ""
    metric: Metric = "top-1"


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchedNetwork:
    """A member of a search space, scored with the weights that all members share.

    described: its choices in words. latency_ms: by a table of its blocks. accuracy: expected, 0..1,
    of training images that were held out.
    """

    origin: Sampling
    described: str
    resolution: int
    latency_ms: float
    size_bytes: int  # of its weights, in the precision that was searched for
    accuracy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One way to a network, given the same time and data as the others, to the file it would ship.

    name: "search", "random", "multipliers", "published". accuracy: of the file on val, by which the
    best is chosen; None with latency and size: it came to nothing, and `note` says why. in_turns:
    what the files of all arms take when they are timed in turns; latency was measured at the end of
    each. None: there was one file alone, or they are for another device.
    """

    name: str
    network: str
    latency: Latency | None
    size_bytes: int | None
    accuracy: Score | None
    seconds: float
    shipped: bool
    note: str = ""
    in_turns: Latency | None = None

    @property
    def compared(self) -> Latency | None:
        """The latency to compare it by with other arms."""
        return self.in_turns or self.latency


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """How an architecture was searched for, and what the same time gave otherwise.

    members: of the space. limit_ms: hard, of the networks that were scored, or that were looked
    for by their work. scored: none, with no steps and nothing held out, by that method. sentence:
    whether the search was worth its time.
    """

    space: str
    members: int
    method: Sampling
    runtime: str
    precision: Precision
    threads: int
    limit_ms: float
    supernet_steps: int
    held_out: int
    scored: tuple[SearchedNetwork, ...]
    arms: tuple[Arm, ...]
    sentence: str
