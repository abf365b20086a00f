"""How the network of a run was narrowed, as what narrowed it left it for the record."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from pocketvision.fitting.folder import PREPARED
from pocketvision.record.searched import Narrowing, NarrowingProposal, NarrowingStep
from pocketvision.record.timing import Latency
from pocketvision.storage import from_json

NARROWING = "narrowing.json"


def narrowing_left(out: Path) -> Narrowing | None:
    """How the network of the run in `out` was narrowed; None: it was not.

    Raises: ArtefactError: its file is damaged.
    """
    path = out / PREPARED / NARROWING
    if not path.exists():
        return None
    return from_json(Narrowing, path.read_bytes(), source=str(path))


class Step(Protocol):
    """A step of NetAdapt, whatever it narrows. latency: None: not timed yet."""

    @property
    def chosen(self) -> str: ...

    @property
    def latency(self) -> Latency | None: ...

    @property
    def accuracy(self) -> float: ...

    @property
    def proposals(self) -> tuple[NarrowingProposal, ...]: ...


def steps_told(steps: Iterable[Step]) -> tuple[NarrowingStep, ...]:
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
