"""One run of the main job on a scene: what it works on, its clock, and its saved state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pocketvision.data.scene.scene import Scene
from pocketvision.data.scene.splits import SceneSplit
from pocketvision.fitting.artefact import RUN
from pocketvision.fitting.reporter import Reporter
from pocketvision.fitting.run import Clock
from pocketvision.mapping.config import SceneConfig, SceneState
from pocketvision.mapping.scene_target import SceneTarget
from pocketvision.record.run import Step
from pocketvision.storage import to_json, write_into


@dataclass(kw_only=True)
class SceneRun:
    """What the steps of the main job share. `state` changes only through `save`.

    config: as asked, with its methods settled. splits: one for each of its seeds, in their order.
    """

    config: SceneConfig
    out: Path
    scene: Scene
    splits: tuple[SceneSplit, ...]
    reporter: Reporter
    clock: Clock
    state: SceneState
    target: SceneTarget | None = None  # of the device that the latency of the budget is of

    def save(self, state: SceneState) -> None:
        """Make `state` the current one and write run.json."""
        self.state = replace(state, spent_s=round(self.clock.spent_s, 3))
        write_into(self.out / RUN, to_json(self.state))

    def add_step(self, step: Step) -> None:
        """Append a finished step to the state and save it."""
        self.save(with_step(self.state, step))


def with_step(state: SceneState, step: Step) -> SceneState:
    """`state` with a step at the end, in place of one that an interruption lets happen again."""
    others = tuple(other for other in state.steps if other.name != step.name)
    return replace(state, steps=(*others, step))
