"""The main job on a scene: split -> train and compare -> export -> gate -> ship -> map."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pocketvision.fitting.artefact import RUN
from pocketvision.fitting.lock import working_in
from pocketvision.fitting.pipeline import parse_budget
from pocketvision.fitting.reporter import Reporter, Silent
from pocketvision.fitting.run import keeping_the_clock
from pocketvision.fitting.target_table import threads_asked
from pocketvision.mapping.artefact import SceneArtefact
from pocketvision.mapping.config import Guard, SceneConfig, SplitKind
from pocketvision.mapping.finish import finish
from pocketvision.mapping.methods import run_methods
from pocketvision.mapping.start import open_run


def fit_scene(
    data: str | Path,
    out: str | Path,
    *,
    labels: str | Path | None = None,
    latency: str | None = None,
    size: str | None = None,
    time: str | None = None,
    methods: tuple[str, ...] = (),
    window: int | None = None,
    split: SplitKind = "blocks",
    guard: Guard = "centre",
    train_share: float = 0.3,
    repeats: int = 1,
    training: Literal["dense", "patches"] = "dense",
    steps: int | None = None,
    weights: str | None = None,
    target: str | Path | None = None,
    seed: int = 0,
) -> SceneArtefact:
    """Fit a network to a hyperspectral scene; the Python face of `fit --task hyperspectral`.

    data: a folder with a cube and its labels, or a cube file. out: the folder to write.
    latency "5ms" for one pixel from its window, size "6MB", time "15m"; target: the table of the
    device that the latency is of. `SceneConfig` has every option.

    Raises: ConfigError, DataError: unusable input. BudgetError: nothing meets the budget.
    GateError: the training diverged, or no file of the trained network passes.
    """
    config = SceneConfig(
        data=str(data),
        labels=None if labels is None else str(labels),
        budget=parse_budget(latency, size, time),
        methods=methods,
        window=window,
        split=split,
        guard=guard,
        train_share=train_share,
        repeats=repeats,
        training=training,
        steps=steps,
        weights=weights,
        threads=threads_asked(None, None if target is None else str(target)),
        target=None if target is None else str(target),
        seed=seed,
    )
    command = f"pocketvision.fit_scene({str(data)!r}, {str(out)!r}, ...)  # options: run.json"
    return run_scene_fit(config, Path(out), command=command)


def run_scene_fit(
    config: SceneConfig,
    out: Path,
    reporter: Reporter | None = None,
    *,
    command: str = "",
    spent_s: float = 0.0,
) -> SceneArtefact:
    """Run the main job on a scene, or go on with it if `out` holds the same run unfinished.

    command: how it was asked for, for the record; empty: as this call. spent_s: of its time, before
    it begins.

    Raises: as `fit_scene`.
    """
    asked = command or f"run_scene_fit({config!r}, {str(out)!r})"
    reporter = reporter or Silent()
    with working_in(out, reporter.say):
        run = open_run(config, out, reporter, asked, spent_s)
        with keeping_the_clock(run.out / RUN, lambda: run.save(run.state)):
            run_methods(run)
            return finish(run)
