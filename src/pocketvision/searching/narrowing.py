"""What NetAdapt did, as the record of the run behind it shows it."""

from __future__ import annotations

from pathlib import Path

from pocketvision.fitting.folder import PREPARED
from pocketvision.narrowing.state import STATE, steps_told
from pocketvision.record.searched import Narrowing
from pocketvision.record.words import Metric
from pocketvision.searching.shrink_config import ShrinkState
from pocketvision.storage import from_json


def narrowing_of(state: ShrinkState, target: str, metric: Metric) -> Narrowing:
    """How the network of a run was narrowed. target, metric: as of `Narrowing`."""
    return Narrowing(
        seed=state.steps[0].network.label,
        runtime=state.runtime,
        precision=state.precision,
        threads=state.config.threads,
        target_ms=state.config.latency_ms,
        steps=steps_told(state.steps),
        target=target,
        metric=metric,
    )


def narrowing_seconds(out: Path) -> float:
    """What the narrowing took that made the network of the run in `out`; 0 where there was none.

    Raises: ArtefactError: its file is damaged.
    """
    path = out / PREPARED / STATE
    if not path.exists():
        return 0.0
    return from_json(ShrinkState, path.read_bytes(), source=str(path)).spent_s
