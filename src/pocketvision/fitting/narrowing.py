"""What NetAdapt left in a folder, as the record of its run shows it."""

from __future__ import annotations

from pathlib import Path

from pocketvision.fitting.folder import PREPARED
from pocketvision.fitting.shrink_config import ShrinkState
from pocketvision.record import Narrowing, NarrowingProposal, NarrowingStep
from pocketvision.storage import from_json

STATE = "shrink.json"


def narrowing_of(out: Path, target: str) -> Narrowing | None:
    """How the network of the run in `out` was narrowed; None: it was not.

    target: as of `Narrowing`.

    Raises: ArtefactError: its file is damaged.
    """
    state = _state(out)
    if state is None:
        return None
    return Narrowing(
        seed=state.steps[0].network.label,
        runtime=state.runtime,
        precision=state.precision,
        threads=state.config.threads,
        target_ms=state.config.latency_ms,
        steps=tuple(
            NarrowingStep(
                chosen=step.chosen,
                latency_ms=step.latency.median_ms,
                accuracy=step.accuracy,
                proposals=tuple(
                    NarrowingProposal(
                        group=one.group,
                        width=one.width,
                        latency_ms=one.latency_ms,
                        accuracy=one.accuracy,
                    )
                    for one in step.proposals
                ),
            )
            for step in state.steps
            if step.latency is not None
        ),
        target=target,
    )


def narrowing_seconds(out: Path) -> float:
    """What the narrowing took that made the network of the run in `out`; 0 where there was none.

    Raises: ArtefactError: its file is damaged.
    """
    state = _state(out)
    return 0.0 if state is None else state.spent_s


def _state(out: Path) -> ShrinkState | None:
    path = out / PREPARED / STATE
    if not path.exists():
        return None
    return from_json(ShrinkState, path.read_bytes(), source=str(path))
