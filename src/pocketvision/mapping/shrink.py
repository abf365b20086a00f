"""NetAdapt on a network for a scene, in out/shrinking; then `fit`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pocketvision.compress.netadapt import STEP
from pocketvision.fitting.lock import working_in
from pocketvision.fitting.narrowing import NARROWING
from pocketvision.fitting.pipeline import parse_budget
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.fitting.run import keeping_the_clock
from pocketvision.mapping.artefact import SceneArtefact
from pocketvision.mapping.narrowing import SceneNarrowing
from pocketvision.mapping.pipeline import run_scene_fit
from pocketvision.mapping.shrink_config import SceneShrinkConfig
from pocketvision.mapping.shrink_start import open_scene_shrink
from pocketvision.narrowing.loop import narrow
from pocketvision.narrowing.state import STATE, steps_told
from pocketvision.record.searched import Narrowing
from pocketvision.storage import to_json, write_into
from pocketvision.workers.pool import hanging_s, open_pool


def shrink_scene(
    source: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    latency: str,
    size: str | None = None,
    time: str | None = None,
    labels: str | Path | None = None,
    target: str | Path | None = None,
    step: float = STEP,
    steps: int | None = None,
    max_drop: float = 1.0,
) -> SceneArtefact:
    """Make a network for a scene as fast as asked; the Python face of `pocketvision shrink`.

    source: a folder that `fit_scene` wrote. data: the scene it was fitted to. latency "1ms" for one
    pixel from its window, size "1MB", time "30m"; target: the table of the device that it is for.
    `SceneShrinkConfig` has every option.

    Raises: as `run_scene_shrink`.
    """
    config = SceneShrinkConfig(
        source=str(source),
        data=str(data),
        labels=None if labels is None else str(labels),
        target=None if target is None else str(target),
        budget=parse_budget(latency, size, time),
        step=step,
        steps=steps,
        max_drop_points=max_drop,
    )
    command = f"pocketvision.shrink_scene({str(source)!r}, {str(data)!r}, {str(out)!r}, ...)"
    return run_scene_shrink(config, Path(out), command=command)


def run_scene_shrink(
    config: SceneShrinkConfig, out: Path, reporter: Reporter | None = None, *, command: str = ""
) -> SceneArtefact:
    """Narrow a network for a scene to a latency, train it, and ship it as `fit` does.

    An interrupted run goes on when it is called again.

    Raises: ConfigError, DataError, ArtefactError: unusable input, or `out` holds something else.
    BudgetError: the latency cannot be reached by narrowing. GateError: as `fit_scene`.
    """
    reporter = reporter or Silent()
    with working_in(out, reporter.say):
        work = open_scene_shrink(config, out, reporter)
        with (
            open_pool(config.workers, hang_s=hanging_s(work.state.score_s)) as pool,
            keeping_the_clock(work.folder / STATE, lambda: work.save(work.state)),
        ):
            narrow(work, pool)
            write_into(work.folder / NARROWING, to_json(_narrowing(work)))
    return run_scene_fit(
        replace(work.fitting, narrowed=str(work.network_folder)),
        out,
        reporter,
        command=command,
        spent_s=work.state.narrowed_s,
    )


def _narrowing(work: SceneNarrowing) -> Narrowing:
    """What was done, for the record of the run that comes now."""
    state = work.state
    return Narrowing(
        seed=work.seed.spec.label,
        runtime="onnxruntime",
        precision=state.precision,
        threads=work.fitting.threads,
        target_ms=work.config.latency_ms,
        steps=steps_told(state.steps),
    )
