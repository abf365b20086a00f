"""What a narrowing saves, to go on after an interruption."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from pocketvision.models.widths import Spec
from pocketvision.record.searched import NarrowingProposal, NarrowingStep
from pocketvision.record.timing import Latency
from pocketvision.record.words import Precision

STATE = "shrink.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class NarrowedStep(Generic[Spec]):
    """One step of NetAdapt. chosen: the group that was narrowed; empty for the seed itself.

    latency: of an untrained file, timed behind the step, or by a target's table; None: not yet.
    """

    network: Spec
    latency: Latency | None
    accuracy: float
    chosen: str = ""
    proposals: tuple[NarrowingProposal, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class NarrowingState(Generic[Spec]):
    """How far NetAdapt has come. pending: proposals of the step that is under way.

    precision: that the latency is of. step, brief_steps: the pace, which is kept. threads: of
    training, on which the bits of the weights depend. The first of the steps is the seed.
    """

    fingerprint: str
    precision: Precision
    step: float
    brief_steps: int
    threads: int
    steps: tuple[NarrowedStep[Spec], ...]
    pending: tuple[NarrowingProposal, ...] = ()
    spent_s: float = 0.0
    narrowed_s: float = 0.0  # all that was spent until it was done
    score_s: float = 0.0  # of one proposal, as it was timed when the run began
    done: bool = False
    target_sha256: str = ""  # of the content of the target's table


def network_folder(state: NarrowingState[Any], folder: Path, source: str) -> Path:
    """Where the network behind the last step lies. Two places take turns: one is always whole.

    folder: of the narrowing. source: of the seed.
    """
    number = len(state.steps) - 1
    return folder / f"{number % 2}" if number > 0 else Path(source)


def steps_told(steps: Iterable[NarrowedStep[Any]]) -> tuple[NarrowingStep, ...]:
    """The steps that were timed, for a record."""
    return tuple(
        NarrowingStep(
            chosen=step.chosen,
            latency_ms=step.latency.median_ms,
            accuracy=step.accuracy,
            proposals=step.proposals,
        )
        for step in steps
        if step.latency is not None
    )
